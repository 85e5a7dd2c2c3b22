#include "arch/blocks/photo_io.h"

#include <algorithm>

#include "ops/decode_keypoints.h"
#include "ops/normalize_image.h"
#include "ops/rescale_boxes.h"
#include "ops/rescale_keypoints.h"
#include "ops/select_class.h"

namespace osprey {
namespace {

// What NVIDIA's TensorRT sample for Detectron2 puts around the photo: ImageNet's mean colour, RGB.
std::vector<float> canvas_fill(bool bgr) {
  std::vector<float> fill{124, 116, 104};
  if (bgr) std::reverse(fill.begin(), fill.end());
  return fill;
}

void output(Net& net, const std::string& name, ValueId value) {
  net.graph().add_output(net.stage(name, value));
}

}  // namespace

void check_canvas(int height, int width, int multiple) {
  constexpr int kMostExtent = 1 << 16;
  require(height <= kMostExtent && width <= kMostExtent, "a fixed input of {}x{} is too large", height,
          width);
  require(height % multiple == 0 && width % multiple == 0 && (height > 0) == (width > 0) && height >= 0 &&
              width >= 0,
          "a fixed input of {}x{}: both must be multiples of {}, such as {}x{}", height, width, multiple,
          (std::max(height, 1) + multiple - 1) / multiple * multiple,
          (std::max(width, 1) + multiple - 1) / multiple * multiple);
}

NetworkInput photo_input(Net& net, const PhotoInput& m) {
  const Dim n = Dim::symbol("N");
  const ValueId photos =
      net.graph().add_input("photos", {DType::kU8, {n, Dim::symbol("H"), Dim::symbol("W"), 3}});
  const ValueId sizes = net.graph().add_input("sizes", {DType::kI32, {n, 2}});
  const ResizeImage resize{.shortest = m.shortest,
                           .longest = m.longest,
                           .canvas_height = m.canvas_height,
                           .canvas_width = m.canvas_width,
                           .bgr = m.bgr,
                           .fit = m.canvas_height > 0 ? Fit::kShortestEdge : m.fit};
  const auto resized = net.add_all(resize, {photos, sizes}, "input.resize");
  NormalizeImage normalize{.mean = m.mean,
                           .std = m.std,
                           .multiple = m.multiple,
                           .canvas_height = m.canvas_height,
                           .canvas_width = m.canvas_width,
                           .scale = m.scale};
  if (m.canvas_height > 0) normalize.fill = m.fill.empty() ? canvas_fill(m.bgr) : m.fill;
  net.stage("resized_u8", resized.at(0));
  net.stage("geometry", resized.at(1));
  const ValueId image = net.add(std::move(normalize), resized, "input.normalize");
  return {net.stage("input", image), resized.at(1)};
}

ValueId given_proposals(Net& net, const GivenProposals& m, ValueId geometry, bool clip) {
  // The bound is a multiple, so that photos with about as many proposals share a plan.
  const Dim rows = Dim::at_most(Dim::symbol("P") * 1024);
  const ValueId given = net.graph().add_input("proposals", {DType::kF32, {rows, 5}});
  RescaleBoxes rescale{.clip = clip, .to_network = true, .min_size = m.min_size, .top = m.top};
  return net.stage("proposal_boxes", net.add(rescale, {given, geometry}, "input.proposals"));
}

void photo_outputs(Net& net, const Detected& detected, const Instances& instances, ValueId geometry,
                   bool clip) {
  for (const ValueId v : {detected.boxes, detected.scores, detected.classes})
    if (v != kNoValue) net.graph().add_output(v);
  const auto photo = net.add_all(RescaleBoxes{.clip = clip}, {detected.boxes, geometry}, "output.boxes");
  output(net, "det_boxes", photo.at(0));
  output(net, "det_rows", photo.at(1));
  if (instances.mask_logits != kNoValue) {
    const ValueId probs = net.add(SelectClass{.first = instances.first_map},
                                  {instances.mask_logits, detected.classes}, "output.mask_probs");
    net.stage("mask_probs", probs);
    const auto masks = net.add_all(PasteMasks{.rule = instances.paste}, {probs, photo[0], photo[1], geometry},
                                   "output.masks");
    output(net, "mask_runs", masks.at(0));
    output(net, "mask_ends", masks.at(1));
  }
  if (instances.heatmaps != kNoValue) {
    const ValueId decoded =
        net.add(DecodeKeypoints{}, {instances.heatmaps, detected.boxes}, "output.decode_keypoints");
    const ValueId points = net.add(RescaleKeypoints{.logits = instances.keypoint_logits},
                                   {decoded, photo[0], photo[1], geometry}, "output.keypoints");
    output(net, "keypoints", points);
  }
}

}  // namespace osprey

// PaddleDetection's RT-DETR (Lv et al., 2024) and Mask RT-DETR (github.com/PaddlePaddle/PaddleDetection,
// configs/rtdetr and configs/mask_rtdetr), from .pdparams or exported models and its YAML configs. Weight
// names are its checkpoints'.

#include "arch/blocks/photo_io.h"
#include "arch/family.h"
#include "arch/family/metadata.h"
#include "arch/paddle/checkpoint.h"
#include "arch/paddle/inference.h"
#include "arch/paddle/options.h"
#include "arch/paddle/zoo.h"
#include "ops/detect_queries.h"
#include "ops/gather_rows.h"
#include "ops/mask_logits.h"
#include "ops/normalize_image.h"
#include "ops/resize_image.h"
#include "ops/resize_masks.h"

namespace osprey {
namespace paddle {
namespace {

NetworkInput photo_pixels(Net& net, const Reader& m) {
  const Dim n = Dim::symbol("N");
  const ValueId photos =
      net.graph().add_input("photos", {DType::kU8, {n, Dim::symbol("H"), Dim::symbol("W"), 3}});
  const ValueId sizes = net.graph().add_input("sizes", {DType::kI32, {n, 2}});
  const ResizeImage resize{
      .rule = ResizeRule::kCvCubic, .canvas_height = m.height, .canvas_width = m.width, .fit = Fit::kStretch};
  const auto resized = net.add_all(resize, {photos, sizes}, "input.resize");
  const NormalizeImage normalize{.mean = m.mean,
                                 .std = m.std,
                                 .canvas_height = m.height,
                                 .canvas_width = m.width,
                                 .scale = m.scale,
                                 .stretched = true};
  const ValueId image = net.add(normalize, resized, "input.normalize");
  return {net.stage("input.image", image), net.stage("geometry", resized.at(1))};
}

Features backbone(Net& net, const Backbone& m, ValueId image) {
  return m.hgnet ? hgnetv2(net, *m.hgnet, image, m.stages) : resnet_vd(net, m.resnet, image, m.stages);
}

// Masks of the detections alone: their queries' embeddings are gathered before anything is made of them.
void mask_outputs(Net& net, const PostProcess& m, const Decoded& decoded, ValueId prototypes, ValueId boxes,
                  ValueId queries, ValueId geometry) {
  const ValueId kept = net.add(GatherRows{}, {decoded.mask_embeddings, queries}, "output.mask_embeddings");
  const ValueId logits =
      net.stage("mask_logits", net.add(MaskLogits{}, {kept, prototypes, boxes}, "output.mask_logits"));
  const auto masks = net.add_all(
      ResizeMasks{.threshold = m.mask_threshold},
      {logits, net.graph().find("det_boxes"), net.graph().find("det_rows"), geometry}, "output.masks");
  net.graph().add_output(net.stage("mask_runs", masks.at(0)));
  net.graph().add_output(net.stage("mask_ends", masks.at(1)));
}

void outputs(Net& net, const PostProcess& m, int queries, const Decoded& decoded, ValueId prototypes,
             ValueId geometry) {
  const auto found = net.add_all(DetectQueries{.top = m.top, .queries = queries},
                                 {decoded.logits, decoded.boxes, geometry}, "detections");
  const Detected detected = stage_detections(net, found);
  photo_outputs(net, detected, {}, geometry, /*clip=*/false);
  const ValueId rows = net.stage("final.query", found.at(3));
  if (decoded.mask_embeddings != kNoValue)
    mask_outputs(net, m, decoded, prototypes, detected.boxes, rows, geometry);
}

// A config, and what a request changes of it.
struct Plan {
  KeyedConfig config;
  Reader reader;
  HybridEncoder encoder;
};

Plan plan_of(const ImportRequest& request) {
  const KeyedConfig config = load(request.config, request.overrides);
  Plan out{config, reader_options(config), encoder_options(config)};
  if (request.height > 0) {
    require(request.height % 32 == 0 && request.width % 32 == 0,
            "{}x{}: sides must be multiples of 32, the coarsest level's stride", request.height,
            request.width);
    out.reader.height = request.height, out.reader.width = request.width;
  }
  out.encoder.merged = is_exported(request.checkpoint);
  return out;
}

void build_graph(Net& net, const Plan& plan) {
  const NetworkInput input = photo_pixels(net, plan.reader);
  const Features features = backbone(net, backbone_options(plan.config), input.image);
  const Encoded encoded = hybrid_encoder(net, plan.encoder, features);
  const Decoder decoder = decoder_options(plan.config);
  const Decoded decoded = decode(net, decoder, encoded);
  outputs(net, post_process_options(plan.config), decoder.queries, decoded, encoded.prototypes,
          input.geometry);
}

// The names of the weights that the model asks for, in its order.
std::vector<std::string> names_asked_for(const Plan& plan) {
  const std::vector<NamedTensor> none;
  Net net("paddle", none);
  build_graph(net, plan);
  std::vector<std::string> out;
  for (const std::string& missing : net.account().missing)  // "name: [64, 3, 7, 7]"
    out.push_back(missing.substr(0, missing.rfind(": [")));
  return out;
}

int recognise(const ImportRequest& request) {
  return is_rtdetr(request.checkpoint) || is_exported(request.checkpoint) ? 2 : 0;
}

Model build(const ImportRequest& request) {
  const Plan plan = plan_of(request);
  const auto tensors = model_tensors(is_exported(request.checkpoint)
                                         ? named_by_order(request.checkpoint, names_asked_for(plan))
                                         : request.checkpoint);
  Net net("paddle", tensors);
  build_graph(net, plan);
  Model model{.graph = net.finish(),
              .family = "paddle",
              .description = describe(plan.config, plan.reader),
              .categories = categories(plan.config),
              .metadata = metadata_of(request)};
  model.weights = net.account();
  return model;
}

std::vector<std::pair<std::string, std::string>> zoo() { return officials().titles(); }

}  // namespace
}  // namespace paddle

Family paddle_family() {
  return {.name = "paddle", .recognise = paddle::recognise, .build = paddle::build, .zoo = paddle::zoo};
}

}  // namespace osprey

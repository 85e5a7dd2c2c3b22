#include "arch/tfod/two_stage.h"

#include <cmath>

#include "arch/blocks/photo_io.h"
#include "arch/tfod/inception_resnet_v2.h"
#include "ops/detect_anchors.h"
#include "ops/global_average_pool.h"
#include "ops/max_pool.h"
#include "ops/nms.h"
#include "ops/roi_align.h"
#include "ops/select_boxes.h"
#include "ops/softmax.h"
#include "ops/upsample.h"

namespace osprey::tfod {
namespace {

const std::vector<float> kDeltaWeights{10, 10, 5, 5};  // FasterRcnnBoxCoder's scale factors

// Where the checkpoint has the parts.
constexpr const char* kFirst = "model/_feature_extractor_for_proposal_features/";
constexpr const char* kSecond = "model/_feature_extractor_for_box_classifier_features/";
constexpr const char* kRpnConv = "model/_first_stage_box_predictor_first_conv/";
constexpr const char* kRpnHeads = "model/_first_stage_box_predictor/_prediction_heads/";
constexpr const char* kBoxHead = "model/_mask_rcnn_box_predictor/_box_prediction_head/_box_encoder_layers/";
constexpr const char* kClassHead =
    "model/_mask_rcnn_box_predictor/_class_prediction_head/_class_predictor_layers/";
constexpr const char* kMaskHead =
    "model/_mask_rcnn_box_predictor/_third_stage_heads/mask_predictions/_mask_predictor_layers/";

// A convolution "<conv>/kernel", then what its hyperparameters add to it.
ValueId hyper_conv(Net& net, const std::string& conv, const std::string& norm, ValueId x, TfConv layer,
                   const Hyperparams& hyperparams) {
  layer.bias = hyperparams.bias();
  return norm_and_activate(net, norm, tf_conv(net, conv, x, layer), hyperparams);
}

// Boxes f32[R,5] in network pixels, and their softmax scores.
struct Proposed {
  ValueId boxes = kNoValue, scores = kNoValue;
};

Proposed propose(Net& net, const TwoStage& m, ValueId features, ValueId geometry) {
  const ProposalStage& p = m.proposals;
  Hyperparams hyper = p.conv;
  hyper.activation = Activation::kRelu6;
  const ValueId x =
      net.stage("rpn_box_predictor_features",
                hyper_conv(net, std::string(kRpnConv) + "RPNConv", std::string(kRpnConv) + "RPNBatchNorm",
                           features, {.out = p.depth, .kernel = p.kernel, .dilation = p.dilation}, hyper));
  const int anchors = p.anchors.per_cell();
  const ValueId deltas = net.stage(
      "rpn_box_encodings", tf_conv(net, std::string(kRpnHeads) + "box_encodings/0/_box_encoder_layers/0", x,
                                   {.out = anchors * 4, .bias = true, .f32_out = true}));
  const ValueId logits = net.stage(
      "rpn_objectness_predictions_with_background",
      tf_conv(net, std::string(kRpnHeads) + "class_predictions_with_background/0/_class_predictor_layers/0",
              x, {.out = anchors * 2, .bias = true, .f32_out = true}));
  const auto [stride, offset] = std::pair(p.anchors.stride, p.anchors.offset);
  DetectAnchors detect{.strides = {static_cast<float>(stride[0]), static_cast<float>(stride[1])},
                       .offsets = {static_cast<float>(offset[0]) / static_cast<float>(stride[0]),
                                   static_cast<float>(offset[1]) / static_cast<float>(stride[1])},
                       .anchors = anchors,
                       .classes = 1,
                       .cells = anchor_cells(p.anchors),
                       .scores = AnchorScores::kSoftmaxSkipFirst,
                       .weights = kDeltaWeights,
                       .clip_anchors = true,
                       .canvas_height = m.input.canvas_height,
                       .canvas_width = m.input.canvas_width,
                       .threshold = p.score,
                       .iou = p.iou,
                       .max_per_class = p.max_proposals,
                       .max_detections = p.max_proposals,
                       .clip = KeptClip::kDropEmpty,
                       .stage = m.stages == 1 ? 2 : 1};
  const auto kept = net.add_all(std::move(detect), {logits, deltas, geometry}, "proposals");
  return {net.stage("proposal_boxes", kept.at(0)), net.stage("proposal_logits", kept.at(1))};
}

// The map's crops under boxes f32[R,5]. As fractions these are of the padded network input, or of the photo
// in it.
enum class Fractions : std::uint8_t { kOfInput, kOfPhoto };

ValueId crop(Net& net, const std::string& name, const TwoStage& m, ValueId features, ValueId boxes,
             ValueId geometry, Fractions fractions) {
  const Crops& c = m.crops;
  const bool canvas = fractions == Fractions::kOfInput && m.input.canvas_height > 0;
  const bool fused = c.pool == c.pool_stride;
  RoiAlign op{.out = c.size,
              .sampling = RoiSampling::kCorners,
              .neighbours = c.neighbours,
              .pool = fused ? c.pool : 1,
              .canvas_height = canvas ? m.input.canvas_height : 0,
              .canvas_width = canvas ? m.input.canvas_width : 0};
  std::vector<ValueId> inputs{features, boxes};
  if (!canvas) inputs.push_back(geometry);
  const ValueId crops = net.add(std::move(op), std::move(inputs), name);
  if (fused) return crops;
  return net.add(MaxPool{.kernel = {c.pool, c.pool}, .stride = {c.pool_stride, c.pool_stride}}, {crops},
                 name + "_pool");
}

ValueId first_features(Net& net, const TwoStage& m, ValueId image) {
  return m.inception ? inception_resnet_v2_first(net, kFirst, image)
                     : resnet_v1(net, kFirst, m.resnet, image, 4).back().value;
}

ValueId second_features(Net& net, const TwoStage& m, ValueId crops) {
  return m.inception ? inception_resnet_v2_second(net, kSecond, crops)
                     : resnet_v1_stage(net, kSecond, m.resnet, 5, crops);
}

Detected detect(Net& net, const TwoStage& m, ValueId features, ValueId proposals, ValueId geometry) {
  const BoxStage& b = m.boxes;
  const ValueId mean = net.add(GlobalAveragePool{}, {features}, "box_classifier_mean");
  const int boxes = b.shared_boxes ? 1 : m.classes;
  const std::string dense = b.dropout ? "2" : "1";  // before it Keras flattens
  const ValueId deltas =
      net.stage("refined_box_encodings", tf_dense(net, kBoxHead + dense, mean, boxes * 4, true));
  const ValueId logits = net.stage("class_predictions_with_background",
                                   tf_dense(net, kClassHead + dense, mean, m.classes + 1, true));
  const ValueId scores = b.scores == Activation::kNone ? net.add(Softmax{}, {logits}, "scores")
                                                       : tf_activate(net, "scores", logits, b.scores);
  const SelectBoxes select{.threshold = b.score,
                           .weights = kDeltaWeights,
                           .max_log_scale = 0,
                           .delta_order = DeltaOrder::kYxhw,
                           .background_first = true,
                           .clip = false};
  auto candidates = net.add_all(select, {proposals, scores, deltas, geometry}, "detections.select");
  candidates.push_back(geometry);
  const Nms nms{.iou = b.iou,
                .max_detections = b.max_detections,
                .offset_limit = 0,
                .max_per_group = b.max_per_class,
                .clip = KeptClip::kDropEmpty,
                .group_first = true};
  return stage_detections(net, net.add_all(nms, std::move(candidates), "detections.nms"));
}

// How many times the crops' maps go into the masks, which must be so both ways.
int enlargement(const Net& net, const MaskStage& k, ValueId x) {
  const auto& dims = net.type(x).dims;
  const auto height = dims.at(2).constant(), width = dims.at(3).constant();
  require(k.height / height == k.width / width && k.height >= height,
          "convolve_then_upsample_masks: crops of {}x{} cannot be enlarged to masks of {}x{} by one factor",
          height, width, k.height, k.width);
  return static_cast<int>(k.height / height);
}

// Layers are counted: a convolution, its norm (or nothing) and its activation are three.
ValueId masks(Net& net, const MaskStage& k, int classes, ValueId x) {
  int layer = 0;
  const auto conv = [&] {
    x = hyper_conv(net, kMaskHead + std::to_string(layer), kMaskHead + std::to_string(layer + 1), x,
                   {.out = k.depth, .kernel = 3}, k.conv);
    layer += 3;
  };
  const auto resize = [&](const Upsample& op) { x = net.add(op, {x}, "mask_resize"); };
  if (!k.convolve_first)
    resize({.mode = Interpolation::kBilinearCorners, .height = k.height, .width = k.width});
  for (int i = 0; i < k.convs; ++i) conv();
  if (k.convolve_first) {
    resize({.mode = Interpolation::kNearest, .scale = enlargement(net, k, x)});
    ++layer;
    conv();
  }
  return tf_conv(net, kMaskHead + std::to_string(layer), x,
                 {.out = k.agnostic ? 1 : classes, .kernel = 3, .bias = true, .f32_out = true});
}

}  // namespace

std::vector<float> anchor_cells(const GridAnchors& m) {
  std::vector<float> cells;
  for (const float ratio : m.ratios) {
    const float root = std::sqrt(ratio);
    for (const float scale : m.scales) {
      const float height = scale / root * static_cast<float>(m.height);
      const float width = scale * root * static_cast<float>(m.width);
      for (const float corner : {-.5f * width, -.5f * height, .5f * width, .5f * height})
        cells.push_back(corner);
    }
  }
  return cells;
}

void two_stage(Net& net, const TwoStage& m) {
  const NetworkInput input = raw_input(net, m.input);
  const ValueId features = net.stage("rpn_features_to_crop", first_features(net, m, input.image));
  const Proposed proposals = propose(net, m, features, input.geometry);
  if (m.stages == 1) {
    photo_outputs(net, {proposals.boxes, proposals.scores, kNoValue}, {}, input.geometry, true);
    return;
  }
  const ValueId crops = crop(net, "crops", m, features, proposals.boxes, input.geometry, Fractions::kOfInput);
  const ValueId second = net.stage("box_classifier_features", second_features(net, m, crops));
  const Detected detected = detect(net, m, second, proposals.boxes, input.geometry);
  Instances instances;
  if (m.masks) {
    // The third stage takes the detections as fractions of the photo for fractions of the network's input:
    // the same without padding, and with it what its exported models do.
    const ValueId again =
        crop(net, "mask_crops", m, features, detected.boxes, input.geometry, Fractions::kOfPhoto);
    instances.mask_logits =
        net.stage("mask_predictions", masks(net, *m.masks, m.classes, second_features(net, m, again)));
    instances.paste = PasteRule::kCorners;
  }
  photo_outputs(net, detected, instances, input.geometry, true);
}

}  // namespace osprey::tfod

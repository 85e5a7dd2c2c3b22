// maskrcnn-benchmark (github.com/facebookresearch/maskrcnn-benchmark, 2018-2019): Faster, Mask and Keypoint
// R-CNN on ResNets with FPN or C4 and on FBNets, RetinaNet, and region proposal networks alone, as its YAML
// configs describe them. Weight names are its checkpoints'; Detectron's files are renamed as it does. Boxes
// hold their last pixel (graph/box_rules.h).

#include "arch/family.h"
#include "arch/family/categories.h"
#include "arch/family/detectron1.h"
#include "arch/family/metadata.h"
#include "arch/maskrcnn_benchmark/checkpoint.h"
#include "arch/maskrcnn_benchmark/fbnet.h"
#include "arch/maskrcnn_benchmark/options.h"
#include "ops/global_average_pool.h"
#include "ops/softmax.h"

namespace osprey {
namespace maskrcnn_benchmark {
namespace {

const std::string kBox = "roi_heads.box.", kMask = "roi_heads.mask.", kKeypoint = "roi_heads.keypoint.";

// A level for each feature map, finest first, named by its number.
Features backbone(Net& net, const Config& config, ValueId image) {
  if (has_fbnet_trunk(config)) return {{"0", fbnet_trunk(net, config, image)}};
  const Backbone m = backbone_options(config);
  const Features trunk = resnet(net, "backbone.body.", m.trunk, image, m.last_stage);
  net.stage("body.stem", trunk[0].value);
  for (std::size_t i = 1; i < trunk.size(); ++i) net.stage(fmt::format("body.layer{}", i), trunk[i].value);
  Features levels{trunk.back()};
  if (m.first_level > 0) {
    const Features used(trunk.begin() + m.first_level - 1, trunk.end());
    levels = fpn(net, "backbone.fpn.", m.fpn, used, used.back().value);
    for (std::size_t i = 0; i < levels.size(); ++i) net.stage(fmt::format("feature_{}", i), levels[i].value);
  }
  for (std::size_t i = 0; i < levels.size(); ++i) levels[i].name = fmt::format("{}", i);
  return levels;
}

// The levels with the strides that a config says; `all`: it must have one for each.
Features with_strides(const Config& config, std::string_view key, Features levels,
                      const std::vector<int>& strides, bool all) {
  if (strides.size() > levels.size() || (all && strides.size() < levels.size()))
    config.refuse(key, fmt::format("the trunk gives {} levels", levels.size()));
  levels.resize(strides.size());
  for (std::size_t i = 0; i < levels.size(); ++i) levels[i].stride = strides[i];
  return levels;
}

// What the heads work on.
struct HeadInput {
  const Config& config;
  Features levels;
  ValueId geometry;
};

ValueId pool(Net& net, const HeadInput& in, const std::string& head, const std::string& name, ValueId rois) {
  const Pooling pooling = pooling_options(in.config, head);
  const Features levels =
      with_strides(in.config, head + ".POOLER_SCALES", in.levels, pooling.strides, /*all=*/false);
  return roi_pool(net, name + "feature_extractor.pooler", pooling.pooler, levels, rois);
}

// ResNet50Conv5ROIFeatureExtractor: the trunk's last stage on the crops, of three bottlenecks whatever its
// depth. It reads the box head's keys, whichever head it is in.
ValueId conv5_features(Net& net, const HeadInput& in, const std::string& part, const std::string& stage,
                       ValueId rois) {
  ResNet trunk = backbone_options(in.config).trunk;
  trunk.depth = 50;
  trunk.res5_dilation = in.config.at_least(1, "MODEL.RESNETS.RES5_DILATION", 16);
  const ValueId crops = net.stage(stage, pool(net, in, "MODEL.ROI_BOX_HEAD", part, rois));
  return resnet_stage(net, part + "feature_extractor.head.layer4", trunk, 5, trunk.res5_dilation > 1 ? 1 : 2,
                      crops);
}

constexpr const char* kBoxExtractor = "MODEL.ROI_BOX_HEAD.FEATURE_EXTRACTOR";
constexpr const char* kConv5 = "ResNet50Conv5ROIFeatureExtractor";

// Vectors [R,C], or maps [R,C,H,W] of the last stage; `stage` is the name of the crops.
ValueId box_features(Net& net, const HeadInput& in, const std::string& stage, ValueId rois) {
  const std::string extractor = in.config.text(kBoxExtractor);
  if (extractor == kConv5) return conv5_features(net, in, kBox, stage, rois);
  const bool fbnet = extractor == "FBNet.roi_head";
  if (!fbnet && extractor != "FPN2MLPFeatureExtractor" && extractor != "FPNXconv1fcFeatureExtractor")
    in.config.refuse(kBoxExtractor,
                     "only FPN2MLPFeatureExtractor, FPNXconv1fcFeatureExtractor, "
                     "ResNet50Conv5ROIFeatureExtractor and FBNet.roi_head are");
  const ValueId crops = net.stage(stage, pool(net, in, "MODEL.ROI_BOX_HEAD", kBox, rois));
  if (fbnet) return fbnet_head_features(net, in.config, kFbnetBox, kBox + "feature_extractor.", crops);
  return box_head(net, kBox + "feature_extractor.", box_head_options(in.config), crops);
}

Detected detect_boxes(Net& net, const HeadInput& in, ValueId rois) {
  ValueId features = net.stage("box_feat", box_features(net, in, "box_pool", rois));
  constexpr const char* kPredictor = "MODEL.ROI_BOX_HEAD.PREDICTOR";
  const bool maps = net.type(features).rank() == 4;
  const char* const expected = maps ? "FastRCNNPredictor" : "FPNPredictor";
  if (in.config.text(kPredictor) != expected)
    in.config.refuse(kPredictor, fmt::format("with this FEATURE_EXTRACTOR only {} is", expected));
  if (maps) features = net.add(GlobalAveragePool{}, {features}, kBox + "predictor.avgpool");
  const auto p = predict_boxes(net, kBox + "predictor.", box_predictor_options(in.config), features);
  const ValueId scores = net.add(Softmax{}, {net.stage("box_logits", p.logits)}, kBox + "scores");
  return detect(net, detection_rule(in.config), delta_weights(in.config), rois, scores,
                net.stage("box_deltas", p.deltas), in.geometry);
}

// The maps that masks or keypoints are predicted from, of the box head's extractor where they share it.
ValueId shared_features(Net& net, const HeadInput& in, const std::string& head, const std::string& stage,
                        ValueId boxes) {
  const ValueId features = box_features(net, in, stage, boxes);
  if (net.type(features).rank() != 4)
    in.config.refuse(head + ".SHARE_BOX_FEATURE_EXTRACTOR", "with the box head's vectors it");
  return features;
}

ValueId mask_branch(Net& net, const HeadInput& in, ValueId boxes) {
  const std::string head = "MODEL.ROI_MASK_HEAD";
  const MaskHead m = mask_head_options(in.config);
  const std::string extractor = in.config.text(head + ".FEATURE_EXTRACTOR");
  ValueId x = kNoValue;
  if (in.config.flag(head + ".SHARE_BOX_FEATURE_EXTRACTOR")) {
    x = shared_features(net, in, head, "mask_pool", boxes);
  } else if (extractor == kConv5) {
    x = conv5_features(net, in, kMask, "mask_pool", boxes);
  } else if (extractor == "MaskRCNNFPNFeatureExtractor" || extractor == "FBNet.roi_head_mask") {
    const std::string prefix = kMask + "feature_extractor.";
    const ValueId crops = net.stage("mask_pool", pool(net, in, head, kMask, boxes));
    x = extractor == "FBNet.roi_head_mask" ? fbnet_head_features(net, in.config, kFbnetMask, prefix, crops)
                                           : mask_features(net, prefix, m, crops);
  } else {
    in.config.refuse(head + ".FEATURE_EXTRACTOR",
                     "only MaskRCNNFPNFeatureExtractor, ResNet50Conv5ROIFeatureExtractor and "
                     "FBNet.roi_head_mask are");
  }
  return net.stage("mask_logits", mask_logits(net, kMask + "predictor.", m, x));
}

ValueId keypoint_branch(Net& net, const HeadInput& in, ValueId boxes) {
  const std::string head = "MODEL.ROI_KEYPOINT_HEAD";
  const KeypointHead m = keypoint_head_options(in.config);
  ValueId x = kNoValue;
  if (in.config.flag(head + ".SHARE_BOX_FEATURE_EXTRACTOR")) {
    x = shared_features(net, in, head, "kp_pool", boxes);
  } else {
    const std::string extractor = in.config.text(head + ".FEATURE_EXTRACTOR");
    const bool fbnet = extractor == "FBNet.roi_head_keypoints";
    if (!fbnet && extractor != "KeypointRCNNFeatureExtractor")
      in.config.refuse(head + ".FEATURE_EXTRACTOR",
                       "only KeypointRCNNFeatureExtractor and FBNet.roi_head_keypoints are");
    const std::string prefix = kKeypoint + "feature_extractor.";
    const ValueId crops = net.stage("kp_pool", pool(net, in, head, kKeypoint, boxes));
    x = fbnet ? fbnet_head_features(net, in.config, kFbnetKeypoint, prefix, crops)
              : keypoint_features(net, prefix, m, crops);
  }
  return net.stage("keypoint_heatmaps", keypoint_heatmaps(net, kKeypoint + "predictor.", m, x));
}

// A shared extractor is in the file once more under the name of each head that shares it.
void ignore_copies(Net& net, const std::vector<NamedTensor>& tensors, const std::string& part) {
  for (const NamedTensor& t : tensors)
    if (t.name.starts_with(part + "feature_extractor.")) net.ignore(t.name);
}

struct Building {
  const Config& config;
  const std::vector<NamedTensor>& tensors;
  NetworkInput input;
};

Proposals proposals(Net& net, const Building& b, const Features& levels, bool last) {
  const Rpn plain = rpn_options(b.config, {});
  const std::size_t count = plain.anchors.strides.size();
  Rpn options = rpn_options(b.config, given_anchors(b.tensors, count, plain.anchors.per_cell()));
  options.last = last;
  Features used =
      with_strides(b.config, "MODEL.RPN.ANCHOR_STRIDE", levels, plain.anchors.strides, /*all=*/true);
  constexpr const char* kHead = "MODEL.RPN.RPN_HEAD";
  const std::string head = b.config.text(kHead);
  if (head == kFbnetRpnHead) {
    options.widths.clear();
    options.names.head = "head.1.";
    for (Feature& f : used)
      f.value = net.stage("rpn_feature_" + f.name, fbnet_rpn_features(net, b.config, f.value));
  } else if (head != "SingleConvRPNHead") {
    b.config.refuse(kHead, fmt::format("only SingleConvRPNHead and {} are", kFbnetRpnHead));
  }
  return rpn(net, "rpn.", options, used, b.input.geometry);
}

void rcnn(Net& net, const Building& b, const Features& levels) {
  const HeadInput in{b.config, levels, b.input.geometry};
  const Detected detected = detect_boxes(net, in, proposals(net, b, levels, false).boxes);
  Instances instances{.paste = PasteRule::kPadded, .first_map = 1, .keypoint_logits = true};
  if (b.config.flag("MODEL.MASK_ON")) {
    instances.mask_logits = mask_branch(net, in, detected.boxes);
    if (b.config.flag("MODEL.ROI_MASK_HEAD.SHARE_BOX_FEATURE_EXTRACTOR"))
      ignore_copies(net, b.tensors, kMask);
  }
  if (b.config.flag("MODEL.KEYPOINT_ON")) {
    instances.heatmaps = keypoint_branch(net, in, detected.boxes);
    if (b.config.flag("MODEL.ROI_KEYPOINT_HEAD.SHARE_BOX_FEATURE_EXTRACTOR"))
      ignore_copies(net, b.tensors, kKeypoint);
  }
  photo_outputs(net, detected, instances, b.input.geometry, /*clip=*/false);
}

void retinanet(Net& net, const Building& b, const Features& levels) {
  const RetinaNetHead plain = retinanet_options(b.config, {});
  const std::vector<int>& strides = plain.anchors.strides;
  const RetinaNetHead head =
      retinanet_options(b.config, given_anchors(b.tensors, strides.size(), plain.anchors.per_cell()));
  const Features used =
      with_strides(b.config, "MODEL.RETINANET.ANCHOR_STRIDES", levels, strides, /*all=*/true);
  const Detected detected = retinanet_head(net, "rpn.head.", head, used, b.input.geometry);
  photo_outputs(net, detected, {}, b.input.geometry, /*clip=*/false);
}

void proposal_network(Net& net, const Building& b, const Features& levels) {
  for (const char* key : {"MODEL.MASK_ON", "MODEL.KEYPOINT_ON"})
    if (b.config.flag(key))
      b.config.refuse(key, "a network of proposals alone (MODEL.RPN_ONLY) has no heads");
  const Proposals found = proposals(net, b, levels, true);
  // Probabilities, where other frameworks' proposals have logits: scores as any detector's.
  photo_outputs(net, {found.boxes, net.stage("det_scores", found.scores), kNoValue}, {}, b.input.geometry,
                /*clip=*/false);
}

enum class Kind : std::uint8_t { kRcnn, kRetinaNet, kProposals };

Kind kind_of(const Config& config) {
  if (config.flag("MODEL.RETINANET_ON")) return Kind::kRetinaNet;  // whatever RPN_ONLY says
  return config.flag("MODEL.RPN_ONLY") ? Kind::kProposals : Kind::kRcnn;
}

std::vector<Category> categories(const Config& config) {
  const Kind kind = kind_of(config);
  if (kind == Kind::kProposals) return {{"object", 1}};  // anything at all
  const int count =
      kind == Kind::kRetinaNet ? config.integer("MODEL.RETINANET.NUM_CLASSES") - 1 : class_count(config);
  auto data = config.texts("DATASETS.TRAIN");
  if (data.empty()) data = config.texts("DATASETS.TEST");
  return categories_of_dataset(data.empty() ? "" : data[0], count);
}

std::string describe(const Config& config) {
  std::string body = config.text("MODEL.BACKBONE.CONV_BODY");
  if (has_fbnet_trunk(config))
    body += " " + config.text("MODEL.FBNET.ARCH");
  else if (config.integer("MODEL.RESNETS.NUM_GROUPS") > 1)
    body[0] = 'X';
  const Kind kind = kind_of(config);
  if (kind == Kind::kRetinaNet) return "RetinaNet, " + body;
  if (kind == Kind::kProposals) return "RPN, " + body;
  std::string text = "GeneralizedRCNN, " + body;
  if (config.flag("MODEL.MASK_ON")) text += ", masks";
  if (config.flag("MODEL.KEYPOINT_ON")) text += ", keypoints";
  return text;
}

int recognise(const ImportRequest& request) {
  if (is_own(request.checkpoint)) return 2;
  return is_detectron1(request.checkpoint) && is_config(request.config) ? 2 : 0;
}

void construct(Net& net, const Config& config, const ImportRequest& request,
               const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& t : tensors)
    if (t.name.starts_with("rpn.anchor_generator.cell_anchors.") || t.name.ends_with(".num_batches_tracked"))
      net.ignore(t.name);
  const NetworkInput input =
      photo_input(net, input_options(config, size_multiple(config), request.height, request.width));
  const Features levels = backbone(net, config, input.image);
  const Kind kind = kind_of(config);
  const auto family = kind == Kind::kRetinaNet   ? retinanet
                      : kind == Kind::kProposals ? proposal_network
                                                 : rcnn;
  family(net, {config, tensors, input}, levels);
}

// The names of all weights of the model.
std::vector<std::string> weight_names(const Config& config, const ImportRequest& request) {
  const std::vector<NamedTensor> none;
  Net net("names", none);
  construct(net, config, request, none);
  std::vector<std::string> out;
  for (const std::string& line : net.account().missing) out.push_back(line.substr(0, line.find(':')));
  return out;
}

Model build(const ImportRequest& request) {
  const Config config = load(request.config, request.overrides);
  const auto tensors =
      with_gate_matrices(found_by_suffix(tensors_of(request.checkpoint), weight_names(config, request)));
  Net net("maskrcnn_benchmark", tensors);
  construct(net, config, request, tensors);
  Model model{.graph = net.finish(),
              .family = "maskrcnn_benchmark",
              .description = describe(config),
              .categories = categories(config),
              .metadata = metadata_of(request)};
  model.weights = net.account();
  return model;
}

std::vector<std::pair<std::string, std::string>> zoo() { return officials().titles(); }

}  // namespace
}  // namespace maskrcnn_benchmark

Family maskrcnn_benchmark_family() {
  return {.name = "maskrcnn_benchmark",
          .recognise = maskrcnn_benchmark::recognise,
          .build = maskrcnn_benchmark::build,
          .zoo = maskrcnn_benchmark::zoo};
}

}  // namespace osprey

// Names of Detectron (the Caffe2 one, 2018), whose files are dicts of "blobs": "res2_0_branch2a_w",
// "fpn_inner_res4_5_sum_lateral_w", "_[mask]_fcn1_w".
#include <algorithm>
#include <regex>

#include "arch/detectron2/checkpoint.h"
#include "core/error.h"

namespace osprey::detectron2 {
namespace {

struct Rule {
  std::regex blob;     // without the ending that tells the parameter
  std::string module;  // "~" at the start stands for the trunk's prefix
};

// The RPN's layers are defined on level 2 of a pyramid and shared by the others, hence "fpn2".
const std::vector<Rule>& rules() {
  static const std::vector<Rule> kRules = [] {
    const std::pair<const char*, const char*> table[]{
        {"conv1", "~stem.conv1"},
        {"res_conv1", "~stem.conv1"},
        {"(res[2-5]_\\d+)_branch1", "~$1.shortcut"},
        {"(res[2-5]_\\d+)_branch2a", "~$1.conv1"},
        {"(res[2-5]_\\d+)_branch2b", "~$1.conv2"},
        {"(res[2-5]_\\d+)_branch2c", "~$1.conv3"},
        {"fpn_inner_res(\\d)_\\d+_sum(?:_lateral)?", "backbone.fpn_lateral$1"},
        {"fpn_res(\\d)_\\d+_sum", "backbone.fpn_output$1"},
        {"conv_rpn(?:_fpn2)?", "proposal_generator.rpn_head.conv"},
        {"rpn_cls_logits(?:_fpn2)?", "proposal_generator.rpn_head.objectness_logits"},
        {"rpn_bbox_pred(?:_fpn2)?", "proposal_generator.rpn_head.anchor_deltas"},
        {"fc6", "roi_heads.box_head.fc1"},
        {"fc7", "roi_heads.box_head.fc2"},
        {"head_conv(\\d)", "roi_heads.box_head.conv$1"},
        {"cls_score", "roi_heads.box_predictor.cls_score"},
        {"bbox_pred", "roi_heads.box_predictor.bbox_pred"},
        {"_\\[mask\\]_fcn(\\d+)", "roi_heads.mask_head.mask_fcn$1"},
        {"conv5_mask", "roi_heads.mask_head.deconv"},
        {"mask_fcn_logits", "roi_heads.mask_head.predictor"},
        {"conv_fcn(\\d+)", "roi_heads.keypoint_head.conv_fcn$1"},
        {"kps_score_lowres", "roi_heads.keypoint_head.score_lowres"},
    };
    std::vector<Rule> out;
    for (const auto& [blob, module] : table) out.push_back({std::regex(blob), module});
    return out;
  }();
  return kRules;
}

struct Split {
  std::string_view blob, parameter;
};

// "res2_0_branch2a_bn_s" -> "res2_0_branch2a", ".norm.weight"
Split split(std::string_view name) {
  constexpr std::pair<std::string_view, std::string_view> kEndings[]{
      {"_bn_s", ".norm.weight"}, {"_bn_b", ".norm.bias"},          {"_bn_rm", ".norm.running_mean"},
      {"_w", ".weight"},         {"_bn_riv", ".norm.running_var"}, {"_b", ".bias"}};
  for (const auto& [ending, parameter] : kEndings)
    if (name.ends_with(ending)) return {name.substr(0, name.size() - ending.size()), parameter};
  return {name, {}};
}

// The module of a blob, or empty.
std::string module_of(std::string_view blob, const Detectron1Names& names) {
  for (const Rule& rule : rules()) {
    std::cmatch match;
    if (!std::regex_match(blob.data(), blob.data() + blob.size(), match, rule.blob)) continue;
    std::string module = match.format(rule.module);
    if (!module.starts_with('~')) return module;
    std::replace(module.begin(), module.end(), '_', '.');
    const bool head = names.res5_in_heads && module.starts_with("~res5.");
    return (head ? "roi_heads." : names.pyramid ? "backbone.bottom_up." : "backbone.") + module.substr(1);
  }
  return "";
}

// Rows `from`.. and, behind them, rows 0..`wrapped`-1.
void take_rows(NamedTensor& t, std::int64_t from, std::int64_t wrapped) {
  require(!t.shape.empty() && t.shape[0] > from, "{}: no rows behind the background's in {}", t.name,
          to_string(t.shape));
  t.shape[0] += wrapped - from;
  t.dtype = DType::kF32;
  t.load = [load = t.load, shape = t.shape, from, wrapped] {
    const Tensor all = load().to_f32();
    Tensor out = Tensor::zeros(DType::kF32, shape);
    const std::size_t row = all.bytes().size() / static_cast<std::size_t>(all.dim(0));
    const std::size_t skipped = row * static_cast<std::size_t>(from),
                      moved = row * static_cast<std::size_t>(wrapped);
    const Bytes kept = all.bytes().subspan(skipped);
    std::memcpy(out.mutable_data(), kept.data(), kept.size());
    std::memcpy(out.mutable_data() + kept.size(), all.bytes().data(), moved);
    return out;
  };
}

void move_background(NamedTensor& t) {
  if (t.name.starts_with("roi_heads.box_predictor.cls_score.")) take_rows(t, 1, 1);
  if (t.name.starts_with("roi_heads.box_predictor.bbox_pred.")) take_rows(t, 4, 0);
  if (t.name.starts_with("roi_heads.mask_head.predictor.")) take_rows(t, 1, 0);
}

NamedTensor constant(std::string name, const Shape& shape, float value) {
  return {.name = std::move(name), .dtype = DType::kF32, .shape = shape, .load = [shape, value] {
            Tensor out = Tensor::zeros(DType::kF32, shape);
            for (float& v : out.mutable_values<float>()) v = value;
            return out;
          }};
}

// Statistics for batch norms that have none.
void add_statistics(std::vector<NamedTensor>& tensors) {
  constexpr std::string_view kScale = ".norm.weight";
  std::vector<NamedTensor> added;
  for (const NamedTensor& t : tensors) {
    if (!t.name.ends_with(kScale)) continue;
    const std::string norm = t.name.substr(0, t.name.size() - kScale.size()) + ".norm.";
    const bool present = std::any_of(tensors.begin(), tensors.end(),
                                     [&](const NamedTensor& o) { return o.name == norm + "running_mean"; });
    if (present) continue;
    added.push_back(constant(norm + "running_mean", t.shape, 0));
    added.push_back(constant(norm + "running_var", t.shape, 1));
  }
  tensors.insert(tensors.end(), added.begin(), added.end());
}

}  // namespace

std::vector<NamedTensor> from_detectron1(const Checkpoint& checkpoint, const Detectron1Names& names) {
  std::vector<NamedTensor> out;
  for (const NamedTensor& t : checkpoint.tensors) {
    if (t.name.ends_with("_momentum")) continue;
    NamedTensor& renamed = out.emplace_back(t);
    const auto [blob, parameter] = split(t.name);
    const std::string module = parameter.empty() ? "" : module_of(blob, names);
    if (module.empty()) continue;  // stays under its own name, for the account
    renamed.name = module + std::string(parameter);
    move_background(renamed);
  }
  add_statistics(out);
  return out;
}

}  // namespace osprey::detectron2

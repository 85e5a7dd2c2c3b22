#include "arch/maskrcnn_benchmark/checkpoint.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "arch/family/detectron1.h"
#include "arch/family/training_checkpoint.h"
#include "core/error.h"

namespace osprey::maskrcnn_benchmark {
namespace {

// Detectron's layers, as the framework's loader renames them. A pyramid's layers are counted from the finest.
const std::vector<BlobRule>& rules() {
  static const std::vector<BlobRule> kRules = [] {
    std::vector<std::vector<std::string>> table{
        {"conv1", "conv1", "bn1"},
        {"res_conv1", "conv1", "bn1"},
        {"conv_rpn(?:_fpn2)?", "rpn.head.conv"},
        {"rpn_cls_logits(?:_fpn2)?", "rpn.head.cls_logits"},
        {"rpn_bbox_pred(?:_fpn2)?", "rpn.head.bbox_pred"},
        {"(fc[67])", "$1"},
        {"cls_score", "cls_score"},
        {"bbox_pred", "bbox_pred"},
        {"_\\[mask\\]_fcn(\\d+)", "mask_fcn$1"},
        {"conv5_mask", "conv5_mask"},
        {"mask_fcn_logits", "mask_fcn_logits"},
        {"conv_fcn(\\d+)", "conv_fcn$1"},
        {"kps_score_lowres", "kps_score_lowres"},
    };
    for (int stage = 2; stage <= 5; ++stage) {
      const std::string block = fmt::format("res{}_(\\d+)_branch", stage);
      const std::string layer = fmt::format("layer{}.$1.", stage - 1);
      table.push_back({block + "1", layer + "downsample.0", layer + "downsample.1"});
      for (const auto& [branch, number] : {std::pair{"2a", "1"}, {"2b", "2"}, {"2c", "3"}})
        table.push_back({block + branch, layer + "conv" + number, layer + "bn" + number});
      table.push_back({fmt::format("fpn_inner_res{}_\\d+_sum(?:_lateral)?", stage),
                       fmt::format("fpn_inner{}", stage - 1)});
      table.push_back({fmt::format("fpn_res{}_\\d+_sum", stage), fmt::format("fpn_layer{}", stage - 1)});
    }
    return blob_rules(table);
  }();
  return kRules;
}

constexpr std::string_view kAnchors = "rpn.anchor_generator.cell_anchors.";

}  // namespace

bool is_own(const Checkpoint& checkpoint) {
  constexpr std::array<std::string_view, 3> kOwn{"backbone.body.", "rpn.head.", "roi_heads.box.predictor."};
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), [&](const NamedTensor& t) {
    std::string_view name = t.name;
    if (name.starts_with("module.")) name.remove_prefix(7);
    return std::any_of(kOwn.begin(), kOwn.end(), [&](std::string_view own) { return name.starts_with(own); });
  });
}

std::vector<NamedTensor> tensors_of(const Checkpoint& checkpoint) {
  return is_own(checkpoint) ? model_tensors(checkpoint) : rename_blobs(checkpoint, rules());
}

std::vector<NamedTensor> found_by_suffix(const std::vector<NamedTensor>& tensors,
                                         const std::vector<std::string>& asked) {
  std::set<std::string_view> names;
  for (const NamedTensor& t : tensors) names.insert(t.name);
  std::vector<NamedTensor> found;
  std::set<const NamedTensor*> sources;
  for (const std::string& name : asked) {
    if (names.contains(name)) continue;
    const NamedTensor* longest = nullptr;
    for (const NamedTensor& t : tensors)
      if (!t.name.empty() && name.ends_with(t.name) && (!longest || t.name.size() > longest->name.size()))
        longest = &t;
    if (!longest) continue;
    found.push_back(*longest);
    found.back().name = name;
    sources.insert(longest);
  }
  for (const NamedTensor& t : tensors)
    if (!sources.contains(&t)) found.push_back(t);
  return found;
}

std::vector<float> given_anchors(const std::vector<NamedTensor>& tensors, std::size_t levels, int per_cell) {
  std::vector<float> out;
  for (std::size_t l = 0; l < levels; ++l) {
    const std::string name = fmt::format("{}{}", kAnchors, l);
    const auto it =
        std::find_if(tensors.begin(), tensors.end(), [&](const NamedTensor& t) { return t.name == name; });
    if (it == tensors.end()) return {};
    require(it->shape == Shape{per_cell, 4}, "{}: the file has {}, the config asks for {}", name,
            to_string(it->shape), to_string(Shape{per_cell, 4}));
    const Tensor cells = it->load().to_f32();
    for (const float v : cells.values<float>()) {
      require(std::abs(v) < 1e6f, "{}: holds {}", name, v);
      out.push_back(v);
    }
  }
  return out;
}

}  // namespace osprey::maskrcnn_benchmark

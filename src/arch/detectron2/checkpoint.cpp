#include "arch/detectron2/checkpoint.h"

#include <algorithm>
#include <array>

namespace osprey::detectron2 {
namespace {

bool any_tensor(const Checkpoint& checkpoint, auto&& matches) {
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), matches);
}

std::string_view without_module(std::string_view name) {
  if (name.starts_with("module.")) name.remove_prefix(7);
  return name;
}

std::string model_section(const Checkpoint& checkpoint) {
  for (const char* section : {"model", "state_dict"})
    if (any_tensor(checkpoint, [&](const NamedTensor& t) { return t.section == section; })) return section;
  return "";
}

bool is_training_state(std::string_view section) {
  const std::string_view top = section.substr(0, section.find('/'));
  constexpr std::array<std::string_view, 6> kState{"optimizer",   "scheduler", "lr_scheduler",
                                                   "grad_scaler", "trainer",   "hooks"};
  return std::find(kState.begin(), kState.end(), top) != kState.end();
}

}  // namespace

bool is_detectron2(const Checkpoint& checkpoint) {
  constexpr std::array<std::string_view, 3> kOwn{"proposal_generator.rpn_head.", "backbone.fpn_lateral",
                                                 "roi_heads.box_predictor."};
  return any_tensor(checkpoint, [&](const NamedTensor& t) {
    const std::string_view name = without_module(t.name);
    return std::any_of(kOwn.begin(), kOwn.end(), [&](std::string_view own) { return name.starts_with(own); });
  });
}

bool is_detectron1(const Checkpoint& checkpoint) {
  return any_tensor(checkpoint, [](const NamedTensor& t) {
    return t.name == "conv_rpn_w" || t.name == "conv_rpn_fpn2_w" || t.name == "res2_0_branch2a_w";
  });
}

std::vector<NamedTensor> model_tensors(const Checkpoint& checkpoint) {
  const std::string section = model_section(checkpoint);
  std::vector<NamedTensor> out;
  for (const NamedTensor& t : checkpoint.tensors) {
    if (t.section != section && is_training_state(t.section)) continue;
    NamedTensor& kept = out.emplace_back(t);
    kept.name = t.section == section ? std::string(without_module(t.name)) : t.section + "/" + t.name;
  }
  return out;
}

bool is_leftover(const std::string& name) {
  return name == "pixel_mean" || name == "pixel_std" || name.ends_with(".num_batches_tracked") ||
         name.starts_with("proposal_generator.anchor_generator.cell_anchors.") ||
         name.starts_with("anchor_generator.cell_anchors.");
}

}  // namespace osprey::detectron2

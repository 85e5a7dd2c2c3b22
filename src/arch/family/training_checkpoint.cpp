#include "arch/family/training_checkpoint.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace osprey {
namespace {

std::string_view without_module(std::string_view name) {
  if (name.starts_with("module.")) name.remove_prefix(7);
  return name;
}

std::string model_section(const Checkpoint& checkpoint) {
  for (const char* section : {"model", "state_dict"})
    if (std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                    [&](const NamedTensor& t) { return t.section == section; }))
      return section;
  return "";
}

bool is_training_state(std::string_view section) {
  const std::string_view top = section.substr(0, section.find('/'));
  constexpr std::array<std::string_view, 6> kState{"optimizer",   "scheduler", "lr_scheduler",
                                                   "grad_scaler", "trainer",   "hooks"};
  return std::find(kState.begin(), kState.end(), top) != kState.end();
}

}  // namespace

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

}  // namespace osprey

#include "arch/paddle/inference.h"

#include <algorithm>

#include "arch/paddle/checkpoint.h"
#include "core/error.h"

namespace osprey::paddle {
namespace {

// Layers' parameters are called "<layer>_<n>.w_0" and the like, constants "eager_tmp_<n>".
bool is_constant(const NamedTensor& t) { return t.name.find('.') == std::string::npos; }

std::string without_suffix(std::string name, const std::string& suffix) {
  if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  return name;
}

// The names that a file has them under, each once: both parts of a fused projection are one tensor there.
std::vector<std::string> names_in_files(const std::vector<std::string>& asked) {
  std::vector<std::string> out;
  for (const std::string& name : asked) {
    const std::string whole = without_suffix(without_suffix(name, kQueryKey), kValue);
    if (std::find(out.begin(), out.end(), whole) == out.end()) out.push_back(whole);
  }
  return out;
}

}  // namespace

Checkpoint named_by_order(const Checkpoint& exported, const std::vector<std::string>& asked) {
  Checkpoint out{.format = exported.format};
  for (const NamedTensor& t : exported.tensors)
    if (!is_constant(t)) out.tensors.push_back(t);
  const std::vector<std::string> names = names_in_files(asked);
  require(out.tensors.size() == names.size(),
          "the program has {} parameters, and the model of this config {}: is the config another model's?",
          out.tensors.size(), names.size());
  for (std::size_t i = 0; i < names.size(); ++i) out.tensors[i].name = names[i];
  return out;
}

}  // namespace osprey::paddle

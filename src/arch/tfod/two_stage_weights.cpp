#include "arch/tfod/two_stage_weights.h"

#include <charconv>
#include <map>
#include <optional>
#include <set>

#include "arch/tfod/checkpoint.h"
#include "arch/tfod/inception_resnet_v2.h"

namespace osprey::tfod {
namespace {

// "<part>/conv2d_17/kernel", taken apart.
struct Numbered {
  std::string part;   // of the model, with its '/'
  std::string layer;  // without its number
  std::string variable;
  int number = 0;  // 0 when it has none: Keras' first
};

std::optional<int> parse_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// Whether a layer is of this kind, and its number.
std::optional<int> number_of(std::string_view layer, std::string_view kind) {
  if (layer == kind) return 0;
  if (!layer.starts_with(kind) || layer.substr(kind.size(), 1) != "_") return std::nullopt;
  return parse_number(layer.substr(kind.size() + 1));
}

std::optional<Numbered> parse(const std::string& name) {
  const auto last = name.rfind('/');
  if (last == std::string::npos || last == 0) return std::nullopt;
  const auto before = name.rfind('/', last - 1);
  if (before == std::string::npos) return std::nullopt;
  const std::string_view layer = std::string_view(name).substr(before + 1, last - before - 1);
  for (const char* kind : {"conv2d", "freezable_batch_norm", "batch_normalization"})
    if (const auto number = number_of(layer, kind))
      return Numbered{name.substr(0, before + 1), kind, name.substr(last), *number};
  return std::nullopt;
}

int first_number(std::string_view part) {
  return part.ends_with("_feature_extractor_for_box_classifier_features/") ? kInceptionFirstConvs : 0;
}

}  // namespace

std::vector<NamedTensor> renumbered(std::vector<NamedTensor> tensors) {
  std::map<std::pair<std::string, std::string>, std::set<int>> numbers;
  for (const NamedTensor& tensor : tensors)
    if (const auto n = parse(tensor.name)) numbers[{n->part, n->layer}].insert(n->number);
  for (NamedTensor& tensor : tensors) {
    const auto n = parse(tensor.name);
    if (!n) continue;
    const std::set<int>& all = numbers.at({n->part, n->layer});
    const auto rank = std::distance(all.begin(), all.find(n->number)) + first_number(n->part);
    const char* norm = n->layer == "conv2d" ? "" : "_bn";
    tensor.name = fmt::format("{}conv2d_{}{}{}", n->part, rank, norm, n->variable);
  }
  return tensors;
}

std::vector<NamedTensor> two_stage_tensors(const Checkpoint& checkpoint) {
  return renumbered(model_tensors(checkpoint));
}

}  // namespace osprey::tfod

#include "arch/family/detectron1.h"

#include <algorithm>
#include <set>

namespace osprey {
namespace {

struct Split {
  std::string_view blob, parameter;
  bool of_norm = false;
};

// "res2_0_branch2a_bn_s" -> "res2_0_branch2a", ".weight" of its norm
Split split(std::string_view name) {
  struct Ending {
    std::string_view text, parameter;
    bool of_norm;
  };
  constexpr Ending kEndings[]{{"_bn_s", ".weight", true},        {"_bn_b", ".bias", true},
                              {"_bn_rm", ".running_mean", true}, {"_bn_riv", ".running_var", true},
                              {"_w", ".weight", false},          {"_b", ".bias", false}};
  for (const Ending& e : kEndings)
    if (name.ends_with(e.text)) return {name.substr(0, name.size() - e.text.size()), e.parameter, e.of_norm};
  return {name, {}};
}

// The module that a blob's parameter belongs to, or empty.
std::string module_of(const Split& part, const std::vector<BlobRule>& rules) {
  for (const BlobRule& rule : rules) {
    std::cmatch match;
    if (!std::regex_match(part.blob.data(), part.blob.data() + part.blob.size(), match, rule.blob)) continue;
    if (!part.of_norm) return match.format(rule.module);
    return match.format(rule.norm.empty() ? rule.module + ".norm" : rule.norm);
  }
  return "";
}

NamedTensor constant(std::string name, const Shape& shape, float value) {
  return {.name = std::move(name), .dtype = DType::kF32, .shape = shape, .load = [shape, value] {
            Tensor out = Tensor::zeros(DType::kF32, shape);
            for (float& v : out.mutable_values<float>()) v = value;
            return out;
          }};
}

}  // namespace

bool is_detectron1(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), [](const NamedTensor& t) {
    return t.name == "conv_rpn_w" || t.name == "conv_rpn_fpn2_w" || t.name == "res2_0_branch2a_w";
  });
}

std::vector<BlobRule> blob_rules(const std::vector<std::vector<std::string>>& table) {
  std::vector<BlobRule> out;
  for (const auto& row : table)
    out.push_back({std::regex(row.at(0)), row.at(1), row.size() > 2 ? row[2] : std::string()});
  return out;
}

std::vector<NamedTensor> rename_blobs(const Checkpoint& checkpoint, const std::vector<BlobRule>& rules) {
  std::vector<NamedTensor> out;
  std::set<std::string> names;
  std::vector<std::pair<std::string, Shape>> norms;
  for (const NamedTensor& t : checkpoint.tensors) {
    if (t.name.ends_with("_momentum")) continue;
    NamedTensor& renamed = out.emplace_back(t);
    const Split part = split(t.name);
    const std::string module = part.parameter.empty() ? "" : module_of(part, rules);
    if (module.empty()) continue;
    renamed.name = module + std::string(part.parameter);
    names.insert(renamed.name);
    if (part.of_norm && part.parameter == ".weight") norms.emplace_back(module, t.shape);
  }
  for (const auto& [norm, shape] : norms) {
    if (names.contains(norm + ".running_mean")) continue;
    out.push_back(constant(norm + ".running_mean", shape, 0));
    out.push_back(constant(norm + ".running_var", shape, 1));
  }
  return out;
}

}  // namespace osprey

#include "eval/proposal_pickle.h"

#include <cmath>
#include <memory>

#include "core/error.h"
#include "formats/numpy_pickle.h"
#include "formats/pickle.h"

namespace osprey {
namespace {

using pickle::Kind;
using pickle::Value;

// BoxMode's numbers.
constexpr std::int64_t kXyxy = 0, kXywh = 1;

// The value under one of two names, Detectron2's and Detectron's; null when absent.
const Value* member(const Value& dict, std::string_view name, std::string_view old_name = {}) {
  for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const auto key = pickle::text_of(*dict.items[i]);
    if (key && (*key == name || *key == old_name)) return dict.items[i + 1];
  }
  return nullptr;
}

const Value& list_of(const Value& dict, std::string_view name, std::string_view old_name) {
  const Value* value = member(dict, name, old_name);
  require(value != nullptr, "a pickle of proposals needs \"{}\" (or \"{}\")", name, old_name);
  require(value->kind == Kind::kList || value->kind == Kind::kTuple, "\"{}\": expected a list, got {}", name,
          describe(*value));
  return *value;
}

std::string id_of(const Value& value, const Source& source) {
  if (const auto text = pickle::text_of(value)) return *text;
  if (const auto number = pickle::int_of(value)) return std::to_string(*number);
  const auto leaf = numpy_leaf(value, source);
  require(leaf && leaf->load && leaf->shape.empty() && leaf->dtype == DType::kI64,
          "an image's id is {}, neither a number nor text", describe(value));
  return std::to_string(leaf->load().copied().values<std::int64_t>()[0]);
}

std::vector<std::string> ids_of(const Value& dict, const Source& source) {
  std::vector<std::string> out;
  const Value* value = member(dict, "ids", "indexes");
  const auto leaf = value ? numpy_leaf(*value, source) : std::nullopt;
  if (leaf && leaf->load && leaf->dtype == DType::kI64) {
    const Tensor ids = leaf->load().copied();
    for (const std::int64_t id : ids.values<std::int64_t>()) out.push_back(std::to_string(id));
    return out;
  }
  for (const Value* id : list_of(dict, "ids", "indexes").items) out.push_back(id_of(*id, source));
  return out;
}

bool is_sized(const Value& dict) {
  const Value* value = member(dict, "bbox_mode");
  const auto mode = value ? pickle::int_of(*value) : kXyxy;
  require(mode == kXyxy || mode == kXywh, "\"bbox_mode\": only XYXY_ABS (0) and XYWH_ABS (1) are supported");
  return mode == kXywh;
}

// f32 or f64 numbers, widened. Arrays of a pickle lie unaligned in the file.
std::vector<double> numbers(const Leaf& leaf) {
  const Tensor t = leaf.load().copied();
  if (t.empty()) return {};
  if (t.dtype() == DType::kF32) {
    const auto v = t.values<float>();
    return {v.begin(), v.end()};
  }
  const auto v = t.values<double>();
  return {v.begin(), v.end()};
}

// A list's array, checked but not yet read.
Leaf array_of(const Value& list, std::size_t i, std::string_view name, const Source& source) {
  return in_context(fmt::format("\"{}\" {}", name, i), [&] {
    auto leaf = numpy_leaf(*list.items.at(i), source);
    require(leaf && leaf->load && (leaf->dtype == DType::kF32 || leaf->dtype == DType::kF64),
            "expected a numpy array of floats, got {}",
            leaf ? leaf->note : std::string(describe(*list.items[i])));
    return std::move(*leaf);
  });
}

std::vector<Proposal> proposals_of(const Leaf& boxes, const Leaf& scores, bool sized) {
  std::vector<double> b = numbers(boxes);
  const std::vector<double> s = numbers(scores);
  std::vector<Proposal> out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    double* at = &b[4 * i];
    if (sized) at[2] += at[0], at[3] += at[1];
    const Proposal p{{static_cast<float>(at[0]), static_cast<float>(at[1]), static_cast<float>(at[2]),
                      static_cast<float>(at[3])},
                     static_cast<float>(s[i])};
    for (const float v : {p.box.x0, p.box.y0, p.box.x1, p.box.y1, p.score})
      require(std::isfinite(v), "proposal {} has a number that is not finite", i);
    out.push_back(p);
  }
  return out;
}

}  // namespace

std::map<std::string, std::function<std::vector<Proposal>()>, std::less<>> read_proposal_pickle(
    const Source& source) {
  const auto parsed =
      std::make_shared<const pickle::Parsed>(pickle::parse(source.bytes, pickle::Persistent::kRefused));
  const Value& root = *parsed->root;
  require(root.kind == Kind::kDict, "a pickle of proposals is a dict, this is {}", describe(root));
  const std::vector<std::string> ids = ids_of(root, source);
  const Value& boxes = list_of(root, "boxes", "boxes");
  const Value& scores = list_of(root, "objectness_logits", "scores");
  require(boxes.items.size() == ids.size() && scores.items.size() == ids.size(),
          "{} ids, {} arrays of boxes, {} of scores", ids.size(), boxes.items.size(), scores.items.size());
  const bool sized = is_sized(root);
  std::map<std::string, std::function<std::vector<Proposal>()>, std::less<>> out;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Leaf b = array_of(boxes, i, "boxes", source), s = array_of(scores, i, "objectness_logits", source);
    const std::int64_t count = element_count(s.shape);
    require(b.shape == (Shape{count, 4}) && s.shape.size() == 1,
            "image {}: boxes {} and scores {}; expected [N, 4] and [N]", ids[i], to_string(b.shape),
            to_string(s.shape));
    out[ids[i]] = [parsed, source, sized, b = std::move(b), s = std::move(s), id = ids[i]] {
      return in_context("image " + id, [&] { return proposals_of(b, s, sized); });
    };
  }
  return out;
}

}  // namespace osprey

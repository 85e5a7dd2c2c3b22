#include "graph/attributes.h"

#include <limits>

#include <fmt/format.h>

namespace osprey {
namespace {

// Shortest text that reads back to the same float, never mistaken for an integer.
std::string float_text(float v) {
  std::string text = fmt::format("{}", v);
  return text.find_first_of(".einf") == std::string::npos ? text + ".0" : text;
}

template <class T, class Text>
std::string list_text(const std::vector<T>& values, Text text) {
  std::string out = "[";
  for (std::size_t i = 0; i < values.size(); ++i) out += (i ? ", " : "") + text(values[i]);
  return out + "]";
}

struct Printer {
  std::string operator()(bool v) const { return v ? "true" : "false"; }
  std::string operator()(std::int64_t v) const { return std::to_string(v); }
  std::string operator()(float v) const { return float_text(v); }
  std::string operator()(const std::string& v) const { return "'" + v + "'"; }
  std::string operator()(const std::vector<std::int64_t>& v) const {
    return list_text(v, [](std::int64_t x) { return std::to_string(x); });
  }
  std::string operator()(const std::vector<float>& v) const { return list_text(v, float_text); }
};

}  // namespace

const AttributeValue* AttributeReader::find(std::string_view name) {
  for (std::size_t i = 0; i < in_.size(); ++i)
    if (in_[i].name == name) {
      used_[i] = true;
      return &in_[i].value;
    }
  return nullptr;
}

void AttributeReader::wrong_type(std::string_view name) const {
  bad_input("{}: attribute {} has a value of the wrong type", op_, name);
}

void AttributeReader::operator()(std::string_view name, float& v) {
  const AttributeValue* value = find(name);
  if (!value) return;
  if (const auto* whole = std::get_if<std::int64_t>(value)) {
    v = static_cast<float>(*whole);
  } else if (const auto* typed = std::get_if<float>(value)) {
    v = *typed;
  } else {
    wrong_type(name);
  }
}

void AttributeReader::operator()(std::string_view name, int& v) {
  std::int64_t wide = v;
  take(name, wide);
  require(wide >= std::numeric_limits<int>::min() && wide <= std::numeric_limits<int>::max(),
          "{}: attribute {} = {} is out of range", op_, name, wide);
  v = static_cast<int>(wide);
}

void AttributeReader::operator()(std::string_view name, std::vector<int>& v) {
  std::vector<std::int64_t> wide;
  if (!take(name, wide)) return;
  v.clear();
  for (const auto x : wide) {
    require(x >= std::numeric_limits<int>::min() && x <= std::numeric_limits<int>::max(),
            "{}: attribute {} holds {}, which is out of range", op_, name, x);
    v.push_back(static_cast<int>(x));
  }
}

void AttributeReader::finish() const {
  for (std::size_t i = 0; i < in_.size(); ++i)
    require(used_[i], "{}: unknown attribute '{}' (written by a newer version?)", op_, in_[i].name);
}

std::string to_string(const AttributeValue& value) { return std::visit(Printer{}, value); }

}  // namespace osprey

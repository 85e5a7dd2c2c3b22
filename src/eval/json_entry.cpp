#include "eval/json_entry.h"

#include <algorithm>

namespace osprey {

namespace {

constexpr std::size_t kMaxEntry = std::size_t{64} << 20;

std::string_view kind_of(const simdjson::dom::element& element) {
  using simdjson::dom::element_type;
  switch (element.type()) {
    case element_type::ARRAY:
      return "an array";
    case element_type::OBJECT:
      return "an object";
    case element_type::STRING:
      return "a string";
    case element_type::BOOL:
      return "true or false";
    case element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

}  // namespace

void JsonValue::wrong(std::string_view expected) const {
  bad_input("{}: expected {}, got {}", key_.empty() ? "entry" : key_, expected, kind_of(element_));
}

double JsonValue::number() const {
  double value = 0;
  if (element_.get(value) != simdjson::SUCCESS) wrong("a number");
  require(std::isfinite(value), "{}: the number is not finite", key_);
  return value;
}

std::int64_t JsonValue::integer(std::int64_t low, std::int64_t high) const {
  std::int64_t value = 0;
  if (element_.get(value) != simdjson::SUCCESS) {
    const double wide = number();
    require(std::abs(wide) < 9e15 && wide == std::floor(wide), "{}: expected a whole number, got {}", key_,
            wide);
    value = static_cast<std::int64_t>(wide);
  }
  require(value >= low && value <= high, "{}: {} is not within {} and {}", key_, value, low, high);
  return value;
}

bool JsonValue::flag() const {
  bool value = false;
  return element_.get(value) == simdjson::SUCCESS ? value : number() != 0;
}

std::string_view JsonValue::text() const {
  std::string_view value;
  if (element_.get(value) != simdjson::SUCCESS) wrong("a string");
  return value;
}

std::vector<double> JsonValue::numbers() const {
  std::vector<double> out;
  each([&](const JsonValue& item) { out.push_back(item.number()); });
  return out;
}

void KeysSeen::require_all(std::initializer_list<std::string_view> wanted) const {
  for (const auto key : wanted) {
    require(std::find(seen_.begin(), seen_.end(), key) != seen_.end(), "the key \"{}\" is missing", key);
  }
}

JsonValue JsonParser::object(std::string_view text) {
  require(text.size() <= kMaxEntry, "{} bytes of text are more than {}", text.size(), kMaxEntry);
  simdjson::dom::element element;
  if (const auto error = parser_.parse(text.data(), text.size()).get(element)) {
    bad_input("JSON: {}", simdjson::error_message(error));
  }
  require(element.is_object(), "expected an object, got {}", kind_of(element));
  return JsonValue(element, "");
}

std::optional<std::int64_t> JsonParser::id_of(std::string_view text) {
  simdjson::dom::element element;
  std::int64_t id = 0;
  if (text.size() > kMaxEntry || parser_.parse(text.data(), text.size())["id"].get(id) != simdjson::SUCCESS)
    return {};
  return id;
}

}  // namespace osprey

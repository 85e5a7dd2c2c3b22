#include "formats/python_literal.h"

#include <array>
#include <charconv>
#include <limits>
#include <string>

namespace osprey {
namespace {

constexpr int kMaxDepth = 32;

using Kind = ConfigTree::Kind;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

std::string without_underscores(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (c != '_') out += c;
  return out;
}

template <class T, class... Format>
std::optional<T> from_all(std::string_view text, Format... format) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, format...);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// One literal after another; any failure is a null result.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  std::optional<ConfigTree> whole() {
    auto out = value(0);
    skip_space();
    if (at_ != text_.size()) return std::nullopt;
    return out;
  }

 private:
  std::optional<ConfigTree> value(int depth) {
    skip_space();
    if (at_ == text_.size() || depth > kMaxDepth) return std::nullopt;
    switch (text_[at_]) {
      case '(':
        return sequence(')', depth);
      case '[':
        return sequence(']', depth);
      case '{':
        return dict(depth);
      case '\'':
      case '"':
        return quoted();
      default:
        return word();
    }
  }

  // A parenthesis around one value without a comma is that value.
  std::optional<ConfigTree> sequence(char close, int depth) {
    ++at_;
    ConfigTree out;
    out.kind = Kind::kList;
    bool comma = false;
    while (!take(close)) {
      if (!out.items.empty() && !comma) return std::nullopt;
      auto item = value(depth + 1);
      if (!item) return std::nullopt;
      out.items.push_back(std::move(*item));
      comma = take(',');
    }
    if (close == ')' && out.items.size() == 1 && !comma) {
      ConfigTree only = std::move(out.items[0]);
      return only;
    }
    return out;
  }

  std::optional<ConfigTree> dict(int depth) {
    ++at_;
    ConfigTree out;
    out.kind = Kind::kMap;
    bool comma = true;
    while (!take('}')) {
      if (!comma) return std::nullopt;
      const auto key = value(depth + 1);
      if (!key || !key->is_scalar() || !take(':')) return std::nullopt;
      auto item = value(depth + 1);
      if (!item) return std::nullopt;
      item->key = key->text;
      out.items.push_back(std::move(*item));
      comma = take(',');
    }
    return out;
  }

  std::optional<ConfigTree> quoted() {
    const char quote = text_[at_++];
    ConfigTree out;
    out.kind = Kind::kScalar;
    out.quoted = true;
    while (at_ < text_.size() && text_[at_] != quote) {
      char c = text_[at_++];
      if (c == '\n') return std::nullopt;
      if (c == '\\') {
        const auto escaped = escape();
        if (!escaped) return std::nullopt;
        c = *escaped;
      }
      out.text += c;
    }
    if (at_ == text_.size()) return std::nullopt;
    ++at_;
    return out;
  }

  std::optional<char> escape() {
    if (at_ == text_.size()) return std::nullopt;
    switch (const char c = text_[at_++]) {
      case 'n':
        return '\n';
      case 't':
        return '\t';
      case 'r':
        return '\r';
      case '\\':
      case '\'':
      case '"':
        return c;
      default:
        return std::nullopt;
    }
  }

  std::optional<ConfigTree> word() {
    const std::size_t begin = at_;
    if (text_[at_] == '+' || text_[at_] == '-') ++at_;
    while (at_ < text_.size() && (is_word(text_[at_]) || text_[at_] == '.' || exponent_sign(begin))) ++at_;
    const std::string_view text = text_.substr(begin, at_ - begin);
    ConfigTree out;
    if (text == "None") return out;
    out.kind = Kind::kScalar;
    out.text = text;
    const bool number = !text.empty() && (parse_int(text) || parse_double(text));
    const bool yaml_only =
        text.find("inf") != std::string_view::npos || text.find("nan") != std::string_view::npos;
    if (text == "True" || text == "False" || (number && !yaml_only)) return out;
    return std::nullopt;
  }

  // The sign in 1e-4.
  bool exponent_sign(std::size_t begin) const {
    return (text_[at_] == '-' || text_[at_] == '+') && at_ > begin + 1 &&
           (text_[at_ - 1] == 'e' || text_[at_ - 1] == 'E') && !text_.substr(begin).starts_with("0x");
  }

  bool take(char c) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

std::optional<ConfigTree> parse_python_literal(std::string_view text) { return Parser(text).whole(); }

std::optional<std::int64_t> parse_int(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || !is_digit(text[0])) return std::nullopt;
  int base = 10;
  if (text.starts_with("0x")) {
    base = 16;
  } else if (text.starts_with("0b")) {
    base = 2;
  } else if (text.starts_with("0o")) {
    base = 8;
  }
  if (base != 10) {
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
  }
  const auto value = from_all<std::uint64_t>(without_underscores(text), base);
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!value || *value > kMax) return std::nullopt;
  return negative ? -static_cast<std::int64_t>(*value) : static_cast<std::int64_t>(*value);
}

std::optional<double> parse_double(std::string_view text) {
  if (const auto integer = parse_int(text)) return static_cast<double>(*integer);
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  std::optional<double> value;
  if (text == ".inf" || text == ".Inf" || text == ".INF") {
    value = std::numeric_limits<double>::infinity();
  } else if (text == ".nan" || text == ".NaN" || text == ".NAN") {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (!text.empty() && (is_digit(text[0]) || text[0] == '.')) {
    value = from_all<double>(without_underscores(text), std::chars_format::general);
  }
  if (value && negative) value = -*value;
  return value;
}

std::optional<bool> parse_bool(std::string_view text) {
  constexpr std::array<std::string_view, 9> kTrue{"yes",  "Yes", "YES", "true", "True",
                                                  "TRUE", "on",  "On",  "ON"};
  constexpr std::array<std::string_view, 9> kFalse{"no",    "No",  "NO",  "false", "False",
                                                   "FALSE", "off", "Off", "OFF"};
  for (const auto word : kTrue)
    if (text == word) return true;
  for (const auto word : kFalse)
    if (text == word) return false;
  return std::nullopt;
}

bool is_yaml_null(std::string_view text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

}  // namespace osprey

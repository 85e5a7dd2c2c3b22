#include "eval/json_cursor.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace osprey {

namespace {

enum Kind : std::uint8_t { kOther, kQuote, kOpen, kClose };

constexpr std::array<std::uint8_t, 256> kKinds = [] {
  std::array<std::uint8_t, 256> kinds{};
  kinds['"'] = kQuote;
  kinds['{'] = kinds['['] = kOpen;
  kinds['}'] = kinds[']'] = kClose;
  return kinds;
}();

}  // namespace

char JsonCursor::peek() {
  at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size());
  require(at_ < text_.size(), "JSON: the text ends at byte {} within a value (truncated?)", at_);
  return text_[at_];
}

// Leaves the cursor behind the closing quote of the string that starts here: the first quote behind an even
// number of backslashes.
void JsonCursor::skip_string() {
  const std::size_t begin = at_;
  for (std::size_t quote = begin;;) {
    quote = text_.find('"', quote + 1);
    require(quote != std::string_view::npos, "JSON: the string at byte {} does not end (truncated?)", begin);
    std::size_t backslashes = 0;
    while (text_[quote - 1 - backslashes] == '\\') ++backslashes;
    if (backslashes % 2 == 0) {
      at_ = quote + 1;
      return;
    }
  }
}

std::string_view JsonCursor::value() {
  const char first = peek();
  const std::size_t begin = at_;
  if (first == '"') {
    skip_string();
  } else if (kKinds[static_cast<unsigned char>(first)] == kOpen) {
    std::size_t depth = 0;
    do {
      std::uint8_t kind = kOther;
      while (at_ < text_.size() && (kind = kKinds[static_cast<unsigned char>(text_[at_])]) == kOther) ++at_;
      require(at_ < text_.size(), "JSON: the value that starts at byte {} does not end (truncated?)", begin);
      if (kind == kQuote) {
        skip_string();
        continue;
      }
      kind == kOpen ? ++depth : --depth;
      ++at_;
    } while (depth != 0);
  } else {
    at_ = std::min(text_.find_first_of(" \t\r\n,]}", at_), text_.size());
    require(at_ != begin, "JSON: expected a value at byte {}, got '{}'", begin, first);
  }
  return text_.substr(begin, at_ - begin);
}

void JsonCursor::open(char bracket, std::string_view what) {
  const char got = peek();
  require(got == bracket, "JSON: expected {} at byte {}, got '{}'", what, at_, got);
  ++at_;
}

bool JsonCursor::closed(char bracket) {
  if (peek() != bracket) return false;
  ++at_;
  return true;
}

bool JsonCursor::another(char bracket) {
  const char got = peek();
  require(got == ',' || got == bracket, "JSON: expected ',' or '{}' at byte {}, got '{}'", bracket, at_, got);
  ++at_;
  return got == ',';
}

void JsonCursor::expect(char c) {
  const char got = peek();
  require(got == c, "JSON: expected '{}' at byte {}, got '{}'", c, at_, got);
  ++at_;
}

void JsonCursor::finish() {
  const auto rest = text_.find_first_not_of(" \t\r\n", at_);
  require(rest == std::string_view::npos, "JSON: unexpected text at byte {} behind the end", rest);
}

}  // namespace osprey

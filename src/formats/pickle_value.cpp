#include "formats/pickle_value.h"

#include <array>

namespace osprey::pickle {
namespace {

constexpr char32_t kLastCodePoint = 0x10ffff;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

char32_t read_hex(std::string_view text, std::size_t& at, std::size_t digits) {
  require(text.size() - at >= digits, "pickle: an escape is cut off");
  char32_t value = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    const int digit = hex_digit(text[at++]);
    require(digit >= 0, "pickle: an escape with a digit that is not hexadecimal");
    value = value * 16 + static_cast<char32_t>(digit);
  }
  return value;
}

char32_t next_utf8(std::string_view text, std::size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at++]);
  if (lead < 0x80) return lead;
  const std::size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
  require(lead >= 0xc2 && lead < 0xf5 && text.size() - at >= more, "pickle: text that is not UTF-8");
  char32_t value = lead & (0x3f >> more);
  for (std::size_t i = 0; i < more; ++i) {
    const auto byte = static_cast<unsigned char>(text[at++]);
    require((byte & 0xc0) == 0x80, "pickle: text that is not UTF-8");
    value = value << 6 | (byte & 0x3f);
  }
  constexpr std::array<char32_t, 4> kSmallest{0, 0x80, 0x800, 0x10000};
  require(value >= kSmallest[more] && value <= kLastCodePoint, "pickle: text that is not UTF-8");
  return value;
}

char32_t next_unicode_escape(std::string_view text, std::size_t& at) {
  const auto c = static_cast<unsigned char>(text[at++]);
  if (c != '\\' || at == text.size() || (text[at] != 'u' && text[at] != 'U')) return c;
  const std::size_t digits = text[at++] == 'u' ? 4 : 8;
  const char32_t value = read_hex(text, at, digits);
  require(value <= kLastCodePoint, "pickle: an escape beyond Unicode");
  return value;
}

char32_t next_string_escape(std::string_view text, std::size_t& at) {
  const auto c = static_cast<unsigned char>(text[at++]);
  if (c != '\\') return c;
  require(at < text.size(), "pickle: a string ends in a backslash");
  const char escape = text[at++];
  switch (escape) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'a':
      return '\a';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '\\':
    case '\'':
    case '"':
      return static_cast<unsigned char>(escape);
    case 'x':
      return read_hex(text, at, 2);
    default:
      bad_input("pickle: a string has the unknown escape \\x{:02x}", static_cast<unsigned char>(escape));
  }
}

template <class Use>
void each_code_point(const Spelled& spelled, Use use) {
  const std::string_view text = as_text(spelled.data);
  std::size_t at = 0;
  switch (spelled.spelling) {
    case Spelling::kRaw:
      for (const char c : text) use(static_cast<char32_t>(static_cast<unsigned char>(c)));
      return;
    case Spelling::kUtf8:
      while (at < text.size()) use(next_utf8(text, at));
      return;
    case Spelling::kUnicodeEscapes:
      while (at < text.size()) use(next_unicode_escape(text, at));
      return;
    case Spelling::kStringEscapes:
      while (at < text.size()) use(next_string_escape(text, at));
      return;
  }
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 0x3f))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3f)),
            static_cast<char>(0x80 | (c & 0x3f))};
  } else {
    out += {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3f)),
            static_cast<char>(0x80 | (c >> 6 & 0x3f)), static_cast<char>(0x80 | (c & 0x3f))};
  }
}

}  // namespace

std::uint64_t decoded_size(const Spelled& text) {
  if (text.spelling == Spelling::kRaw) return text.data.size();
  std::uint64_t size = 0;
  each_code_point(text, [&](char32_t) { ++size; });
  return size;
}

void decode_bytes(const Spelled& text, std::byte* out) {
  each_code_point(text, [&](char32_t c) {
    require(c < 0x100, "pickle: a character that is no byte in what should be bytes");
    *out++ = static_cast<std::byte>(c);
  });
}

std::string decode_text(const Spelled& text, std::size_t limit) {
  require(text.data.size() <= limit, "pickle: a text of {} bytes where at most {} are expected",
          text.data.size(), limit);
  std::string out;
  each_code_point(text, [&](char32_t c) {
    require(c < 0xd800 || c > 0xdfff, "pickle: text with half of a surrogate pair");
    append_utf8(out, c);
  });
  return out;
}

std::optional<std::string> text_of(const Value& value, std::size_t limit) {
  if (value.kind != Kind::kText && value.kind != Kind::kBytes) return std::nullopt;
  return decode_text(value.text, limit);
}

std::optional<std::int64_t> int_of(const Value& value) {
  if (value.kind != Kind::kInt && value.kind != Kind::kBool) return std::nullopt;
  return value.integer;
}

std::string_view describe(const Value& value) {
  constexpr std::array<std::string_view, 14> kNames{"None",       "a bool",
                                                    "an integer", "a huge integer",
                                                    "a number",   "text",
                                                    "bytes",      "a list",
                                                    "a tuple",    "a set",
                                                    "a dict",     "a Python name",
                                                    "an object",  "an external reference"};
  return kNames[static_cast<std::size_t>(value.kind)];
}

}  // namespace osprey::pickle

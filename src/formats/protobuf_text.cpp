#include "formats/protobuf_text.h"

#include <unordered_map>

#include "core/error.h"
#include "formats/python_literal.h"
#include "formats/source.h"

namespace osprey {
namespace {

using Kind = ConfigTree::Kind;

constexpr std::size_t kMaxText = std::size_t{4} << 20;
constexpr int kMaxDepth = 64;
constexpr std::size_t kMaxNodes = 500'000;
constexpr std::size_t kMaxKey = 256;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_octal(char c) { return c >= '0' && c <= '7'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_word(char c) { return is_letter(c) || is_digit(c); }

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_word(std::string_view word, std::string_view lower_case) {
  if (word.size() != lower_case.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i)
    if (lower(word[i]) != lower_case[i]) return false;
  return true;
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto byte = [&](std::uint32_t value) { out += static_cast<char>(value); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xc0 | code >> 6);
    byte(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    byte(0xe0 | code >> 12);
    byte(0x80 | (code >> 6 & 0x3f));
    byte(0x80 | (code & 0x3f));
  } else {
    byte(0xf0 | code >> 18);
    byte(0x80 | (code >> 12 & 0x3f));
    byte(0x80 | (code >> 6 & 0x3f));
    byte(0x80 | (code & 0x3f));
  }
}

// The fields of a message so far, and where each key is.
class Fields {
 public:
  explicit Fields(ConfigTree& message) : message_(message) {}

  // A second value under a key makes a list of both; so does a value that was written as a list.
  void add(std::string key, ConfigTree value) {
    const auto [row, added] = index_.emplace(key, message_.items.size());
    if (added) {
      value.key = std::move(key);
      message_.items.push_back(std::move(value));
      return;
    }
    ConfigTree& there = message_.items[row->second];
    if (!there.is_list()) make_list(there);
    if (value.is_list()) {
      for (ConfigTree& item : value.items) there.items.push_back(std::move(item));
    } else {
      there.items.push_back(std::move(value));
    }
  }

 private:
  static void make_list(ConfigTree& node) {
    ConfigTree list{.kind = Kind::kList, .key = std::move(node.key), .file = node.file, .line = node.line};
    node.key.clear();
    list.items.push_back(std::move(node));
    node = std::move(list);
  }

  ConfigTree& message_;
  std::unordered_map<std::string, std::size_t> index_;
};

class Parser {
 public:
  Parser(std::string_view text, const std::string& name)
      : text_(text), file_(std::make_shared<std::string>(name)) {}

  ProtobufText parse() {
    skip_space();
    ConfigTree root = node(Kind::kMap);
    fields(root, '\0', 0);
    return {std::move(root), std::move(warnings_)};
  }

 private:
  // Up to the closing character, which is taken; '\0' is the end of the text.
  void fields(ConfigTree& message, char close, int depth) {
    if (depth > kMaxDepth) error("more than {} levels", kMaxDepth);
    Fields to(message);
    while (true) {
      if (at_end()) {
        if (close == '\0') return;
        error("the end of the text, where '{}' is expected (opened in line {})", close, message.line);
      }
      if (close != '\0' && take(close)) return;
      std::string key = field_name();
      to.add(std::move(key), field_value(depth));
      if (!take(';')) take(',');
    }
  }

  std::string field_name() {
    const std::size_t begin = at_;
    if (peek() == '[') {
      while (!at_end() && peek() != ']' && peek() != '\n') ++at_;
      if (at_end() || peek() != ']') error("an extension's name without its ']'");
      ++at_;
    } else {
      if (!is_letter(peek())) error("{} where a field's name is expected", shown());
      while (!at_end() && is_word(peek())) ++at_;
    }
    if (at_ - begin > kMaxKey) error("a field's name of {} bytes", at_ - begin);
    std::string out(text_.substr(begin, at_ - begin));
    skip_space();
    return out;
  }

  ConfigTree field_value(int depth) {
    const bool colon = take(':');
    if (!colon && (at_end() || (peek() != '{' && peek() != '<')))
      error("{} where ':' or '{{' is expected", shown());
    if (!at_end() && peek() == '[') return list(depth);
    return value(depth);
  }

  ConfigTree list(int depth) {
    ConfigTree out = node(Kind::kList);
    take('[');
    if (take(']')) return out;
    do {
      out.items.push_back(value(depth));
    } while (take(','));
    if (!take(']')) error("{} where ',' or ']' is expected (opened in line {})", shown(), out.line);
    return out;
  }

  ConfigTree value(int depth) {
    if (at_end()) error("the end of the text, where a value is expected");
    const char c = peek();
    if (c == '{' || c == '<') {
      ConfigTree out = node(Kind::kMap);
      take(c);
      fields(out, c == '{' ? '}' : '>', depth + 1);
      return out;
    }
    if (c == '"' || c == '\'') return strings();
    return word_or_number();
  }

  // Strings next to each other are one.
  ConfigTree strings() {
    ConfigTree out = node(Kind::kScalar);
    out.quoted = true;
    while (!at_end() && (peek() == '"' || peek() == '\'')) {
      quoted(out.text);
      pass_over_stray_s();
      skip_space();
    }
    return out;
  }

  void quoted(std::string& out) {
    const char quote = peek();
    step();
    while (true) {
      if (at_end() || peek() == '\n') error("a string without its closing {}", quote);
      const char c = peek();
      step();
      if (c == quote) return;
      if (c == '\\') {
        escape(out);
      } else {
        out += c;
      }
    }
  }

  void escape(std::string& out) {
    if (at_end()) error("a string that ends in an escape");
    const char c = peek();
    if (c == '\n') error("an escape at the end of a line");
    step();
    switch (c) {
      case 'a':
        out += '\a';
        return;
      case 'b':
        out += '\b';
        return;
      case 'f':
        out += '\f';
        return;
      case 'n':
        out += '\n';
        return;
      case 'r':
        out += '\r';
        return;
      case 't':
        out += '\t';
        return;
      case 'v':
        out += '\v';
        return;
      case '\\':
      case '\'':
      case '"':
      case '?':
        out += c;
        return;
      case 'x':
      case 'X':
        out += static_cast<char>(hex(1, 2));
        return;
      case 'u':
        append_code_point(out, hex(4, 4));
        return;
      case 'U':
        append_code_point(out, hex(8, 8));
        return;
      default:
        if (!is_octal(c)) error("the escape \\{}", printable({&c, 1}));
        --at_;
        out += static_cast<char>(octal());
    }
  }

  void append_code_point(std::string& out, std::uint32_t code) {
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) error("\\U{:08x} is no character", code);
    append_utf8(out, code);
  }

  std::uint32_t hex(int least, int most) {
    std::uint32_t out = 0;
    int digits = 0;
    for (; digits < most && !at_end() && hex_digit(peek()) >= 0; ++digits, step())
      out = out << 4 | static_cast<std::uint32_t>(hex_digit(peek()));
    if (digits < least) error("an escape with {} of its {} digits", digits, least);
    return out;
  }

  std::uint32_t octal() {
    std::uint32_t out = 0;
    for (int digits = 0; digits < 3 && !at_end() && is_octal(peek()); ++digits, step())
      out = out << 3 | static_cast<std::uint32_t>(peek() - '0');
    return out;
  }

  void pass_over_stray_s() {
    const bool stray = !at_end() && peek() == 's' && (at_ + 1 == text_.size() || !is_word(text_[at_ + 1]));
    if (!stray) return;
    warnings_.push_back(fmt::format("{}:{}: a stray 's' behind the string is passed over", *file_, line_));
    step();
  }

  ConfigTree word_or_number() {
    ConfigTree out = node(Kind::kScalar);
    const bool negative = take('-');
    if (!at_end() && is_letter(peek())) {
      out.text = word(negative);
    } else {
      out.text = number(negative);
    }
    skip_space();
    return out;
  }

  std::string word(bool negative) {
    const std::size_t begin = at_;
    while (!at_end() && is_word(peek())) step();
    const std::string_view text = text_.substr(begin, at_ - begin);
    if (same_word(text, "inf") || same_word(text, "infinity")) return negative ? "-.inf" : ".inf";
    if (same_word(text, "nan")) return ".nan";
    if (negative) error("\"-{}\" is no number", printable(text));
    return std::string(text);
  }

  std::string number(bool negative) {
    const std::size_t begin = at_;
    while (!at_end() && (is_digit(peek()) || is_letter(peek()) || peek() == '.' || sign_of_exponent(begin)))
      step();
    std::string_view text = text_.substr(begin, at_ - begin);
    if (text.empty()) error("{} where a value is expected", shown());
    const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    if (!hexadecimal && lower(text.back()) == 'f') text.remove_suffix(1);
    std::string out(text);
    if (hexadecimal) out[1] = 'x';
    const bool plain = text.find('_') == std::string_view::npos && (is_digit(text[0]) || text[0] == '.');
    if (text.empty() || !plain || !parse_double(out)) error("\"{}\" is no number", printable(text));
    return negative ? '-' + out : out;
  }

  // The sign in 1e-4.
  bool sign_of_exponent(std::size_t begin) const {
    return (peek() == '-' || peek() == '+') && at_ > begin && lower(text_[at_ - 1]) == 'e' &&
           !text_.substr(begin).starts_with("0x");
  }

  ConfigTree node(Kind kind) {
    if (++nodes_ > kMaxNodes) error("more than {} values", kMaxNodes);
    return {.kind = kind, .file = file_, .line = line_};
  }

  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return text_[at_]; }

  void step() {
    if (text_[at_] == '\n') {
      ++line_;
      line_begin_ = at_ + 1;
    }
    ++at_;
  }

  // The character, with the space and comments behind it.
  bool take(char c) {
    if (at_end() || peek() != c) return false;
    step();
    skip_space();
    return true;
  }

  void skip_space() {
    while (!at_end()) {
      const char c = peek();
      if (c == '#') {
        while (!at_end() && peek() != '\n') step();
      } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f') {
        step();
      } else {
        return;
      }
    }
  }

  // What stands here, for messages.
  std::string shown() const {
    if (at_end()) return "the end of the text";
    std::size_t end = at_ + 1;
    while (end < text_.size() && is_word(text_[at_]) && is_word(text_[end])) ++end;
    return '"' + printable(text_.substr(at_, end - at_), 40) + '"';
  }

  template <class... Args>
  [[noreturn]] void error(fmt::format_string<Args...> what, Args&&... args) const {
    bad_input("{}:{}:{}: {}", *file_, line_, at_ - line_begin_ + 1,
              fmt::format(what, std::forward<Args>(args)...));
  }

  std::string_view text_;
  std::shared_ptr<const std::string> file_;
  std::size_t at_ = 0, line_begin_ = 0, nodes_ = 0;
  int line_ = 1;
  std::vector<std::string> warnings_;
};

}  // namespace

ProtobufText parse_protobuf_text(std::string_view text, const std::string& name) {
  require(text.size() <= kMaxText, "{}: {} bytes of text are more than the {} that are read", name,
          text.size(), kMaxText);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  ProtobufText out = Parser(text, name).parse();
  in_context(name, [&] { assign_paths(out.tree, ""); });
  return out;
}

}  // namespace osprey

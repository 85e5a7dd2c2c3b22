#include "arch/detectron2/comprehension.h"

#include <charconv>
#include <cmath>

#include "core/error.h"

namespace osprey::detectron2 {
namespace {

constexpr int kMaxDepth = 16;           // of parentheses and powers
constexpr std::size_t kMaxText = 1000;  // characters

// Python's arithmetic with no name but x: products, quotients, powers, parentheses.
class Expression {
 public:
  Expression(const ConfigTree& node, std::string_view text, double x) : node_(node), text_(text), x_(x) {}

  double product(int depth = 0) {
    double value = power(depth);
    for (;;) {
      if (take("*")) {
        value *= power(depth);
      } else if (take("/")) {
        value /= power(depth);
      } else {
        return value;
      }
    }
  }
  bool take(std::string_view token) {
    while (text_.starts_with(' ')) text_.remove_prefix(1);
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }
  bool at_end() { return take("") && text_.empty(); }
  [[noreturn]] void refuse() const {
    node_.refuse(
        "numbers, or Python of the form [[x, x * 2**(1.0/3)] for x in [32, 64]], which is all that is "
        "understood");
  }

 private:
  double power(int depth) {
    const double base = atom(depth);
    return take("**") ? std::pow(base, power(depth + 1)) : base;
  }
  double atom(int depth) {
    if (depth > kMaxDepth) refuse();
    if (take("(")) {
      const double value = product(depth + 1);
      if (!take(")")) refuse();
      return value;
    }
    if (take("x")) return x_;
    double value = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error != std::errc()) refuse();
    text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return value;
  }

  const ConfigTree& node_;
  std::string_view text_;
  double x_;
};

ConfigTree list_of(const ConfigTree& like) {
  ConfigTree list;
  list.kind = ConfigTree::Kind::kList;
  list.file = like.file;
  list.line = like.line;
  return list;
}

ConfigTree row_for(const ConfigTree& node, std::string_view products, double x) {
  Expression row(node, products, x);
  ConfigTree list = list_of(node);
  if (!row.take("[")) row.refuse();
  do {
    ConfigTree& item = list.items.emplace_back();
    item.kind = ConfigTree::Kind::kScalar;
    item.text = fmt::format("{}", row.product());
  } while (row.take(","));
  if (!row.take("]") || !row.at_end()) row.refuse();
  return list;
}

ConfigTree expand(const ConfigTree& node, std::string_view text) {
  constexpr std::string_view kFor = " for x in ";
  const auto split = text.find(kFor), last = text.rfind(']');
  if (text.size() > kMaxText || !text.starts_with('[') || split == std::string_view::npos ||
      last < split + kFor.size())
    Expression(node, text, 0).refuse();
  const ConfigTree numbers = decode_literal(text.substr(split + kFor.size(), last - split - kFor.size()));
  ConfigTree rows = list_of(node);
  for (const double x : numbers.as_doubles())
    rows.items.push_back(row_for(node, text.substr(1, split - 1), x));
  return rows;
}

}  // namespace

void expand_comprehensions(ConfigTree& tree) {
  for (ConfigTree& item : tree.items) expand_comprehensions(item);
  if (!tree.tag.starts_with("!!python/") || tree.tag == "!!python/tuple") return;
  const bool eval = tree.tag == "!!python/object/apply:eval" && tree.is_list() && tree.items.size() == 1;
  if (!eval || !tree.items[0].is_scalar())
    bad_input("{}: {} is Python code, which is never run", tree.where(), tree.tag);
  ConfigTree expanded = expand(tree, tree.items[0].text);
  expanded.key = tree.key;
  const std::string path = tree.path;
  tree = std::move(expanded);
  assign_paths(tree, path);
}

}  // namespace osprey::detectron2

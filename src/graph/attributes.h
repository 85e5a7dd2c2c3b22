// Attributes of ops as values: what one visitor per op gives to files, printing, equality and documentation.
//
// An op is a plain struct with defaults and one member template:
//   void fields(auto&& f) { f("stride", stride); f("padding", padding); }
// Field types: bool, int, std::int64_t, float, std::string, vectors of int / std::int64_t / float, and enums
// for which `enum_names(E)` is found by argument-dependent lookup.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/error.h"

namespace osprey {

using AttributeValue =
    std::variant<bool, std::int64_t, float, std::string, std::vector<std::int64_t>, std::vector<float>>;

struct Attribute {
  std::string name;
  AttributeValue value;
  bool operator==(const Attribute&) const = default;
};
using Attributes = std::vector<Attribute>;

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
  { enum_names(e) } -> std::convertible_to<std::span<const std::string_view>>;
};

// Collects fields into values.
class AttributeWriter {
 public:
  void operator()(std::string_view name, bool v) { add(name, v); }
  void operator()(std::string_view name, int v) { add(name, std::int64_t{v}); }
  void operator()(std::string_view name, std::int64_t v) { add(name, v); }
  void operator()(std::string_view name, float v) { add(name, v); }
  void operator()(std::string_view name, const std::string& v) { add(name, v); }
  void operator()(std::string_view name, const std::vector<float>& v) { add(name, v); }
  void operator()(std::string_view name, const std::vector<std::int64_t>& v) { add(name, v); }
  void operator()(std::string_view name, const std::vector<int>& v) {
    add(name, std::vector<std::int64_t>(v.begin(), v.end()));
  }
  template <NamedEnum E>
  void operator()(std::string_view name, E v) {
    add(name, std::string(std::span<const std::string_view>(enum_names(v))[static_cast<std::size_t>(v)]));
  }
  Attributes take() { return std::move(out_); }

 private:
  void add(std::string_view name, AttributeValue value) {
    out_.push_back({std::string(name), std::move(value)});
  }
  Attributes out_;
};

// Fills fields from values. A field that is not there keeps its default; finish() refuses values that no
// field took, so that a file from a newer version is never half understood.
class AttributeReader {
 public:
  AttributeReader(std::string_view op, const Attributes& in) : op_(op), in_(in), used_(in.size(), false) {}

  void operator()(std::string_view name, bool& v) { take(name, v); }
  void operator()(std::string_view name, std::int64_t& v) { take(name, v); }
  void operator()(std::string_view name, std::string& v) { take(name, v); }
  void operator()(std::string_view name, std::vector<float>& v) { take_list(name, v); }
  void operator()(std::string_view name, std::vector<std::int64_t>& v) { take_list(name, v); }
  void operator()(std::string_view name, float& v);
  void operator()(std::string_view name, int& v);
  void operator()(std::string_view name, std::vector<int>& v);
  template <NamedEnum E>
  void operator()(std::string_view name, E& v) {
    std::string text;
    if (!take(name, text)) return;
    const std::span<const std::string_view> names = enum_names(v);
    for (std::size_t i = 0; i < names.size(); ++i)
      if (names[i] == text) {
        v = static_cast<E>(i);
        return;
      }
    bad_input("{}: {} has no value '{}'", op_, name, text);
  }
  void finish() const;

 private:
  const AttributeValue* find(std::string_view name);
  [[noreturn]] void wrong_type(std::string_view name) const;

  template <class T>
  bool take(std::string_view name, T& v) {
    const AttributeValue* value = find(name);
    if (!value) return false;
    const T* typed = std::get_if<T>(value);
    if (!typed) wrong_type(name);
    v = *typed;
    return true;
  }
  // An empty list in a text form carries no element type.
  template <class T>
  void take_list(std::string_view name, std::vector<T>& v) {
    const AttributeValue* value = find(name);
    if (!value) return;
    if (const auto* ints = std::get_if<std::vector<std::int64_t>>(value)) {
      v.assign(ints->begin(), ints->end());
    } else if (const auto* typed = std::get_if<std::vector<T>>(value)) {
      v = *typed;
    } else {
      wrong_type(name);
    }
  }

  std::string_view op_;
  const Attributes& in_;
  std::vector<bool> used_;
};

// "2", "1e-05", "true", "'text'", "[1, 2]": floats always carry a point or exponent, and read back exactly.
std::string to_string(const AttributeValue& value);

}  // namespace osprey

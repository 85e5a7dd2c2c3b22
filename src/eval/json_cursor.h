// Walks the outside of a large JSON text: the members of its top object and the elements of its arrays come
// as slices, without a tree in memory. A slice is found by counting brackets outside of strings; what is
// inside is the business of whoever parses the slice, and values that are skipped are only checked for
// balance.
#pragma once

#include <string_view>

#include "core/error.h"

namespace osprey {

class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text) : text_(text) {}

  // The first byte that is no white space, without consuming it.
  char peek();

  // Consumes one value of any kind and returns its text.
  std::string_view value();

  // For an object: member(key, *this) must consume the value, with one of these functions. The key is raw
  // text.
  template <class Member>
  void members(Member&& member) {
    open('{', "an object");
    if (closed('}')) return;
    do {
      require(peek() == '"', "JSON: expected a key in double quotes at byte {}", at_);
      auto key = value();
      key = key.substr(1, key.size() - 2);
      expect(':');
      member(key, *this);
    } while (another('}'));
  }

  // For an array: element(text) for each.
  template <class Element>
  void elements(Element&& element) {
    open('[', "an array");
    if (closed(']')) return;
    do element(value());
    while (another(']'));
  }

  // Nothing but white space may follow.
  void finish();

 private:
  void open(char bracket, std::string_view what);
  bool closed(char bracket);
  bool another(char bracket);
  void expect(char c);
  void skip_string();

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace osprey

// One small JSON text as values that say what is wrong with them: each knows the key it stands under.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <simdjson.h>

#include "core/error.h"

namespace osprey {

class JsonValue {
 public:
  JsonValue(simdjson::dom::element element, std::string_view key) : element_(element), key_(key) {}

  std::string_view key() const { return key_; }
  bool is_array() const { return element_.is_array(); }
  bool is_string() const { return element_.is_string(); }

  double number() const;  // finite, as JSON has no other
  // A whole number; 12.0 passes, as it does in Python.
  std::int64_t integer(std::int64_t low = std::numeric_limits<std::int64_t>::min(),
                       std::int64_t high = std::numeric_limits<std::int64_t>::max()) const;
  bool flag() const;  // true, false, 0 or another number
  std::string_view text() const;
  std::vector<double> numbers() const;

  template <class Each>
  void each(Each&& f) const {
    simdjson::dom::array array;
    if (element_.get(array) != simdjson::SUCCESS) wrong("an array");
    for (const auto item : array) f(JsonValue(item, key_));
  }
  template <class Member>
  void members(Member&& f) const {
    simdjson::dom::object object;
    if (element_.get(object) != simdjson::SUCCESS) wrong("an object");
    for (const auto [key, item] : object) f(key, JsonValue(item, key));
  }

 private:
  [[noreturn]] void wrong(std::string_view expected) const;

  simdjson::dom::element element_;
  std::string_view key_;
};

// Keys that an object must have, noted as they pass.
class KeysSeen {
 public:
  bool is(std::string_view key, std::string_view wanted) {
    if (key != wanted) return false;
    seen_.push_back(wanted);
    return true;
  }
  void require_all(std::initializer_list<std::string_view> wanted) const;

 private:
  std::vector<std::string_view> seen_;  // literals
};

class JsonParser {
 public:
  // The text as one object; what it returns is valid until the next call.
  JsonValue object(std::string_view text);
  // Its "id" for a message, if it has one that can be read.
  std::optional<std::int64_t> id_of(std::string_view text);

 private:
  simdjson::dom::parser parser_;
};

}  // namespace osprey

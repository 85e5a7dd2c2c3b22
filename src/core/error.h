// How the library throws: one line where it fails, formatted with {}; context is added on the way up.
#pragma once

#include <string>
#include <utility>

#include <fmt/core.h>

#include "osprey/error.h"

namespace osprey {

template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> text, Args&&... args) {
  throw Error(code, fmt::format(text, std::forward<Args>(args)...));
}

// A file or tensor from outside is not what it must be.
template <class... Args>
[[noreturn]] void bad_input(fmt::format_string<Args...> text, Args&&... args) {
  throw Error(ErrorCode::kBadInput, fmt::format(text, std::forward<Args>(args)...));
}

// bad_input unless the condition holds.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) [[unlikely]]
    bad_input(text, std::forward<Args>(args)...);
}

// Our own invariants: a failure is a bug, reported with exit status 1.
template <class... Args>
void check(bool condition, fmt::format_string<Args...> text, Args&&... args) {
  if (!condition) [[unlikely]]
    fail(ErrorCode::kInternal, text, std::forward<Args>(args)...);
}

// Runs `body`; an Error that leaves it gets "`where`: " in front, so that messages read from the outside in.
template <class Body>
auto in_context(const std::string& where, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error& e) {
    throw Error(e.code(), where + ": " + e.what());
  }
}

}  // namespace osprey

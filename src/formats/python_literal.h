// Numbers and literals as Python writes them: the headers of .npy files and the values of yacs configs.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "formats/config_tree.h"

namespace osprey {

// What ast.literal_eval accepts: None, True, False, numbers, quoted text, tuples and lists (both become
// lists) and dicts with text for keys, to 32 levels. None for anything else, also when a literal is followed
// by other text.
std::optional<ConfigTree> parse_python_literal(std::string_view text);

// PyYAML's integers (0x, 0b, 0 for octal, _ between digits) and Python's 0o.
std::optional<std::int64_t> parse_int(std::string_view text);
// Integers; Python's floats; YAML's .inf and .nan.
std::optional<double> parse_double(std::string_view text);
// YAML 1.1: yes no on off true false, in lower, upper and title case.
std::optional<bool> parse_bool(std::string_view text);
// YAML 1.1: nothing, ~, null.
bool is_yaml_null(std::string_view text);

}  // namespace osprey

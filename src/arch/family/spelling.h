// "Did you mean": for names that a user mistyped.
#pragma once

#include <cstddef>
#include <string_view>

namespace osprey {

// How many characters must be inserted, dropped or replaced to make one of the other (Levenshtein).
std::size_t edit_distance(std::string_view a, std::string_view b);

}  // namespace osprey

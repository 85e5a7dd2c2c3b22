// Text into JSON. (Numbers need no help: fmt prints the shortest digits that read back as the same float or
// double.)
#pragma once

#include <string>
#include <string_view>

namespace osprey {

// In double quotes and escaped; bytes that are no UTF-8 become U+FFFD.
std::string json_string(std::string_view text);

}  // namespace osprey

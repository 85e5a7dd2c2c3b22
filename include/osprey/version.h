// The version of this Osprey, as `osprey --version` prints it.
#pragma once

namespace osprey {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace osprey

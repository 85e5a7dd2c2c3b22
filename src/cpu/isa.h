// What the CPU and oneDNN on it can do.
#pragma once

#include <string>

namespace osprey {

std::string cpu_isa();         // what oneDNN uses: "AVX-512 with VNNI and bf16"
bool cpu_has_bf16();           // bf16 products in hardware (AVX512_BF16 or AMX)
std::string onednn_version();  // "3.2.0"

}  // namespace osprey

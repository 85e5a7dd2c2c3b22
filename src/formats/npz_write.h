// Writing NumPy's .npz: an uncompressed zip of .npy files, readable by numpy.load.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "core/tensor.h"

namespace osprey {

// bf16 and f16 values are written as f32, since NumPy has no bfloat16. The file appears whole or not at all.
void write_npz(const std::filesystem::path& file, const std::map<std::string, Tensor>& tensors);

}  // namespace osprey

// Snappy's block format (github.com/google/snappy, format_description.txt): blocks of TensorFlow's index
// files are compressed with it.
#pragma once

#include <cstddef>
#include <vector>

#include "core/bytes.h"

namespace osprey {

// The decompressed block. Bad input when it is damaged or says that it holds more than `limit` bytes; memory
// stays below 22 times the block's own size whatever it says.
std::vector<std::byte> snappy_decompress(Bytes block, std::size_t limit);

}  // namespace osprey

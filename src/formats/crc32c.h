// CRC-32C (Castagnoli), the checksum of TensorFlow's files.
#pragma once

#include <cstdint>

#include "core/bytes.h"

namespace osprey {

// Of `bytes`, or of what `crc` was computed of followed by `bytes`.
std::uint32_t crc32c(Bytes bytes, std::uint32_t crc = 0);

// As LevelDB and TensorFlow store it, so that a checksum of data that holds checksums stays meaningful.
inline std::uint32_t masked_crc32c(std::uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; }

// Whether a reader compares checksums. Only fuzz targets do without: hardly a damaged file gets past them.
enum class Checksums : std::uint8_t { kVerify, kIgnore };

}  // namespace osprey

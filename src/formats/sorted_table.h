// LevelDB's table (SSTable) as TensorFlow writes it, the index of a tensor bundle: blocks of sorted keys,
// each sharing a prefix with the one before it, plain or compressed with Snappy, and each with a CRC-32C.
//
//   file:   data blocks, a metaindex block, an index block (last key of each data block -> its place), footer
//   footer: two places as varints, padded to 40 bytes; the magic number
#pragma once

#include <functional>
#include <string_view>

#include "core/bytes.h"
#include "formats/crc32c.h"

namespace osprey {

// Whether the bytes end as a table does.
bool is_sorted_table(Bytes file);

using TakeEntry = std::function<void(std::string_view key, Bytes value)>;

// Hands over every entry in order; what it hands over lasts for the call. Every block is checked before it is
// used. Throws Error(kBadInput) without the file's name. Limits: 4 KiB a key, 64 MiB a block; blocks must
// follow each other and keys must ascend, so that time and memory are bounded by the file's size.
void read_sorted_table(Bytes file, const TakeEntry& take, Checksums checksums = Checksums::kVerify);

}  // namespace osprey

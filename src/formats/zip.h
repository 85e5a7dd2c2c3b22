// Zip archives, with zip64: the central directory, and entries that are stored or deflated. Encrypted, split
// and otherwise compressed ones are refused by name. After PKWARE's APPNOTE 6.3.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/source.h"

namespace osprey {

struct ZipEntry {
  std::string name;
  bool deflated = false;
  std::uint32_t crc = 0;
  std::uint64_t size = 0;  // of the contents
  Bytes raw;               // as stored in the file
};

// Contents, and what keeps them alive: the archive's file, or memory of their own.
struct ZipData {
  Bytes bytes;
  std::shared_ptr<const void> owner;
};

class ZipArchive {
 public:
  // Reads the directory. Throws Error(kBadInput). Limit: 200,000 entries.
  explicit ZipArchive(const Source& source);

  const std::vector<ZipEntry>& entries() const { return entries_; }
  const ZipEntry* find(const std::string& name) const;

  // The bytes of an entry that is stored uncompressed; refuses others by name.
  Bytes stored(const ZipEntry& entry) const;
  // The contents, inflated if need be, with their CRC checked then. Refuses more than `limit` bytes.
  ZipData read(const ZipEntry& entry, std::uint64_t limit) const;
  // The first `size` bytes of the contents, or fewer at their end.
  ZipData read_start(const ZipEntry& entry, std::uint64_t size) const;

 private:
  std::shared_ptr<const void> owner_;
  std::vector<ZipEntry> entries_;
  std::map<std::string, std::size_t> index_;
};

}  // namespace osprey

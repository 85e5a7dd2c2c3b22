// Files: mapped for reading, written whole or not at all.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/bytes.h"

namespace osprey {

// A read-only mapping of a whole file. Shared, because tensors that were read from it keep it alive.
class MappedFile {
 public:
  // Throws Error(kBadInput) naming the file when it cannot be opened or is no regular file.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& file);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  Bytes bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The whole of a small text file. Throws when it is larger than `limit` bytes.
std::string read_text(const std::filesystem::path& file, std::size_t limit = 64u << 20);

// A file that appears under its name only when commit() succeeds: written beside the target, synced, renamed.
// Without commit() the temporary file is removed.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(Bytes bytes);
  void write(std::string_view text) { write(as_bytes(text)); }
  std::uint64_t offset() const { return offset_; }
  // Overwrites bytes already written, for headers that are known last.
  void write_at(std::uint64_t offset, Bytes bytes);
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  int fd_ = -1;
  std::uint64_t offset_ = 0;
};

void write_file(const std::filesystem::path& file, std::string_view text);

}  // namespace osprey

// Untrusted bytes: views, arithmetic that cannot wrap, and a reader that cannot run past the end.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "core/error.h"

namespace osprey {

using Bytes = std::span<const std::byte>;

inline Bytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// a * b and a + b of sizes from a file; an overflow is bad input, named by `what`.
inline std::uint64_t checked_mul(std::uint64_t a, std::uint64_t b, std::string_view what) {
  std::uint64_t out = 0;
  require(!__builtin_mul_overflow(a, b, &out), "{}: {} x {} overflows", what, a, b);
  return out;
}
inline std::uint64_t checked_add(std::uint64_t a, std::uint64_t b, std::string_view what) {
  std::uint64_t out = 0;
  require(!__builtin_add_overflow(a, b, &out), "{}: {} + {} overflows", what, a, b);
  return out;
}

// bytes[offset, offset + size), or an error that says what was being read.
inline Bytes slice(Bytes bytes, std::uint64_t offset, std::uint64_t size, std::string_view what) {
  require(offset <= bytes.size() && size <= bytes.size() - offset,
          "{}: needs bytes {} to {} + {}, but only {} are there (is the file truncated?)", what, offset,
          offset, size, bytes.size());
  return bytes.subspan(offset, size);
}

// A cursor over little-endian data.
class ByteReader {
 public:
  explicit ByteReader(Bytes bytes, std::string_view what = "data") : bytes_(bytes), what_(what) {}

  std::size_t offset() const { return offset_; }
  std::size_t remaining() const { return bytes_.size() - offset_; }
  bool done() const { return offset_ == bytes_.size(); }

  Bytes take(std::uint64_t size) {
    const Bytes out = slice(bytes_, offset_, size, what_);
    offset_ += size;
    return out;
  }

  template <class T>
  requires std::is_trivially_copyable_v<T> T read() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  // Text up to and without the next newline.
  std::string_view line() {
    const auto rest = as_text(bytes_.subspan(offset_));
    const auto end = rest.find('\n');
    require(end != std::string_view::npos, "{}: a line without an end at offset {} (truncated?)", what_,
            offset_);
    offset_ += end + 1;
    return rest.substr(0, end);
  }

  void seek(std::uint64_t offset) {
    require(offset <= bytes_.size(), "{}: offset {} lies past the end ({})", what_, offset, bytes_.size());
    offset_ = offset;
  }

 private:
  Bytes bytes_;
  std::string_view what_;
  std::size_t offset_ = 0;
};

}  // namespace osprey

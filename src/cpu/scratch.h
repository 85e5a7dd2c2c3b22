// Dividing a kernel's scratch into arrays: once without memory, for the size to request, and again in run().
#pragma once

#include <cstddef>
#include <cstdint>

namespace osprey {

class ScratchLayout {
 public:
  ScratchLayout() = default;
  explicit ScratchLayout(std::byte* memory) : memory_(memory) {}

  // `count` elements, 64-byte aligned; null while there is no memory.
  template <class T>
  T* take(std::int64_t count) {
    T* out = memory_ ? reinterpret_cast<T*>(memory_ + size_) : nullptr;
    size_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return out;
  }
  std::size_t size() const { return size_; }

 private:
  std::byte* memory_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace osprey

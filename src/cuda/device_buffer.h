// Device and pinned host memory with owners.
#pragma once

#include <cstddef>
#include <span>

#include "core/bytes.h"

namespace osprey {

class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(
      std::size_t bytes);  // plain cudaMalloc; Error(kDevice) when the device is out of memory
  static DeviceBuffer holding(Bytes host);  // a copy of what the host has
  ~DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Page-locked memory, from which copies to the device run beside other work.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace osprey

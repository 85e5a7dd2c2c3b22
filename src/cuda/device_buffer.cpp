#include "cuda/device_buffer.h"

#include <utility>

#include <fmt/format.h>

#include "cuda/check.h"

namespace osprey {

DeviceBuffer::DeviceBuffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* data = nullptr;
  cuda_check(cudaMalloc(&data, bytes), fmt::format("allocating {} MiB on the GPU", (bytes >> 20) + 1));
  data_ = static_cast<std::byte*>(data);
}

DeviceBuffer DeviceBuffer::holding(Bytes host) {
  DeviceBuffer out(host.size());
  if (!host.empty())
    cuda_check(cudaMemcpy(out.data_, host.data(), host.size(), cudaMemcpyHostToDevice), "copying to the GPU");
  return out;
}

DeviceBuffer::~DeviceBuffer() { cudaFree(data_); }

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

PinnedBuffer::PinnedBuffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  void* data = nullptr;
  cuda_check(cudaMallocHost(&data, bytes), fmt::format("pinning {} MiB of memory", (bytes >> 20) + 1));
  data_ = static_cast<std::byte*>(data);
}

PinnedBuffer::~PinnedBuffer() { cudaFreeHost(data_); }

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace osprey

// Device memory between guard words, for tests.
#pragma once

#include <algorithm>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "core/tensor.h"
#include "cuda/check.h"
#include "cuda/device_buffer.h"

namespace osprey {

inline constexpr std::byte kGuardByte{0xA5};

class GuardedDevice {
 public:
  explicit GuardedDevice(std::size_t size, std::byte fill = kGuardByte)
      : size_(size), fill_(fill), memory_(size + 2 * kGuard) {
    std::vector<std::byte> host(memory_.size(), kGuardByte);
    cuda_check(cudaMemcpy(memory_.data(), host.data(), host.size(), cudaMemcpyHostToDevice), "guard words");
    reset();
  }
  std::byte* data() const { return memory_.data() + kGuard; }
  std::size_t size() const { return size_; }

  void reset() { cuda_check(cudaMemset(data(), static_cast<int>(fill_), size_), "garbage"); }
  void upload(Bytes from) {
    check(from.size() <= size_, "harness: {} bytes into {}", from.size(), size_);
    if (from.empty()) return;
    cuda_check(cudaMemcpy(data(), from.data(), from.size(), cudaMemcpyHostToDevice), "upload");
  }
  std::vector<std::byte> download(std::size_t bytes) const {
    std::vector<std::byte> out(bytes);
    cuda_check(cudaMemcpy(out.data(), data(), bytes, cudaMemcpyDeviceToHost), "download");
    return out;
  }
  bool intact() const {
    std::vector<std::byte> all(memory_.size());
    cuda_check(cudaMemcpy(all.data(), memory_.data(), all.size(), cudaMemcpyDeviceToHost), "guard words");
    const auto ok = [](std::byte b) { return b == kGuardByte; };
    return std::all_of(all.begin(), all.begin() + kGuard, ok) &&
           std::all_of(all.end() - std::ptrdiff_t{kGuard}, all.end(), ok);
  }

  // What a kernel wrote, and nothing beside it.
  Tensor result(DType type, Shape dims) const {
    EXPECT_TRUE(intact()) << "wrote beside the result";
    Tensor out = Tensor::zeros(type, std::move(dims));
    std::ranges::copy(download(out.bytes().size()), out.mutable_data());
    return out;
  }

 private:
  static constexpr std::size_t kGuard = 4096;  // bytes on each side, so that alignment stays

  std::size_t size_;
  std::byte fill_;
  DeviceBuffer memory_;
};

}  // namespace osprey

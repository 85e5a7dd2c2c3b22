// A run of a step on random numbers, for measurements.
#pragma once

#include <span>
#include <vector>

#include "cuda/kernel.h"

namespace osprey {

class BenchRun final : public CudaRun {
 public:
  // Of a step of these nodes: their inputs but the weights, and their first outputs.
  BenchRun(std::span<CudaPrepare* const> members, std::size_t scratch);

  const CudaValue& in(std::size_t i) const override { return ins_.at(i); }
  const CudaValue& out(std::size_t i) const override { return outs_.at(i); }
  bool has_input(std::size_t i) const override { return i < ins_.size() && ins_[i].data != nullptr; }
  std::byte* scratch() const override { return scratch_.data(); }
  cudaStream_t stream() const override { return stream_; }
  const CudaPhotos& photos() const override { return photos_; }
  const CudaParameters* parameters() const override { return nullptr; }

 private:
  CudaValue filled(CudaValue value);

  std::vector<CudaValue> ins_, outs_;
  std::vector<DeviceBuffer> buffers_;
  DeviceBuffer scratch_;
  cudaStream_t stream_;
  CudaPhotos photos_;
};

}  // namespace osprey

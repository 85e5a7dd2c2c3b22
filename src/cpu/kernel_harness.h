// For tests and benchmarks: runs the CPU kernel of one op on given tensors, as the executor would.
//
// Every buffer (inputs, outputs, scratch) is exactly as large as the contract says and lies between guard
// words that are checked afterwards; outputs and scratch start as garbage. The step runs twice and must give
// the same bytes both times, so that nothing leaks from one run into the next.
#pragma once

#include <vector>

#include "cpu/kernel.h"

namespace osprey {

struct KernelInput {
  Tensor data;  // C order; without a shape: an optional input that is left out
  CpuLayout layout{};
  std::int64_t bound =
      0;  // above 0: the first extent is data-dependent, at most this, and data has the live rows
};

struct KernelCase {
  Op op;
  std::vector<KernelInput> inputs;
  CpuLayout output_layout{};  // of 4-D outputs
  int threads = 1;
  RunParameters parameters{};
  std::vector<ImageView> photos{};
  DimBindings bindings{};  // symbols that the op's outputs bring in
};

// The outputs in C order, with their live rows.
std::vector<Tensor> run_kernel(const KernelCase& test);

// The least of `runs` timings, in seconds: on the wall, and of processor time of all threads together, which
// other programs on the machine disturb less.
struct KernelTime {
  double wall = 0, processor = 0;
};
KernelTime time_kernel(const KernelCase& test, int runs);

// Uniform numbers, the same on every machine.
std::vector<float> random_floats(std::int64_t count, float low, float high, std::uint32_t seed);
Tensor random_tensor(Shape shape, float low, float high, std::uint32_t seed);
template <class T>
Tensor tensor_of(const std::vector<T>& values, Shape shape) {
  return Tensor::from<T>(std::span<const T>(values), std::move(shape));
}

// Between C order and a layout; padded channels are zero.
std::vector<std::byte> to_layout(const Tensor& plain, CpuLayout layout);
Tensor from_layout(const CpuValue& value);

}  // namespace osprey

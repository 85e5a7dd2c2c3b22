// For tests on a GPU: runs the CUDA kernel of one op on given tensors, as the executor would, with the same
// cases that the CPU's harness takes (cpu/kernel_harness.h), so that the CPU kernel is the oracle.
//
// Every buffer (inputs, outputs, row counts, scratch) lies between guard words that are checked afterwards;
// outputs, scratch and spare rows start as garbage. The step is launched twice as it is and once more by a
// captured and replayed CUDA graph, and must give the same bytes each time and leave its inputs alone. Where
// the kernel may work in place, it does so once, too.
//
// OSPREY_SHORT_CASES in the environment is for tools that make kernels a thousand times slower (racecheck): a
// test then runs its first small cases and every seventh one, each a single time, and takes the oracle's word
// for the others; how many were left out is told at the end. A test whose cases are all large asks
// short_cases() for smaller ones.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cpu/kernel_harness.h"

namespace osprey {

// Whether there is a GPU; `why` says why not.
bool cuda_available(std::string* why = nullptr);

// Whether cases are to be few and small (OSPREY_SHORT_CASES).
bool short_cases();

// For the test that calls it: cases of up to so many numbers count as small, where a path of the kernel is
// for no fewer.
void take_as_small(std::size_t numbers);

// The outputs in C order (4-D floats are channels last on the device), with their live rows. Inputs are in C
// order and of the types that the kernel shall see: f32, f16 or bf16. An input whose tensor has no shape is
// an optional one left out. `layout` and `threads` of the case are the CPU's and mean nothing here.
//
// Photos lie in slots of the class that the executor would choose: the largest sides rounded up to powers of
// two, at least 512. Without photos, that class is made for the original sizes in an input f32[N,6], which is
// taken for the geometry of ops/resize_image.h.
std::vector<Tensor> run_cuda(const KernelCase& test);

// For benchmarks: seconds between launches in a CUDA graph of `launches`, the least of `runs` replays.
double time_cuda(const KernelCase& test, int launches, int runs);

// The CPU's outputs for the case, in f32 arithmetic, its f16 and bf16 inputs widened.
std::vector<Tensor> run_oracle(const KernelCase& test);

// f32 values rounded to `type`, to nearest even; other element types and f32 stay as they are.
Tensor rounded_to(const Tensor& values, DType type);

// Same shapes; integers equal; each float within `tolerance` of the largest finite magnitude of its tensor in
// `want`, which is first rounded to the type that `got` has. 0: the same values. NaN and infinities must
// match.
void expect_close(const std::vector<Tensor>& got, const std::vector<Tensor>& want, double tolerance,
                  const std::string& what);

// run_cuda against run_oracle.
void expect_as_on_cpu(const KernelCase& test, double tolerance, const std::string& what);

}  // namespace osprey

// A run that must not skip (scripts/gpu.sh) sets OSPREY_REQUIRE_GPU.
#define SKIP_WITHOUT_GPU()                                                                      \
  if (std::string why_; !osprey::cuda_available(&why_)) {                                       \
    if (std::getenv("OSPREY_REQUIRE_GPU")) FAIL() << "OSPREY_REQUIRE_GPU is set, but " << why_; \
    GTEST_SKIP() << why_;                                                                       \
  }

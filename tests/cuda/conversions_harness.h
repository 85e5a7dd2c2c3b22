// Of the harness, what concerns conversions that kernels do themselves (cuda/conversions.h).
#pragma once

#include <optional>

#include "cuda/cuda_harness.h"
#include "ops/dequantize.h"
#include "ops/quantize.h"

namespace osprey {

struct Conversions {
  std::vector<Dequantize> maps;    // of the first inputs, which the case has in integers
  std::optional<Quantize> result;  // of output 0
};

// run_cuda() of the case's op between these, which are its kernel's work. The short form leaves none out.
std::vector<Tensor> run_cuda(const KernelCase& test, const Conversions& conversions);

}  // namespace osprey

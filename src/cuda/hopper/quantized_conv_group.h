// Convolutions of 8-bit integers that do not wait for each other in one launch, on a Hopper GPU: one of any
// size, the levels of a head, heads that read the same maps. What each makes is in ops/quantized_conv.h; maps
// are channels last.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "core/tensor.h"
#include "cuda/hopper/conv_shape.h"
#include "cuda/score_flags.h"
#include "ops/quantized_conv.h"

namespace osprey {

inline constexpr int kMostQuantizedGrouped = 16;

// What is added to a convolution, of the result's size or of half of it each way.
struct QuantizedResidual {
  DType type = DType::kI8;
  int upsampling = 1;
  float scale = 1;
};

struct QuantizedGroupedConv {
  ConvShape shape;
  StoredType to = StoredType::kI8;
  Activation activation = Activation::kNone;
  float y_scale = 1;
  QuantizedResidual residual;
  const void *x = nullptr, *residual_data = nullptr;  // residual: null: none
  const void* weight = nullptr;                       // as quantized_grouped_weight() packs it
  const void* terms = nullptr;                        // as quantized_grouped_terms() does
  const int* live = nullptr;                          // images that mean anything; null: all
  void* y = nullptr;
  // Of f32 that are sums, in multiples of kFlaggedTogether outputs: may be there in part.
  ScoreFlags scores = {};
};

// Whether it is one of those, but for the pointers.
bool can_group(const QuantizedGroupedConv& conv);

// Of weight i8 [O,C,side,side], in C order: i8. All integers are packed alike.
Tensor quantized_grouped_weight(const Tensor& weight, StoredType to);

// Of scale and bias, f32 [O], of the weight's channels; bias empty: none. f32.
Tensor quantized_grouped_terms(const QuantizedGroupedConv& conv, const Tensor& scale, const Tensor& bias,
                               float x_scale);

// How the work may be cut into tiles, by name; which is fastest is for measurements to tell. The results are
// the same.
std::vector<std::string> quantized_group_ways(std::span<const QuantizedGroupedConv> convs);

// All of x are of `type`, i8 or u8. `way`: of quantized_group_ways(convs), by number. `multiprocessors` are
// the device's.
void launch_quantized_conv_group(std::span<const QuantizedGroupedConv> convs, DType type, std::size_t way,
                                 int multiprocessors, cudaStream_t stream);

}  // namespace osprey

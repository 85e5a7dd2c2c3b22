// TensorFlow's weights in the layouts of our ops. Data is permuted when a tensor is loaded, not before.
#pragma once

#include <string_view>

#include "core/named_tensor.h"

namespace osprey {

enum class TfLayout : std::uint8_t {
  kAsIs,
  kConv,       // [kh, kw, in, out] -> [out, in, kh, kw]
  kDepthwise,  // [kh, kw, in, multiplier] -> [in * multiplier, 1, kh, kw]
  kDense,      // [in, out] -> [out, in]
};

// By the variable's own name (the last part of `name` between slashes) and its rank: "depthwise_kernel" and
// "depthwise_weights"; "kernel", "pointwise_kernel", "weights" and the like of rank 4 (convolutions, a
// separable one's second half too) and of rank 2 (dense layers).
TfLayout tf_layout(std::string_view name, std::size_t rank);

// The tensor as our ops take it. Bad input when its rank does not fit the layout.
NamedTensor from_tf(NamedTensor tensor, TfLayout layout);

// A 1x1 convolution's [1, 1, in, out], which works on vectors, as a dense layer's [in, out]; others as they
// are.
NamedTensor without_window(NamedTensor tensor);

}  // namespace osprey

// Weights of convolutions as oneDNN takes them. Groups so narrow that they fill no vector are merged:
// block-diagonal weights, zeros elsewhere.
#pragma once

#include <dnnl.hpp>

#include "core/tensor.h"
#include "graph/dim.h"

namespace osprey {

struct ConvWeights {
  dnnl::memory::dims dims;  // [groups,] O, I, kh, kw
  int groups = 1;
  int merged = 1;            // groups of the model in one of these
  double flops_a_pixel = 0;  // of the model's own, without what merging adds

  // Of weights [O, I/groups, kh, kw]. `lanes`: channels that fill a vector.
  ConvWeights(const TensorType& type, int model_groups, std::int64_t lanes);

  dnnl::memory::format_tag plain_tag() const {
    return dims.size() == 5 ? dnnl::memory::format_tag::abcde : dnnl::memory::format_tag::abcd;
  }
  // The model's weights with their groups merged, of the same element type.
  Tensor merge(const Tensor& given) const;
};

}  // namespace osprey

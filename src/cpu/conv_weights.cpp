#include "cpu/conv_weights.h"

#include <cstring>

namespace osprey {
namespace {

int merged_groups(std::int64_t in, std::int64_t out, int groups, std::int64_t lanes) {
  if (groups == 1 || (in == 1 && out == 1)) return 1;  // depthwise has kernels of its own
  int merged = 1;
  while (groups % (merged * 2) == 0 && (in * merged % lanes != 0 || out * merged % lanes != 0)) merged *= 2;
  return merged;
}

}  // namespace

ConvWeights::ConvWeights(const TensorType& type, int model_groups, std::int64_t lanes) {
  const std::int64_t o = type.dims[0].constant(), i = type.dims[1].constant(), kh = type.dims[2].constant(),
                     kw = type.dims[3].constant();
  merged = merged_groups(i, o / model_groups, model_groups, lanes);
  groups = model_groups / merged;
  flops_a_pixel = 2.0 * static_cast<double>(o * i * kh * kw);
  if (groups == 1) {
    dims = {o, i * merged, kh, kw};
  } else {
    dims = {groups, o / groups, i * merged, kh, kw};
  }
}

Tensor ConvWeights::merge(const Tensor& given) const {
  if (merged == 1) return given;
  const std::int64_t o = given.dim(0), i = given.dim(1), taps = given.dim(2) * given.dim(3),
                     each = o / (groups * merged);
  Tensor out = Tensor::zeros(given.dtype(), {o, i * merged, given.dim(2), given.dim(3)});
  const std::size_t filter = static_cast<std::size_t>(i * taps) * size_of(given.dtype());
  for (std::int64_t k = 0; k < o; ++k) {
    const std::int64_t place = k / each % merged;  // of the group among those merged
    std::memcpy(out.mutable_data() + static_cast<std::size_t>(k * merged + place) * filter,
                given.bytes().data() + static_cast<std::size_t>(k) * filter, filter);
  }
  return out;
}

}  // namespace osprey

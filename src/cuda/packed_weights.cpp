#include "cuda/packed_weights.h"

#include <fmt/format.h>

namespace osprey {

Tensor as_type(const Tensor& f32, DType type) {
  if (type == DType::kF32) return f32;
  Tensor out = Tensor::zeros(type, f32.shape());
  const auto from = f32.values<float>();
  if (type == DType::kF16) {
    const auto to = out.mutable_values<Half>();
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = to_half(from[i]);
  } else {
    check(type == DType::kBF16, "weights as {}", name_of(type));
    const auto to = out.mutable_values<BFloat16>();
    for (std::size_t i = 0; i < from.size(); ++i) to[i] = to_bfloat16(from[i]);
  }
  return out;
}

Tensor transposed(const Tensor& f32) {
  const std::int64_t rows = f32.dim(0), columns = f32.dim(1);
  Tensor out = Tensor::zeros(DType::kF32, {columns, rows});
  const auto from = f32.values<float>();
  const auto to = out.mutable_values<float>();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      to[static_cast<std::size_t>(c * rows + r)] = from[static_cast<std::size_t>(r * columns + c)];
  return out;
}

Tensor permuted(const Tensor& f32, const std::array<std::size_t, 4>& axes) {
  const Shape& dims = f32.shape();
  const std::array<std::int64_t, 4> strides{dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3], 1};
  Tensor out = Tensor::zeros(DType::kF32, {dims[axes[0]], dims[axes[1]], dims[axes[2]], dims[axes[3]]});
  const float* from = f32.values<float>().data();
  float* to = out.mutable_values<float>().data();
  const Shape& to_dims = out.shape();
  for (std::int64_t a = 0; a < to_dims[0]; ++a)
    for (std::int64_t b = 0; b < to_dims[1]; ++b)
      for (std::int64_t c = 0; c < to_dims[2]; ++c)
        for (std::int64_t d = 0; d < to_dims[3]; ++d)
          *to++ =
              from[a * strides[axes[0]] + b * strides[axes[1]] + c * strides[axes[2]] + d * strides[axes[3]]];
  return out;
}

std::shared_ptr<const DeviceBuffer> packed_weight(const CudaPrepare& p, std::size_t i,
                                                  const std::string& what,
                                                  const std::function<Tensor(const Tensor& f32)>& pack) {
  return p.shared(fmt::format("{}:{}", what, p.node().inputs.at(i)),
                  [&] { return DeviceBuffer::holding(pack(p.weight(i).to_f32()).bytes()); });
}

std::shared_ptr<const DeviceBuffer> packed_vector(const CudaPrepare& p, std::size_t i, DType type) {
  return packed_weight(p, i, std::string(name_of(type)),
                       [&](const Tensor& f32) { return as_type(f32, type); });
}

}  // namespace osprey

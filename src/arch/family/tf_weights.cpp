#include "arch/family/tf_weights.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"

namespace osprey {
namespace {

// Axis i of the result is axis order[i] of the tensor.
using Order = std::vector<std::size_t>;

Order order_of(TfLayout layout) {
  switch (layout) {
    case TfLayout::kAsIs:
      break;
    case TfLayout::kConv:
      return {3, 2, 0, 1};
    case TfLayout::kDepthwise:
      return {2, 3, 0, 1};
    case TfLayout::kDense:
      return {1, 0};
  }
  return {};
}

Shape permuted(const Shape& shape, const Order& order) {
  Shape out;
  for (const std::size_t axis : order) out.push_back(shape[axis]);
  return out;
}

// `Size` bytes an element: known when compiled, so that a copy is one move.
template <std::size_t Size>
void permute(const Tensor& from, const Order& order, Tensor& to) {
  // Bytes from one element to the next along each axis of the result.
  std::vector<std::size_t> steps(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    steps[i] = Size;
    for (std::size_t axis = order[i] + 1; axis < order.size(); ++axis)
      steps[i] *= static_cast<std::size_t>(from.dim(axis));
  }
  const Shape extents = permuted(from.shape(), order);
  Shape index(order.size(), 0);
  const std::byte* source = from.bytes().data();
  std::byte* target = to.mutable_data();
  for (std::int64_t n = to.size(); n > 0; --n, target += Size) {
    std::memcpy(target, source, Size);
    for (std::size_t axis = order.size(); axis-- > 0;) {
      source += steps[axis];
      if (++index[axis] < extents[axis]) break;
      source -= steps[axis] * static_cast<std::size_t>(extents[axis]);
      index[axis] = 0;
    }
  }
}

Tensor permuted(const Tensor& from, const Order& order, const Shape& shape) {
  Tensor out = Tensor::zeros(from.dtype(), shape);
  switch (size_of(from.dtype())) {
    case 1:
      permute<1>(from, order, out);
      break;
    case 2:
      permute<2>(from, order, out);
      break;
    case 4:
      permute<4>(from, order, out);
      break;
    default:
      permute<8>(from, order, out);
  }
  return out;
}

}  // namespace

TfLayout tf_layout(std::string_view name, std::size_t rank) {
  const std::string_view own = name.substr(name.rfind('/') + 1);
  const auto is_one_of = [&](const auto& names) {
    return std::find(names.begin(), names.end(), own) != names.end();
  };
  if (rank == 4 && is_one_of(std::array<std::string_view, 2>{"depthwise_kernel", "depthwise_weights"}))
    return TfLayout::kDepthwise;
  if (!is_one_of(
          std::array<std::string_view, 4>{"kernel", "pointwise_kernel", "weights", "pointwise_weights"}))
    return TfLayout::kAsIs;
  return rank == 4 ? TfLayout::kConv : rank == 2 ? TfLayout::kDense : TfLayout::kAsIs;
}

NamedTensor from_tf(NamedTensor tensor, TfLayout layout) {
  if (layout == TfLayout::kAsIs) return tensor;
  const Order order = order_of(layout);
  require(tensor.shape.size() == order.size(), "{}: is {}, expected {} dimensions", tensor.name,
          to_string(tensor.shape), order.size());
  Shape shape = permuted(tensor.shape, order);
  if (layout == TfLayout::kDepthwise) {
    element_count(tensor.shape, tensor.name);  // or the product below could overflow
    shape = {shape[0] * shape[1], 1, shape[2], shape[3]};
  }
  tensor.load = [load = std::move(tensor.load), order, shape] { return permuted(load(), order, shape); };
  tensor.shape = std::move(shape);
  return tensor;
}

NamedTensor without_window(NamedTensor tensor) {
  if (tensor.shape.size() != 4 || tensor.shape[0] != 1 || tensor.shape[1] != 1) return tensor;
  const Shape shape{tensor.shape[2], tensor.shape[3]};
  tensor.load = [load = std::move(tensor.load), shape] { return load().reshaped(shape); };
  tensor.shape = shape;
  return tensor;
}

}  // namespace osprey

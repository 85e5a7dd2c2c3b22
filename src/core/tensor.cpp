#include "core/tensor.h"

#include <cstdlib>
#include <new>

namespace osprey {
namespace {

struct Free {
  void operator()(void* p) const { std::free(p); }
};

template <class T, class Convert>
void widen(Bytes in, std::span<float> out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, in.data() + i * sizeof(T), sizeof(T));
    out[i] = convert(value);
  }
}

}  // namespace

std::int64_t element_count(const Shape& shape, std::string_view what) {
  std::uint64_t n = 1;
  for (const auto d : shape) {
    require(d >= 0, "{}: a negative extent in shape {}", what, to_string(shape));
    n = checked_mul(n, static_cast<std::uint64_t>(d), what);
  }
  require(n <= (std::uint64_t{1} << 62), "{}: shape {} is too large", what, to_string(shape));
  return static_cast<std::int64_t>(n);
}

std::string to_string(const Shape& shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

Tensor Tensor::zeros(DType dtype, Shape shape) {
  const auto size = checked_mul(static_cast<std::uint64_t>(element_count(shape)), size_of(dtype), "tensor");
  Tensor out;
  out.dtype_ = dtype;
  out.shape_ = std::move(shape);
  if (size == 0) return out;
  void* memory = std::aligned_alloc(64, (size + 63) / 64 * 64);
  if (!memory) throw std::bad_alloc();
  std::memset(memory, 0, size);
  out.owner_ = std::shared_ptr<void>(memory, Free{});
  out.bytes_ = {static_cast<const std::byte*>(memory), size};
  return out;
}

Tensor Tensor::borrow(DType dtype, Shape shape, Bytes data, std::shared_ptr<const void> owner) {
  const auto size = checked_mul(static_cast<std::uint64_t>(element_count(shape)), size_of(dtype), "tensor");
  check(size == data.size(), "tensor: shape {} needs {} bytes, not {}", to_string(shape), size, data.size());
  Tensor out;
  out.dtype_ = dtype;
  out.shape_ = std::move(shape);
  out.bytes_ = data;
  out.owner_ = std::move(owner);
  return out;
}

Tensor Tensor::to_f32() const {
  const bool aligned = reinterpret_cast<std::uintptr_t>(bytes_.data()) % alignof(float) == 0;
  if (dtype_ == DType::kF32 && aligned) return *this;
  Tensor out = zeros(DType::kF32, shape_);
  const auto to = out.mutable_values<float>();
  const auto plain = [](auto v) { return static_cast<float>(v); };
  switch (dtype_) {
    case DType::kF32:
      widen<float>(bytes_, to, plain);
      break;
    case DType::kF16:
      widen<Half>(bytes_, to, [](Half v) { return to_float(v); });
      break;
    case DType::kBF16:
      widen<BFloat16>(bytes_, to, [](BFloat16 v) { return to_float(v); });
      break;
    case DType::kF64:
      widen<double>(bytes_, to, plain);
      break;
    case DType::kI64:
      widen<std::int64_t>(bytes_, to, plain);
      break;
    case DType::kI32:
      widen<std::int32_t>(bytes_, to, plain);
      break;
    case DType::kI16:
      widen<std::int16_t>(bytes_, to, plain);
      break;
    case DType::kI8:
      widen<std::int8_t>(bytes_, to, plain);
      break;
    case DType::kU8:
    case DType::kBool:
      widen<std::uint8_t>(bytes_, to, plain);
      break;
  }
  return out;
}

Tensor Tensor::copied() const {
  Tensor out = zeros(dtype_, shape_);
  if (!empty()) std::memcpy(out.mutable_data(), bytes_.data(), bytes_.size());
  return out;
}

Tensor Tensor::reshaped(Shape shape) const {
  check(element_count(shape) == size(), "tensor: cannot reshape {} to {}", to_string(shape_),
        to_string(shape));
  Tensor out = *this;
  out.shape_ = std::move(shape);
  return out;
}

}  // namespace osprey

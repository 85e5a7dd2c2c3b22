// A tensor that only knows its bytes: element type, shape, and memory in C order that it owns or keeps alive.
// Views with a static rank give checked-by-construction indexing to kernels.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/bytes.h"
#include "core/dtype.h"

namespace osprey {

using Shape = std::vector<std::int64_t>;

// The product; an overflow or a negative extent is bad input, named by `what`.
std::int64_t element_count(const Shape& shape, std::string_view what = "tensor");

// "[1, 3, 800, 1216]"
std::string to_string(const Shape& shape);

// Values in C order. Copying shares the memory, which is never written through this class after it was made.
class Tensor {
 public:
  Tensor() = default;

  // New zeroed memory, 64-byte aligned.
  static Tensor zeros(DType dtype, Shape shape);
  // Memory that `owner` keeps alive. `data` must hold exactly the shape's bytes; it may be unaligned.
  static Tensor borrow(DType dtype, Shape shape, Bytes data, std::shared_ptr<const void> owner);
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape) {
    Tensor out = zeros(kDTypeOf<T>, shape);
    check(values.size_bytes() == out.bytes().size(), "tensor: {} values for shape {}", values.size(),
          to_string(out.shape_));
    if (!values.empty()) std::memcpy(out.mutable_data(), values.data(), values.size_bytes());
    return out;
  }

  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  std::int64_t dim(std::size_t i) const { return shape_.at(i); }
  std::int64_t size() const { return static_cast<std::int64_t>(bytes_.size() / size_of(dtype_)); }
  Bytes bytes() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }

  // The elements as T, which must be the tensor's type, in aligned memory.
  template <class T>
  std::span<const T> values() const {
    check(kDTypeOf<T> == dtype_, "tensor: read as {} but holds {}", name_of(kDTypeOf<T>), name_of(dtype_));
    check(reinterpret_cast<std::uintptr_t>(bytes_.data()) % alignof(T) == 0,
          "tensor: unaligned, copy it first");
    return {reinterpret_cast<const T*>(bytes_.data()), bytes_.size() / sizeof(T)};
  }
  // For the code that fills a tensor it has just made with zeros().
  std::byte* mutable_data() { return const_cast<std::byte*>(bytes_.data()); }
  template <class T>
  std::span<T> mutable_values() {
    const auto v = values<T>();
    return {const_cast<T*>(v.data()), v.size()};
  }

  // The same values in f32, converted if need be; aligned.
  Tensor to_f32() const;
  // The same values in memory of their own: of a tensor whose memory will be used again.
  Tensor copied() const;
  Tensor reshaped(Shape shape) const;

 private:
  DType dtype_ = DType::kF32;
  Shape shape_;
  Bytes bytes_;
  std::shared_ptr<const void> owner_;
};

// Borrowed, contiguous, of static rank N. T is const for inputs.
template <class T, std::size_t N>
struct View {
  T* data = nullptr;
  std::array<std::int64_t, N> dims{};

  std::int64_t dim(std::size_t i) const { return dims[i]; }
  std::int64_t size() const {
    std::int64_t n = 1;
    for (const auto d : dims) n *= d;
    return n;
  }
  template <class... I>
  requires(sizeof...(I) == N) T& operator()(I... index) const {
    std::int64_t flat = 0;
    std::size_t axis = 0;
    ((flat = flat * dims[axis++] + static_cast<std::int64_t>(index)), ...);
    return data[flat];
  }
  // Element `i` of the first axis, as a pointer to what follows.
  T* at(std::int64_t i) const {
    std::int64_t stride = 1;
    for (std::size_t axis = 1; axis < N; ++axis) stride *= dims[axis];
    return data + i * stride;
  }
};

}  // namespace osprey

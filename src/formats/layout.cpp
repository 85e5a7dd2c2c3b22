#include "formats/layout.h"

#include <algorithm>

namespace osprey {
namespace {

constexpr std::size_t kMaxRank = 64;  // numpy 2's limit; torch has the same
constexpr std::uint64_t kMaxRepeated = std::uint64_t{64} << 20;

bool is_c_order(const Layout& layout) {
  std::int64_t expected = 1;
  for (std::size_t axis = layout.shape.size(); axis-- > 0;) {
    if (layout.shape[axis] == 1) continue;
    if (layout.strides[axis] != expected) return false;
    expected *= layout.shape[axis];
  }
  return true;
}

void copy_element(const std::byte* from, std::byte* to, std::size_t size, bool swapped) {
  if (swapped) {
    std::reverse_copy(from, from + size, to);
  } else {
    std::memcpy(to, from, size);
  }
}

void copy_strided(const Layout& layout, Bytes data, std::byte* out) {
  const std::size_t size = size_of(layout.dtype);
  const std::size_t rank = layout.shape.size();
  const std::int64_t count = element_count(layout.shape);
  std::vector<std::int64_t> index(rank, 0);
  auto at = static_cast<std::int64_t>(layout.offset);
  for (std::int64_t i = 0; i < count; ++i, out += size) {
    copy_element(data.data() + static_cast<std::size_t>(at) * size, out, size, layout.swapped);
    for (std::size_t axis = rank; axis-- > 0;) {  // the next index in C order
      at += layout.strides[axis];
      if (++index[axis] < layout.shape[axis]) break;
      at -= layout.strides[axis] * layout.shape[axis];
      index[axis] = 0;
    }
  }
}

// Any byte but 0 counts as true in the frameworks; in C++ a bool of value 2 is undefined.
void normalize_bools(std::byte* data, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) data[i] = std::byte{data[i] != std::byte{0}};
}

}  // namespace

Shape c_strides(const Shape& shape) {
  Shape out(shape.size(), 1);
  if (element_count(shape) == 0) return out;
  for (std::size_t axis = shape.size(); axis-- > 1;) out[axis - 1] = out[axis] * shape[axis];
  return out;
}

Shape fortran_strides(const Shape& shape) {
  Shape out(shape.size(), 1);
  if (element_count(shape) == 0) return out;
  for (std::size_t axis = 1; axis < shape.size(); ++axis) out[axis] = out[axis - 1] * shape[axis - 1];
  return out;
}

void validate(const Layout& layout, std::uint64_t available, std::string_view what) {
  const Shape& shape = layout.shape;
  require(shape.size() <= kMaxRank, "{}: {} axes are more than the {} that are read", what, shape.size(),
          kMaxRank);
  require(layout.strides.size() == shape.size(), "{}: {} strides for {} axes", what, layout.strides.size(),
          shape.size());
  const auto count = static_cast<std::uint64_t>(element_count(shape, what));
  require(layout.offset <= available, "{}: starts at element {}, but only {} are stored", what, layout.offset,
          available);
  if (count == 0) return;
  std::uint64_t last = layout.offset;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    require(layout.strides[axis] >= 0, "{}: a negative stride, {}", what, layout.strides[axis]);
    last = checked_add(last,
                       checked_mul(static_cast<std::uint64_t>(shape[axis] - 1),
                                   static_cast<std::uint64_t>(layout.strides[axis]), what),
                       what);
  }
  require(last < available, "{}: shape {} needs element {}, but only {} are stored (is the file truncated?)",
          what, to_string(shape), last, available);
  require(count <= available || checked_mul(count, size_of(layout.dtype), what) <= kMaxRepeated,
          "{}: shape {} repeats {} stored elements to more than {} bytes", what, to_string(shape), available,
          kMaxRepeated);
}

Tensor read_layout(const Layout& layout, Bytes data, std::shared_ptr<const void> owner) {
  const auto count = static_cast<std::uint64_t>(element_count(layout.shape));
  if (count == 0) return Tensor::zeros(layout.dtype, layout.shape);
  const std::size_t size = size_of(layout.dtype);
  if (is_c_order(layout) && !layout.swapped) {
    const Bytes part = slice(data, layout.offset * size, count * size, "tensor");
    const bool clean = layout.dtype != DType::kBool ||
                       std::all_of(part.begin(), part.end(), [](std::byte b) { return b <= std::byte{1}; });
    if (clean) return Tensor::borrow(layout.dtype, layout.shape, part, std::move(owner));
  }
  Tensor out = Tensor::zeros(layout.dtype, layout.shape);
  copy_strided(layout, data, out.mutable_data());
  if (layout.dtype == DType::kBool) normalize_bools(out.mutable_data(), out.bytes().size());
  return out;
}

}  // namespace osprey

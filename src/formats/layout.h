// How the elements of an array lie in the bytes of a file: strided, of either byte order. numpy's Fortran
// arrays, torch's views of shared storages and plain C arrays are all cases of it.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "core/tensor.h"

namespace osprey {

struct Layout {
  DType dtype = DType::kF32;
  Shape shape;
  Shape strides;             // in elements, one for each axis
  std::uint64_t offset = 0;  // of element 0, in elements
  bool swapped = false;      // big-endian
};

// Strides of a dense array whose last (C) or first (Fortran) axis is contiguous.
Shape c_strides(const Shape& shape);
Shape fortran_strides(const Shape& shape);

// Bad input, named by `what`, unless every element lies within the first `available` ones. A view may repeat
// elements (stride 0), but only up to 64 MiB, because its copy is not bounded by the file's size.
void validate(const Layout& layout, std::uint64_t available, std::string_view what);

// The tensor of a validated layout: borrowed from `data` where it is dense, in C order and native, else a
// copy.
Tensor read_layout(const Layout& layout, Bytes data, std::shared_ptr<const void> owner);

}  // namespace osprey

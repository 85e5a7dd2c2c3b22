// Products of plain f32 matrices whose shapes are too thin, or whose rows lie too oddly, for a primitive of
// oneDNN's to be made for each: C = A B, one rounding an operation, summed in the order of A's columns.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/vectors.h"

namespace osprey {

struct Product {
  const float *a, *b;
  float* c;
  std::int64_t rows, inner, columns;  // of C, A's columns, of C
  std::int64_t a_row, b_row, c_row;   // floats between rows
};

namespace detail {

inline constexpr std::int64_t kProductLanes = 16;

// kRows x (16 * kVectors) of C.
template <int kRows, int kVectors>
[[gnu::always_inline]] inline void product_block(const Product& p, std::int64_t row, std::int64_t column) {
  Floats<kProductLanes> sums[kRows][kVectors] = {};
  const float* b = p.b + column;
  for (std::int64_t k = 0; k < p.inner; ++k, b += p.b_row)
    for (int v = 0; v < kVectors; ++v) {
      const auto factor = *reinterpret_cast<const Floats<kProductLanes>*>(b + v * kProductLanes);
      for (int r = 0; r < kRows; ++r) sums[r][v] += p.a[(row + r) * p.a_row + k] * factor;
    }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v)
      *reinterpret_cast<Floats<kProductLanes>*>(p.c + (row + r) * p.c_row + column + v * kProductLanes) =
          sums[r][v];
}

template <int kRows>
[[gnu::always_inline]] inline void product_rows(const Product& p, std::int64_t row) {
  std::int64_t column = 0;
  for (; column + 2 * kProductLanes <= p.columns; column += 2 * kProductLanes)
    product_block<kRows, 2>(p, row, column);
  if (column + kProductLanes <= p.columns) {
    product_block<kRows, 1>(p, row, column);
    column += kProductLanes;
  }
  for (; column < p.columns; ++column)
    for (int r = 0; r < kRows; ++r) {
      float sum = 0;
      for (std::int64_t k = 0; k < p.inner; ++k)
        sum += p.a[(row + r) * p.a_row + k] * p.b[k * p.b_row + column];
      p.c[(row + r) * p.c_row + column] = sum;
    }
}

[[gnu::always_inline]] inline void product_body(const Product* p) {
  std::int64_t row = 0;
  for (; row + 4 <= p->rows; row += 4) product_rows<4>(*p, row);
  for (; row < p->rows; ++row) product_rows<1>(*p, row);
}

}  // namespace detail

inline void multiply(const Product& product) {
  const Product* const p = &product;
  vectorised<detail::product_body>(p);
}

}  // namespace osprey

// The inner loops of image/resize.h, for the vector units of the machine. Internal to the resizer.
//
// Both passes are one sum of products over bytes: 64 neighbouring bytes are multiplied by one weight, tap
// after tap, in 32 bits (255 * 2^22 fits), rounded and clipped back to 8. Along columns the 64 are neighbours
// in a row; along rows they are one pixel of kRows rows, interleaved first as [x][row][red, green, blue,
// unused].
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace osprey::resize_kernels {

inline constexpr int kWeightBits = 22;
inline constexpr int kRows = 16;                // rows that the horizontal pass takes together
inline constexpr int kColumnBytes = 4 * kRows;  // one x of them, interleaved

// Weights of one axis, as PilResizer keeps them: `stride` of them an output.
struct Taps {
  const int* first;
  const int* count;
  const std::int32_t* weights;
  int stride;
};

struct Kernels {
  // kRows rows of interleaved pixels to `width` pixels of each, interleaved again.
  void (*horizontal)(const std::uint8_t* in, Taps taps, int width, std::uint8_t* out);
  // One output row of `bytes` from `count` rows that lie `stride` apart.
  void (*vertical)(const std::uint8_t* rows, std::ptrdiff_t stride, const std::int32_t* weights, int count,
                   std::size_t bytes, std::uint8_t* out);
};

// All that this processor runs, the fastest last; they give the same bytes.
const std::vector<Kernels>& kernels();

}  // namespace osprey::resize_kernels

// A convolution as our own kernels for Hopper GPUs take them (cuda/hopper/conv_tiles.cuh): 1x1, or 3x3 with
// borders of 1, maps channels last.
#pragma once

#include <cstdint>

namespace osprey {

struct ConvShape {
  std::int64_t images = 0, height = 0, width = 0, channels = 0, outputs = 0;
  int side = 1;                 // of the window, 1 or 3
  int stride = 1;               // or 2
  int top = 1, left = 1;        // border before a map, of a window of 3
  int first_tap = 0, taps = 0;  // of the window, row after row; taps: how many, 0 for all

  int top_border() const { return side == 3 ? top : 0; }
  int left_border() const { return side == 3 ? left : 0; }
  int taps_used() const { return taps == 0 ? side * side : taps; }
  std::int64_t out_height() const { return (height + stride - 1) / stride; }
  std::int64_t out_width() const { return (width + stride - 1) / stride; }
  std::int64_t out_pixels() const { return images * out_height() * out_width(); }
  // The copy engine's rows are of 16 bytes; `channel_bytes` are those of a pixel.
  bool fits(std::int64_t channel_bytes) const {
    return (side == 1 || side == 3) && channels > 0 && channel_bytes % 16 == 0 && images > 0 && height > 0 &&
           width > 0 && outputs > 0 && images * height * width < (1 << 30) && outputs < (1 << 20);
  }
};

}  // namespace osprey

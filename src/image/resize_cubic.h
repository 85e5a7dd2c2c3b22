// OpenCV's bicubic resize of 8-bit RGB (cv::resize, INTER_CUBIC: the kernel of Keys, 1981, with a = -0.75,
// half-pixel centres, edges repeated, no antialiasing), to the last bit as its released packages do it on
// x86-64. There Intel's IPP takes the place of OpenCV's own fixed-point loops: distances in float, weights
// made of them in double and rounded to float, rows before columns in float, and the order of sums below;
// both were read off its results for single bright pixels, and hold for all pixels of several pictures.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "image/resize.h"

namespace osprey {

class CubicResizer {
 public:
  // Sets the sizes, all positive; allocates only where the last ones were smaller.
  void prepare(ImageSize from, ImageSize to);
  bool is_for(ImageSize from, ImageSize to) const { return from_ == from && to_ == to; }

  // Floats that rows() needs for itself.
  std::size_t workspace_size() const { return 3 * static_cast<std::size_t>(to_.width) * kTaps; }
  // Output rows [begin, end), row y to out + y * stride.
  void rows(ImageView in, int begin, int end, std::uint8_t* out, std::ptrdiff_t stride,
            std::span<float> workspace) const;

 private:
  static constexpr int kTaps = 4;
  // What an output takes: pixels first .. first + 3, held inside the picture.
  struct Tap {
    int first;
    std::array<float, kTaps> weights;
  };
  static void prepare_axis(std::vector<Tap>& taps, int from, int to);
  // A source row at the output's width.
  void widen(const std::uint8_t* row, float* out) const;

  ImageSize from_, to_;
  std::vector<Tap> x_, y_;
};

}  // namespace osprey

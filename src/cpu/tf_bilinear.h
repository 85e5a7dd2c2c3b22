// TensorFlow's bilinear resize (image/resize_bilinear_op) of 8-bit photos into float32: the levels become
// floats by a table, each output is two mixtures along x and one along y of its four neighbours, with one
// rounding an operation.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "image/resize.h"
#include "ops/resize_image.h"
#include "osprey/image.h"

namespace osprey {

// What each level of each stored channel becomes.
class LevelTable {
 public:
  explicit LevelTable(const ResizeImage& op);
  // `width` pixels to 3 floats each.
  void convert(const std::uint8_t* from, int width, float* to) const;

 private:
  std::array<std::array<float, 256>, 3> values_;
  bool bgr_;
};

// A result lies between `lower` and `upper`, as far from the one as `above` says.
struct BilinearTap {
  int lower, upper;
  float above;
};

class TfBilinear {
 public:
  // Allocates only where the last sizes were smaller.
  void prepare(ImageSize from, ImageSize to, bool half_pixel);
  bool is_for(ImageSize from, ImageSize to) const { return from_ == from && to_ == to; }
  // Floats that rows() needs for itself.
  std::size_t workspace_size() const;
  // Output rows [begin, end), row y to out + y * stride (in floats).
  void rows(const ImageView& photo, const LevelTable& table, int begin, int end, float* out,
            std::ptrdiff_t stride, std::span<float> workspace) const;

 private:
  ImageSize from_, to_;
  std::vector<BilinearTap> x_, y_;
};

}  // namespace osprey

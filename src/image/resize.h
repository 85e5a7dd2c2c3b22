// Resizing of 8-bit RGB, to the last bit as the libraries do it that models were trained with.
//
// Pillow's bilinear filter (Image.resize(size, BILINEAR)): a triangle that widens with the factor when
// shrinking, so it antialiases; coefficients rounded to 22 bits; first along the rows, rounded to 8 bits,
// then along the columns, rounded again. A pass whose size does not change is left out. (Pillow 13 takes
// the columns first where the height shrinks much more than the width, which moves some pixels by one level;
// the models were trained with the order above.)
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "osprey/image.h"

namespace osprey {

// The coefficients of one change of size, and both passes over any range of rows, so that a caller can share
// the rows among threads. Source rows outside [first_row(), last_row()) do not reach the output.
//
//   horizontal: source rows -> the same rows at the output's width
//   vertical:   those       -> output rows
//
// Without horizontal() (has_horizontal() false) vertical() takes the source itself, and so in the other case.
class PilResizer {
 public:
  PilResizer() = default;
  PilResizer(int in_width, int in_height, int out_width, int out_height) {
    prepare(in_width, in_height, out_width, out_height);
  }

  // Sets the sizes, all positive; allocates only where the last ones were smaller.
  void prepare(int in_width, int in_height, int out_width, int out_height);

  bool has_horizontal() const { return in_width_ != out_width_; }
  bool has_vertical() const { return in_height_ != out_height_; }
  int first_row() const { return first_row_; }
  int last_row() const { return last_row_; }

  // Source rows [begin, end) to `out`, where source row y is at y - first_row(). `workspace` holds
  // workspace_bytes() and belongs to one thread.
  void horizontal(ImageView in, int begin, int end, std::uint8_t* out, std::ptrdiff_t stride,
                  std::span<std::uint8_t> workspace) const;
  std::size_t workspace_bytes() const;

  // Output rows [begin, end) to `out`, where row y is at y; row 0 of `in` is source row first_row().
  void vertical(ImageView in, int begin, int end, std::uint8_t* out, std::ptrdiff_t stride) const;

 private:
  // Output i is the sum of weights[i * taps + k] * input[first[i] + k] over k < count[i], in units of 2^-22.
  struct Axis {
    int taps = 0;
    std::vector<int> first, count;
    std::vector<std::int32_t> weights;
    std::vector<double> exact;  // one output's weights, while they are made

    void prepare(int in_size, int out_size);
  };

  int in_width_ = 0, in_height_ = 0, out_width_ = 0, out_height_ = 0;
  int first_row_ = 0, last_row_ = 0;
  Axis x_, y_;
};

// The whole picture on the calling thread.
Image resize_pil_bilinear(ImageView in, int width, int height);

struct ImageSize {
  int width = 0;
  int height = 0;
  bool operator==(const ImageSize&) const = default;
};

// Detectron2's ResizeShortestEdge: the shorter side becomes `shortest`, unless the longer one would then
// exceed `longest`, which rules. In double arithmetic, each side int(x + 0.5). (constexpr: device code calls
// it, too.)
constexpr ImageSize shortest_edge_size(int width, int height, int shortest, int longest) {
  double scale = static_cast<double>(shortest) / std::min(width, height);
  double new_height = height < width ? shortest : scale * height;
  double new_width = height < width ? scale * width : shortest;
  if (const double longer = std::max(new_height, new_width); longer > longest) {
    scale = longest / longer;
    new_height *= scale;
    new_width *= scale;
  }
  return {static_cast<int>(new_width + 0.5), static_cast<int>(new_height + 0.5)};
}

}  // namespace osprey

// The rows and the outline of a mask, straight from its run lengths: the cost follows the mask's edge, not
// its area.
#pragma once

#include <cstdint>
#include <vector>

#include "osprey/detections.h"

namespace osprey {

struct MaskSpan {
  int y, x0, x1;  // pixels x0 <= x < x1 of row y
};

struct Point {
  double x, y;
};

struct MaskShape {
  std::int64_t area = 0;        // pixels
  Box bounds;                   // of the pixels inside; zeros for an empty mask
  std::vector<MaskSpan> spans;  // by row, then by x
  // Closed rings between inside and outside, the inside to the right of each step; pixels that meet at a
  // corner only belong to different rings. Stairs of steps up to 2 * `corner` pixels become straight lines:
  // each corner is cut `corner` pixels before and after, or halfway along a shorter step.
  std::vector<std::vector<Point>> outline;
};

// Noise with more edges than this is filled but not outlined.
inline constexpr std::size_t kMaxOutlineEdges = std::size_t{1} << 18;

// Throws Error(kBadInput) where the counts do not add up to height * width.
MaskShape mask_shape(const Rle& mask, double corner);

}  // namespace osprey

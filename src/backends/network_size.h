// The size that ops/resize_image.h gives a photo, for every executor.
#pragma once

#include <array>

#include "image/resize.h"
#include "ops/resize_image.h"

namespace osprey {

// The largest size of the photo's shape that fits the canvas. On a square canvas that is
// shortest_edge_size(side, side) to the last rounding, which is how NVIDIA's sample letterboxes.
ImageSize size_on_canvas(int width, int height, int canvas_width, int canvas_height);

struct NetworkSize {
  ImageSize size;
  std::array<float, 6> geometry;  // the photo's row of `geometry`
};
NetworkSize network_size(const ResizeImage& op, int width, int height);

}  // namespace osprey

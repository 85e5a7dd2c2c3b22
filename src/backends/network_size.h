// The size that ops/resize_image.h gives a photo, for every executor; constexpr, since device code calls it.
#pragma once

#include <algorithm>
#include <array>

#include "image/resize.h"
#include "ops/resize_image.h"

namespace osprey {

constexpr double canvas_scale(int width, int height, int canvas_width, int canvas_height) {
  return std::min(static_cast<double>(canvas_height) / height, static_cast<double>(canvas_width) / width);
}

// The shorter side of a very long strip may round to nothing.
constexpr ImageSize at_least_one_pixel(ImageSize size) {
  return {std::max(size.width, 1), std::max(size.height, 1)};
}

// The largest size of the photo's shape that fits the canvas. On a square canvas that is
// shortest_edge_size(side, side) to the last rounding, which is how NVIDIA's sample letterboxes.
constexpr ImageSize size_on_canvas(int width, int height, int canvas_width, int canvas_height) {
  if (canvas_width == canvas_height)
    return at_least_one_pixel(shortest_edge_size(width, height, canvas_width, canvas_width));
  const double scale = canvas_scale(width, height, canvas_width, canvas_height);
  return at_least_one_pixel({static_cast<int>(width * scale + 0.5), static_cast<int>(height * scale + 0.5)});
}

struct NetworkSize {
  ImageSize size;
  std::array<float, 6> geometry;  // the photo's row of `geometry`
};

constexpr NetworkSize network_size(const ResizeImage& op, int width, int height) {
  const bool canvas = op.canvas_height > 0;
  const ImageSize size = canvas
                             ? size_on_canvas(width, height, op.canvas_width, op.canvas_height)
                             : at_least_one_pixel(shortest_edge_size(width, height, op.shortest, op.longest));
  const auto w = static_cast<float>(width), h = static_cast<float>(height);
  if (canvas) {
    const auto back =
        static_cast<float>(1.0 / canvas_scale(width, height, op.canvas_width, op.canvas_height));
    return {size,
            {static_cast<float>(op.canvas_height), static_cast<float>(op.canvas_width), back, back, h, w}};
  }
  return {size,
          {static_cast<float>(size.height), static_cast<float>(size.width),
           static_cast<float>(static_cast<double>(height) / size.height),
           static_cast<float>(static_cast<double>(width) / size.width), h, w}};
}

}  // namespace osprey

#include "backends/network_size.h"

#include <algorithm>

namespace osprey {
namespace {

double canvas_scale(int width, int height, int canvas_width, int canvas_height) {
  return std::min(static_cast<double>(canvas_height) / height, static_cast<double>(canvas_width) / width);
}

// The shorter side of a very long strip may round to nothing.
ImageSize at_least_one(ImageSize size) { return {std::max(size.width, 1), std::max(size.height, 1)}; }

}  // namespace

ImageSize size_on_canvas(int width, int height, int canvas_width, int canvas_height) {
  ImageSize size = shortest_edge_size(width, height, canvas_width, canvas_width);
  if (canvas_width != canvas_height) {
    const double scale = canvas_scale(width, height, canvas_width, canvas_height);
    size = {static_cast<int>(width * scale + 0.5), static_cast<int>(height * scale + 0.5)};
  }
  return at_least_one(size);
}

NetworkSize network_size(const ResizeImage& op, int width, int height) {
  const bool canvas = op.canvas_height > 0;
  const ImageSize size = canvas ? size_on_canvas(width, height, op.canvas_width, op.canvas_height)
                                : at_least_one(shortest_edge_size(width, height, op.shortest, op.longest));
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

#include "draw/heatmaps.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"

namespace osprey {
namespace {

// OpenCV's COLORMAP_JET, red first.
std::array<std::uint8_t, 3> jet(std::uint8_t level) {
  const double x = 4 * level / 255.0;
  const auto part = [&](double peak) {
    return static_cast<std::uint8_t>(std::lround(255 * std::clamp(1.5 - std::abs(x - peak), 0.0, 1.0)));
  };
  return {part(3), part(2), part(1)};
}

}  // namespace

Image draw_heatmaps(int width, int height, std::span<const std::vector<std::uint8_t>> maps, int per_side) {
  require(per_side >= 1 && per_side <= std::min(width, height), "{} heat maps a side of {} x {} pixels",
          per_side, width, height);
  const int tile_width = width / per_side, tile_height = height / per_side;
  Image out(tile_width * per_side, tile_height * per_side);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x) {
      const int row = y / tile_height, column = x / tile_width;
      const auto map = static_cast<std::size_t>(row * per_side + column);
      const std::size_t pixel = static_cast<std::size_t>(y % tile_height) * per_side * width +
                                static_cast<std::size_t>(x % tile_width) * per_side;
      const auto colour = jet(map < maps.size() ? maps[map].at(pixel) : 0);
      std::copy(colour.begin(), colour.end(), out.row(y) + 3 * x);
    }
  return out;
}

}  // namespace osprey

#include "engine/synthetic_photo.h"

#include <algorithm>
#include <array>
#include <random>

#include "ops/resize_image.h"

namespace osprey {
namespace {

constexpr int kTile = 64;

// One of: noise, which excites edges; a saturated colour, which excites averages; a slope between the two.
void fill_tile(Image& image, int left, int top, std::mt19937& random) {
  const auto kind = random() % 3;
  std::array<bool, 3> bright{};
  for (bool& b : bright) b = random() % 2 == 1;
  for (int y = top; y < std::min(top + kTile, image.height); ++y)
    for (int x = left; x < std::min(left + kTile, image.width); ++x)
      for (int c = 0; c < 3; ++c) {
        const int along = kind == 0   ? static_cast<int>(random() % 256)
                          : kind == 1 ? 255
                                      : (x - left + y - top) * 2;
        const bool up = bright[static_cast<std::size_t>(c)];
        image.row(y)[3 * x + c] = static_cast<std::uint8_t>(up ? along : 255 - along);
      }
}

}  // namespace

Image synthetic_photo(const Graph& graph) {
  int height = 480, width = 640;
  for (const Node& node : graph.nodes()) {
    const auto* resize = node.op.as<ResizeImage>();
    if (!resize) continue;
    const bool canvas = resize->canvas_height > 0;
    height = canvas ? resize->canvas_height : resize->shortest;
    width = canvas ? resize->canvas_width : resize->longest;
  }
  Image out(width, height);
  std::mt19937 random(1);
  for (int top = 0; top < height; top += kTile)
    for (int left = 0; left < width; left += kTile) fill_tile(out, left, top, random);
  return out;
}

}  // namespace osprey

// A picture of several maps of probabilities, in colours from blue (0) over green to red (1): what
// maskrcnn-benchmark's COCODemo shows with show_mask_heatmaps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "osprey/image.h"

namespace osprey {

// Each map holds height * width numbers by rows, 255 being 1. They are laid out `per_side` a row and column,
// from the top left, every per_side-th pixel of each; places without a map are as if it were 0. Bad input
// where per_side is not from 1 to the shorter side.
Image draw_heatmaps(int width, int height, std::span<const std::vector<std::uint8_t>> maps, int per_side);

}  // namespace osprey

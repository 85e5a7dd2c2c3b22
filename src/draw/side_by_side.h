// Pictures beside one another under their captions, to compare.
#pragma once

#include <span>
#include <string>

#include "osprey/image.h"

namespace osprey {

struct Panel {
  ImageView image;
  std::string caption;  // longer ones end in an ellipsis
};

// The panels in rows of `columns` (0: all in one row), each at its own size, top left in its cell, on white.
// Throws Error(kBadInput) where the whole would be larger than can be drawn. No panels give an empty image.
Image side_by_side(std::span<const Panel> panels, int columns = 0);

}  // namespace osprey

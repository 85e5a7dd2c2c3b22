// The anchors of a cell.
#pragma once

#include <cstdint>
#include <vector>

namespace osprey {

enum class AnchorRule : std::uint8_t {
  kCentred,  // Detectron2's: around the cell's origin, unrounded, no +1; sizes outer, ratios inner
  // py-faster-rcnn's (maskrcnn-benchmark): inclusive boxes around the cell's middle pixel, of whole sides for
  // each ratio of a square of the stride's, then scaled; ratios outer, sizes inner
  kRounded,
};

struct Anchors {
  // One list a level: side of the square of the same area in network pixels, and height / width.
  std::vector<std::vector<double>> sizes, ratios;
  double offset = 0;  // of the first anchor's centre, in strides
  AnchorRule rule = AnchorRule::kCentred;
  std::vector<int> strides = {};  // of kRounded, one a level
  std::vector<float> given = {};  // what anchor_cells() gives, whatever sizes and ratios say; empty: not

  // Of one cell; every level must have as many (the heads share their weights).
  int per_cell() const { return static_cast<int>(sizes.at(0).size() * ratios.at(0).size()); }
};

// [levels, per_cell, 4] corners around the cell's origin.
std::vector<float> anchor_cells(const Anchors& anchors);

}  // namespace osprey

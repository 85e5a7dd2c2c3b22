// Anchors as Detectron2 lays them: centred on their cell, unrounded, no +1.
#pragma once

#include <vector>

namespace osprey {

struct Anchors {
  // One list a level: side of the square of the same area in network pixels, and height / width.
  std::vector<std::vector<double>> sizes, ratios;
  double offset = 0;  // of the first anchor's centre, in strides

  // Of one cell; every level must have as many (the heads share their weights).
  int per_cell() const { return static_cast<int>(sizes.at(0).size() * ratios.at(0).size()); }
};

// [levels, per_cell, 4] corners around the cell's origin; sizes outer, ratios inner.
std::vector<float> anchor_cells(const Anchors& anchors);

}  // namespace osprey

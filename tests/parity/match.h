// Rows and detections of a run paired with the golden ones, whose order may differ where scores nearly tie.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "osprey/detections.h"

namespace osprey {

using Corners = std::array<double, 4>;

// Rows of (image, x0, y0, x1, y1), or of bare corners.
std::vector<Corners> corners_of(const Tensor& boxes);

double corners_iou(const Corners& a, const Corners& b);

// For each golden box the nearest unused one of ours within `distance` (of the farthest coordinate).
std::vector<std::optional<std::size_t>> match_boxes(std::span<const Corners> golden,
                                                    std::span<const Corners> got, double distance);

struct ClassedBox {
  Corners box;
  int class_index = 0;
  double score = 0;
};

// Golden with ours, of one class and of the largest IoU that is at least `iou`; each used once.
std::vector<std::pair<std::size_t, std::size_t>> match_detections(std::span<const ClassedBox> golden,
                                                                  std::span<const ClassedBox> got,
                                                                  double iou);

std::vector<ClassedBox> classed_boxes(const Detections& found);

// Bit for bit: every number, every mask.
void expect_equal(const Detections& a, const Detections& b);

}  // namespace osprey

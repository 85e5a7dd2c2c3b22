#include "parity/match.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

namespace osprey {
namespace {

double distance_of(const Corners& a, const Corners& b) {
  double out = 0;
  for (std::size_t k = 0; k < 4; ++k) out = std::max(out, std::abs(a[k] - b[k]));
  return out;
}

double area(const Corners& b) { return (b[2] - b[0]) * (b[3] - b[1]); }

}  // namespace

std::vector<Corners> corners_of(const Tensor& boxes) {
  std::vector<Corners> out;
  const auto values = boxes.values<float>();
  const auto width = static_cast<std::size_t>(boxes.dim(1));
  for (std::size_t i = 0; i + width <= values.size(); i += width) {
    const float* b = &values[i + width - 4];
    out.push_back({b[0], b[1], b[2], b[3]});
  }
  return out;
}

double corners_iou(const Corners& a, const Corners& b) {
  const double w = std::min(a[2], b[2]) - std::max(a[0], b[0]),
               h = std::min(a[3], b[3]) - std::max(a[1], b[1]);
  if (w <= 0 || h <= 0) return 0;
  return w * h / (area(a) + area(b) - w * h);
}

std::vector<std::optional<std::size_t>> match_boxes(std::span<const Corners> golden,
                                                    std::span<const Corners> got, double distance) {
  std::vector<std::optional<std::size_t>> out(golden.size());
  std::vector<bool> used(got.size());
  for (std::size_t g = 0; g < golden.size(); ++g) {
    double best = distance;
    for (std::size_t k = 0; k < got.size(); ++k)
      if (const double d = used[k] ? distance : distance_of(golden[g], got[k]); d < best)
        best = d, out[g] = k;
    if (out[g]) used[*out[g]] = true;
  }
  return out;
}

std::vector<std::pair<std::size_t, std::size_t>> match_detections(std::span<const ClassedBox> golden,
                                                                  std::span<const ClassedBox> got,
                                                                  double iou) {
  std::vector<std::pair<std::size_t, std::size_t>> out;
  std::vector<bool> used(got.size());
  for (std::size_t g = 0; g < golden.size(); ++g) {
    double best = iou;
    std::optional<std::size_t> at;
    for (std::size_t k = 0; k < got.size(); ++k) {
      if (used[k] || got[k].class_index != golden[g].class_index) continue;
      if (const double v = corners_iou(golden[g].box, got[k].box); v >= best) best = v, at = k;
    }
    if (!at) continue;
    used[*at] = true;
    out.emplace_back(g, *at);
  }
  return out;
}

std::vector<ClassedBox> classed_boxes(const Detections& found) {
  std::vector<ClassedBox> out;
  for (const Detection& d : found.items)
    out.push_back({{d.box.x0, d.box.y0, d.box.x1, d.box.y1}, d.class_index, d.score});
  return out;
}

void expect_equal(const Detections& a, const Detections& b) {
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.height, b.height);
  ASSERT_EQ(a.items.size(), b.items.size());
  for (std::size_t i = 0; i < a.items.size(); ++i) {
    EXPECT_EQ(a.items[i].class_index, b.items[i].class_index) << i;
    EXPECT_EQ(a.items[i].score, b.items[i].score) << i;
    EXPECT_EQ(a.items[i].box, b.items[i].box) << i;
    EXPECT_EQ(a.items[i].mask, b.items[i].mask) << i;
  }
}

}  // namespace osprey

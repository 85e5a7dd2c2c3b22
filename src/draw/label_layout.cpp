#include "draw/label_layout.h"

#include <algorithm>
#include <array>

namespace osprey {
namespace {

// In label areas: a tag would rather move to its fifth choice than hide a tenth of another.
constexpr double kRankCost = 0.02;
constexpr double kTagCost = 1.0;
// In shares of the object hidden: small objects matter, large ones do not notice.
constexpr double kObjectCost = 0.5;

// Top left corners in order of preference.
std::vector<std::array<double, 2>> places(const Tag& tag) {
  const Rect& a = tag.anchor;
  const double w = tag.width, h = tag.height;
  const double left = a.x0, right = a.x1 - w, above = a.y0 - h, below = a.y1;
  std::vector<std::array<double, 2>> out{{left, above},    {left, a.y0},      {right, above},
                                         {left, below},    {right, a.y0},     {right, below},
                                         {left, a.y1 - h}, {right, a.y1 - h}, {a.x1, a.y0},
                                         {a.x0 - w, a.y0}, {a.x1, a.y1 - h},  {a.x0 - w, a.y1 - h}};
  for (int step = 1; step <= 4; ++step) {
    const double down = a.y0 + step * h;
    if (down + h < a.y1) out.push_back({left, down});
    if (down + h < a.y1) out.push_back({right, down});
  }
  return out;
}

}  // namespace

double overlap(const Rect& a, const Rect& b) {
  const double w = std::min(a.x1, b.x1) - std::max(a.x0, b.x0);
  const double h = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
  return w > 0 && h > 0 ? w * h : 0;
}

std::vector<Rect> place_tags(double image_width, double image_height, std::span<const Tag> tags) {
  std::vector<Rect> placed;
  placed.reserve(tags.size());
  for (const Tag& tag : tags) {
    const double area = std::max(tag.width * tag.height, 1.0);
    Rect best;
    double least = 1e300;
    double rank = 0;
    for (const auto& [left, top] : places(tag)) {
      const double x = std::clamp(left, 0.0, std::max(0.0, image_width - tag.width));
      const double y = std::clamp(top, 0.0, std::max(0.0, image_height - tag.height));
      const Rect rect{x, y, x + tag.width, y + tag.height};
      double cost = kRankCost * rank++;
      for (const Rect& other : placed) cost += kTagCost * overlap(rect, other) / area;
      for (const Tag& other : tags) {
        if (cost >= least) break;
        cost += kObjectCost * overlap(rect, other.anchor) / std::max(other.anchor.area(), area);
      }
      if (cost < least) {
        least = cost;
        best = rect;
      }
    }
    placed.push_back(best);
  }
  return placed;
}

}  // namespace osprey

// Polygons to run lengths, with the numbers of COCO's rleFrPoly.
//
// COCO's rule: vertices are rounded to fifths of a pixel; every edge is walked in unit steps of its longer
// axis on that fine grid, the other coordinate rounded; where the walk passes between the fine columns 5n + 2
// and 5n + 3, that is over the centre of pixel column n, the smaller of the two y's gives the pixel where the
// column changes between outside and inside. Only those steps matter, so this code goes to them directly: an
// edge costs as many operations as it crosses pixel columns, however long it is.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/error.h"
#include "image/rle.h"

namespace osprey {

namespace {

constexpr double kScale = 5;
constexpr double kMaxCoordinate = 1e8;
constexpr std::size_t kMaxCrossings = std::size_t{1}
                                      << 25;  // bounds the memory that a hostile polygon can ask for

struct FinePoint {
  std::int64_t x, y;
};

// Half up for positive numbers and, as COCO's cast truncates, half towards zero and beyond for negative ones.
std::int64_t round_fine(double value) { return static_cast<std::int64_t>(value + .5); }

class Rasteriser {
 public:
  Rasteriser(int height, int width) : height_(height), width_(width) {}

  void edge(FinePoint a, FinePoint b) {
    const std::int64_t dx = std::abs(b.x - a.x), dy = std::abs(b.y - a.y);
    // The walk's coordinates are computed from the end with the smaller major coordinate.
    const bool shallow = dx >= dy;
    if (shallow ? a.x > b.x : a.y > b.y) std::swap(a, b);
    if (a.x == b.x) return;
    if (shallow) {
      const double slope = double(b.y - a.y) / double(dx);
      columns(a.x, b.x, [&](std::int64_t left) {
        const std::int64_t t = left - a.x;
        return std::min(round_fine(double(a.y) + slope * double(t)),
                        round_fine(double(a.y) + slope * double(t + 1)));
      });
      return;
    }
    const double slope = double(b.x - a.x) / double(dy);
    const auto x_at = [&](std::int64_t t) { return round_fine(double(a.x) + slope * double(t)); };
    columns(std::min(a.x, b.x), std::max(a.x, b.x), [&](std::int64_t left) {
      // The last step on the near side of the column's centre; x_at is monotone, the estimate is off by one
      // or two.
      const bool rising = slope > 0;
      const auto passed = [&](std::int64_t t) { return rising ? x_at(t) > left : x_at(t) <= left; };
      auto t = std::clamp<std::int64_t>(static_cast<std::int64_t>((double(left) + .5 - double(a.x)) / slope),
                                        0, dy);
      while (t > 0 && passed(t)) --t;
      while (t < dy && !passed(t + 1)) ++t;
      return a.y + t;
    });
  }

  Rle finish() {
    changes_.push_back(static_cast<std::uint32_t>(height_) * width_);
    std::sort(changes_.begin(), changes_.end());
    std::uint32_t previous = 0;
    for (auto& change : changes_) change -= std::exchange(previous, change);
    return rle_from_counts(changes_, height_, width_);
  }

 private:
  // For every pixel column whose centre lies between the fine columns x0 < x1, the change at y_at(fine column
  // left).
  template <class YAt>
  void columns(std::int64_t x0, std::int64_t x1, YAt&& y_at) {
    const std::int64_t first = x0 <= 2 ? 0 : (x0 + 2) / 5;
    const std::int64_t end = x1 < 3 ? 0 : std::min<std::int64_t>((x1 - 3) / 5 + 1, width_);
    for (std::int64_t column = first; column < end; ++column) {
      const double y = (double(y_at(5 * column + 2)) + .5) / kScale - .5;
      const auto row = static_cast<std::int64_t>(std::ceil(std::clamp(y, 0., double(height_))));
      changes_.push_back(static_cast<std::uint32_t>(column * height_ + row));
    }
    require(changes_.size() <= kMaxCrossings, "polygon: its edges cross pixel columns more than {} times",
            kMaxCrossings);
  }

  int height_, width_;
  std::vector<std::uint32_t> changes_;  // column-major positions where the mask turns over
};

}  // namespace

Rle rle_from_polygon(std::span<const double> xy, int height, int width) {
  require(xy.size() % 2 == 0, "polygon: {} numbers are no pairs of x and y", xy.size());
  require(height >= 0 && width >= 0 && std::int64_t{height} * width < (std::int64_t{1} << 31),
          "polygon: an image of {} x {} has no mask", height, width);
  std::vector<FinePoint> points;
  points.reserve(xy.size() / 2);
  for (std::size_t i = 0; i < xy.size(); i += 2) {
    require(std::abs(xy[i]) <= kMaxCoordinate && std::abs(xy[i + 1]) <= kMaxCoordinate,
            "polygon: point ({}, {}) is out of range", xy[i], xy[i + 1]);
    points.push_back({round_fine(kScale * xy[i]), round_fine(kScale * xy[i + 1])});
  }
  Rasteriser raster(height, width);
  for (std::size_t i = 0; i < points.size(); ++i) raster.edge(points[i], points[(i + 1) % points.size()]);
  return raster.finish();
}

Rle rle_from_box(std::array<double, 4> b, int height, int width) {
  const double x1 = b[0] + b[2], y1 = b[1] + b[3];
  const std::array<double, 8> corners{b[0], b[1], b[0], y1, x1, y1, x1, b[1]};
  return rle_from_polygon(corners, height, width);
}

}  // namespace osprey

#include "draw/mask_shape.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace osprey {
namespace {

struct Vertex {
  int x, y;
  bool operator==(const Vertex&) const = default;
  auto operator<=>(const Vertex&) const = default;
};

// A step along the border, the inside to its right (y grows downwards).
struct Edge {
  Vertex from, to;
  bool used = false;
};

// Ends of the runs of ones in one column: start, end, start, end, ...; never touching.
using Ends = std::vector<int>;

void append_run(Ends& ends, int y0, int y1) {
  if (!ends.empty() && ends.back() == y0) {
    ends.back() = y1;  // a run of no zeros lay between
  } else {
    ends.push_back(y0);
    ends.push_back(y1);
  }
}

// Calls visit(x, ends) for each column that has a pixel inside.
template <class Visit>
void for_each_column(const Rle& mask, Visit visit) {
  Ends ends;
  std::int64_t at = 0, column = 0;
  bool inside = false;
  for (const std::uint32_t count : mask.counts) {
    const std::int64_t stop = at + count;
    while (inside && at < stop) {
      const std::int64_t x = at / mask.height, top = x * mask.height;
      if (x != column) {
        if (!ends.empty()) visit(static_cast<int>(column), ends);
        ends.clear();
        column = x;
      }
      const std::int64_t end = std::min(stop, top + mask.height);
      append_run(ends, static_cast<int>(at - top), static_cast<int>(end - top));
      at = end;
    }
    at = stop;
    inside = !inside;
  }
  if (!ends.empty()) visit(static_cast<int>(column), ends);
}

class Tracer {
 public:
  explicit Tracer(const Rle& mask) {
    int next = 0;
    for_each_column(mask, [&](int x, const Ends& ends) {
      if (x != next) column(next, {});
      column(x, ends);
      next = x + 1;
    });
    column(next, {});
  }

  std::int64_t area() const { return area_; }
  std::vector<MaskSpan> spans() const;
  std::vector<std::vector<Vertex>> rings();

 private:
  void column(int x, const Ends& ends);
  void add(Vertex from, Vertex to) {
    if (edges_.size() <= kMaxOutlineEdges) edges_.push_back({from, to});
  }
  Edge* next(const Edge& edge);

  std::int64_t area_ = 0;
  Ends before_, merged_;
  std::vector<Vertex> crossings_;  // where a row enters or leaves the mask, by x
  std::vector<Edge> edges_;
};

// Compares column x with the one before it. Where exactly one of the two is inside, the border runs between
// them; the ends of those stretches are the merged ends of both columns, in pairs.
void Tracer::column(int x, const Ends& ends) {
  merged_.resize(before_.size() + ends.size());
  std::ranges::merge(before_, ends, merged_.begin());
  for (std::size_t i = 0; i < merged_.size(); i += 2) {
    const int y0 = merged_[i], y1 = merged_[i + 1];
    if (y0 == y1) continue;
    for (int y = y0; y < y1; ++y) crossings_.push_back({x, y});
    const bool entering = (std::ranges::upper_bound(ends, y0) - ends.begin()) % 2 == 1;
    if (entering) {
      add({x, y1}, {x, y0});
    } else {
      add({x, y0}, {x, y1});
    }
  }
  for (std::size_t i = 0; i < ends.size(); i += 2) {
    area_ += ends[i + 1] - ends[i];
    add({x, ends[i]}, {x + 1, ends[i]});
    add({x + 1, ends[i + 1]}, {x, ends[i + 1]});
  }
  before_ = ends;
}

// Crossings come by column; a counting sort puts them by row, where each two bound a span.
std::vector<MaskSpan> Tracer::spans() const {
  if (crossings_.empty()) return {};
  const auto [low, high] = std::ranges::minmax(crossings_, {}, &Vertex::y);
  std::vector<std::size_t> start(high.y - low.y + 2);
  for (const Vertex& c : crossings_) ++start[c.y - low.y + 1];
  std::partial_sum(start.begin(), start.end(), start.begin());
  std::vector<MaskSpan> out(crossings_.size() / 2);
  for (const Vertex& c : crossings_) {
    const std::size_t at = start[c.y - low.y]++;
    MaskSpan& span = out[at / 2];
    (at % 2 == 0 ? span.x0 : span.x1) = c.x;
    span.y = c.y;
  }
  return out;
}

// The unused edge that starts where `edge` ends; of two, the one that turns right and so stays at the same
// pixel.
Edge* Tracer::next(const Edge& edge) {
  Edge* found = nullptr;
  auto it = std::ranges::lower_bound(edges_, edge.to, {}, &Edge::from);
  for (; it != edges_.end() && it->from == edge.to; ++it) {
    if (it->used) continue;
    const bool right = (edge.to.x - edge.from.x) * std::int64_t{it->to.y - it->from.y} -
                           (edge.to.y - edge.from.y) * std::int64_t{it->to.x - it->from.x} >
                       0;
    if (!found || right) found = &*it;
  }
  return found;
}

// The corners of each ring, where the border turns.
std::vector<std::vector<Vertex>> Tracer::rings() {
  if (edges_.size() > kMaxOutlineEdges) return {};
  std::ranges::sort(edges_, {}, &Edge::from);
  std::vector<std::vector<Vertex>> out;
  for (Edge& start : edges_) {
    // The first unused edge in order starts at a corner of its ring: its leftmost column's topmost vertex.
    if (start.used) continue;
    std::vector<Vertex> ring;
    bool was_vertical = start.from.x != start.to.x;
    for (Edge* edge = &start; edge; edge = next(*edge)) {
      edge->used = true;
      const bool vertical = edge->from.x == edge->to.x;
      if (vertical != was_vertical) ring.push_back(edge->from);
      was_vertical = vertical;
    }
    out.push_back(std::move(ring));
  }
  return out;
}

std::vector<Point> cut_corners(const std::vector<Vertex>& ring, double corner) {
  std::vector<Point> out;
  out.reserve(2 * ring.size());
  for (std::size_t i = 0; i < ring.size(); ++i) {
    const Vertex a = ring[i], b = ring[(i + 1) % ring.size()];
    const double length = std::abs(b.x - a.x) + std::abs(b.y - a.y);
    const double cut = std::min(corner / length, 0.5);
    const double dx = (b.x - a.x) * cut, dy = (b.y - a.y) * cut;
    out.push_back({a.x + dx, a.y + dy});
    if (cut < 0.5) out.push_back({b.x - dx, b.y - dy});
  }
  return out;
}

Box bounds(const std::vector<MaskSpan>& spans) {
  if (spans.empty()) return {};
  int x0 = spans[0].x0, x1 = spans[0].x1;
  for (const MaskSpan& span : spans) {
    x0 = std::min(x0, span.x0);
    x1 = std::max(x1, span.x1);
  }
  return {float(x0), float(spans.front().y), float(x1), float(spans.back().y + 1)};
}

}  // namespace

MaskShape mask_shape(const Rle& mask, double corner) {
  const std::uint64_t sum = std::accumulate(mask.counts.begin(), mask.counts.end(), std::uint64_t{0});
  require(mask.height >= 0 && mask.width >= 0 && sum == std::uint64_t(mask.height) * mask.width,
          "mask: the run lengths add up to {} pixels, expected {} x {}: the detections are damaged", sum,
          mask.width, mask.height);
  Tracer tracer(mask);
  MaskShape out{.area = tracer.area(), .spans = tracer.spans()};
  out.bounds = bounds(out.spans);
  for (const auto& ring : tracer.rings()) out.outline.push_back(cut_corners(ring, corner));
  return out;
}

}  // namespace osprey

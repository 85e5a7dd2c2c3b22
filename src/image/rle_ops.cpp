// Set operations and overlaps of run lengths.
#include <algorithm>

#include "core/error.h"
#include "image/rle.h"

namespace osprey {

namespace {

// Walks two masks of one size together, run by run: emit(length, inside first, inside second).
template <class Emit>
void walk(const Rle& a, const Rle& b, Emit&& emit) {
  std::size_t ia = 0, ib = 0;
  std::uint32_t left_a = 0, left_b = 0;
  while (true) {
    while (left_a == 0 && ia < a.counts.size()) left_a = a.counts[ia++];
    while (left_b == 0 && ib < b.counts.size()) left_b = b.counts[ib++];
    const std::uint32_t length = std::min(left_a, left_b);
    if (length == 0) return;
    emit(length, ia % 2 == 0, ib % 2 == 0);
    left_a -= length;
    left_b -= length;
  }
}

Rle merge_two(const Rle& a, const Rle& b, bool intersect) {
  require(a.height == b.height && a.width == b.width, "merge_masks: sizes {} x {} and {} x {} differ",
          a.height, a.width, b.height, b.width);
  Rle out{a.height, a.width, {}};
  std::uint32_t run = 0;
  bool inside = false;
  walk(a, b, [&](std::uint32_t length, bool in_a, bool in_b) {
    const bool in = intersect ? in_a && in_b : in_a || in_b;
    if (in != inside) {
      out.counts.push_back(run);
      run = 0;
      inside = in;
    }
    run += length;
  });
  if (run != 0) out.counts.push_back(run);
  return out;
}

}  // namespace

Rle merge_masks(std::span<const Rle> masks, bool intersect) {
  if (masks.empty()) return {};
  Rle out = masks[0];
  for (const auto& mask : masks.subspan(1)) out = merge_two(out, mask, intersect);
  return out;
}

std::int64_t mask_area(const Rle& rle) {
  std::int64_t area = 0;
  for (std::size_t i = 1; i < rle.counts.size(); i += 2) area += rle.counts[i];
  return area;
}

std::array<double, 4> mask_box(const Rle& rle) {
  if (rle.height == 0) return {};
  const auto height = static_cast<std::uint32_t>(rle.height);
  std::uint32_t x0 = static_cast<std::uint32_t>(rle.width), y0 = height, x1 = 0, y1 = 0, begin = 0;
  for (std::size_t i = 0; i < rle.counts.size(); ++i) {
    const std::uint32_t end = begin + rle.counts[i];
    if (i % 2 == 1 && begin != end) {
      const std::uint32_t first = begin / height, last = (end - 1) / height;
      x0 = std::min(x0, first);
      x1 = std::max(x1, last + 1);
      const bool wraps = first != last;  // a run over several columns touches the top and the bottom
      y0 = wraps ? 0 : std::min(y0, begin - first * height);
      y1 = wraps ? height : std::max(y1, end - last * height);
    }
    begin = end;
  }
  if (x1 == 0) return {};
  return {double(x0), double(y0), double(x1 - x0), double(y1 - y0)};
}

MaskSpans::MaskSpans(const Rle& rle)
    : height(rle.height), width(rle.width), area(mask_area(rle)), box(mask_box(rle)) {
  edges.reserve(rle.counts.size());
  std::uint32_t position = 0;
  for (std::size_t i = 0; i < rle.counts.size(); ++i) {
    const std::uint32_t end = position + rle.counts[i];
    if (i % 2 == 1 && position != end) edges.insert(edges.end(), {position, end});
    position = end;
  }
}

double box_iou(const std::array<double, 4>& d, const std::array<double, 4>& g, bool crowd) {
  const double w = std::min(d[2] + d[0], g[2] + g[0]) - std::max(d[0], g[0]);
  if (w <= 0) return 0;
  const double h = std::min(d[3] + d[1], g[3] + g[1]) - std::max(d[1], g[1]);
  if (h <= 0) return 0;
  const double common = w * h, area = d[2] * d[3];
  return common / (crowd ? area : area + g[2] * g[3] - common);
}

double mask_iou(const MaskSpans& detection, const MaskSpans& truth, bool crowd) {
  if (!(box_iou(detection.box, truth.box, crowd) > 0)) return 0;
  if (detection.height != truth.height || detection.width != truth.width) return -1;

  const auto skip_before = [](const std::vector<std::uint32_t>& edges, std::uint32_t position) {
    const auto at = std::upper_bound(edges.begin(), edges.end(), position) - edges.begin();
    return static_cast<std::size_t>(at) & ~std::size_t{1};  // to the begin of the span that ends behind it
  };
  const auto& a = detection.edges;
  const auto& b = truth.edges;
  std::size_t i = skip_before(a, b.front()), j = skip_before(b, a.front());
  std::int64_t common = 0;
  while (i < a.size() && j < b.size()) {
    const std::uint32_t end_a = a[i + 1], end_b = b[j + 1];
    const std::uint32_t begin = std::max(a[i], b[j]), end = std::min(end_a, end_b);
    common += end > begin ? end - begin : 0;
    i += end_a <= end_b ? 2 : 0;
    j += end_b <= end_a ? 2 : 0;
  }
  if (common == 0) return 0;
  return double(common) / double(crowd ? detection.area : detection.area + truth.area - common);
}

double mask_iou(const Rle& detection, const Rle& truth, bool crowd) {
  return mask_iou(MaskSpans(detection), MaskSpans(truth), crowd);
}

}  // namespace osprey

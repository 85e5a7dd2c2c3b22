#include "eval/coco_pairs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "core/error.h"
#include "core/parallel.h"

namespace osprey {

namespace {

constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

template <class T>
std::vector<std::int64_t> sorted_ids(const std::vector<T>& entries) {
  std::vector<std::int64_t> ids;
  for (const auto& entry : entries) ids.push_back(entry.id);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

std::unordered_map<std::int64_t, std::size_t> positions(const std::vector<std::int64_t>& ids) {
  std::unordered_map<std::int64_t, std::size_t> map;
  for (std::size_t i = 0; i < ids.size(); ++i) map.emplace(ids[i], i);
  return map;
}

// Sorts `order` by keys[order[i]], which are below `key_count`, keeping the order of equal ones.
void stable_sort_by(std::vector<std::uint32_t>& order, const std::vector<std::size_t>& keys,
                    std::size_t key_count) {
  std::vector<std::size_t> next(key_count + 1);
  for (const auto i : order) ++next[keys[i] + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  std::vector<std::uint32_t> sorted(order.size());
  for (const auto i : order) sorted[next[keys[i]]++] = i;
  order = std::move(sorted);
}

// Where entries stand: their category's and image's index, and the order of those that have both.
struct Placement {
  std::vector<std::size_t> category, image;
  std::vector<std::uint32_t> order;
};

template <class T>
Placement place(const std::vector<T>& entries, const CocoPairs& pairs, bool use_categories) {
  const auto categories = positions(pairs.category_ids), images = positions(pairs.image_ids);
  const auto find = [](const auto& map, std::int64_t id) {
    const auto at = map.find(id);
    return at == map.end() ? kNowhere : at->second;
  };
  require(entries.size() < std::numeric_limits<std::uint32_t>::max(), "{} entries are too many",
          entries.size());
  Placement out;
  out.category.resize(entries.size());
  out.image.resize(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    out.category[i] = find(categories, entries[i].category_id);
    out.image[i] = find(images, entries[i].image_id);
    if (out.category[i] != kNowhere && out.image[i] != kNowhere)
      out.order.push_back(static_cast<std::uint32_t>(i));
  }
  // Least significant first. Pooled categories follow one another within an image.
  if (!use_categories) stable_sort_by(out.order, out.category, pairs.category_ids.size());
  stable_sort_by(out.order, out.image, pairs.image_ids.size());
  if (use_categories) {
    stable_sort_by(out.order, out.category, pairs.category_ids.size());
  } else {
    std::fill(out.category.begin(), out.category.end(), 0);
  }
  return out;
}

std::vector<Cell> make_cells(const Placement& truths, const Placement& found) {
  std::vector<Cell> cells;
  std::size_t t = 0, f = 0;
  const auto cell_at = [](const Placement& p, std::size_t i) {
    if (i == p.order.size()) return std::pair(kNowhere, kNowhere);
    return std::pair(p.category[p.order[i]], p.image[p.order[i]]);
  };
  while (t < truths.order.size() || f < found.order.size()) {
    const auto key = std::min(cell_at(truths, t), cell_at(found, f));
    Cell cell{key.first, key.second, t, t, f, f};
    while (cell_at(truths, cell.truth_end) == key) ++cell.truth_end;
    while (cell_at(found, cell.found_end) == key) ++cell.found_end;
    t = cell.truth_end;
    f = cell.found_end;
    cells.push_back(cell);
  }
  return cells;
}

// numpy's order of additions (pairwise summation below 128 terms), so that sums agree to the last bit.
double numpy_sum(const std::vector<double>& v) {
  if (v.size() < 8) return std::accumulate(v.begin(), v.end(), 0.);
  std::array<double, 8> r;
  std::copy_n(v.begin(), 8, r.begin());
  std::size_t i = 8;
  for (; i + 8 <= v.size(); i += 8) {
    for (std::size_t j = 0; j < 8; ++j) r[j] += v[i + j];
  }
  double sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < v.size(); ++i) sum += v[i];
  return sum;
}

XywhBox extent(const std::vector<double>& keypoints) {
  XywhBox b{keypoints[0], keypoints[1], keypoints[0], keypoints[1]};
  for (std::size_t i = 0; i < keypoints.size(); i += 3) {
    b = {std::min(b[0], keypoints[i]), std::min(b[1], keypoints[i + 1]), std::max(b[2], keypoints[i]),
         std::max(b[3], keypoints[i + 1])};
  }
  return {b[0], b[1], b[2] - b[0], b[3] - b[1]};
}

}  // namespace

std::vector<double> default_keypoint_sigmas() {
  std::vector<double> sigmas{.26, .25, .25,  .35,  .35, .79, .79, .72, .72,
                             .62, .62, 1.07, 1.07, .87, .87, .89, .89};
  for (auto& sigma : sigmas) sigma /= 10;  // as COCO's code does, which decides the last bit
  return sigmas;
}

CocoPairs make_pairs(const CocoAnnotations& truth, const CocoResults& results, bool use_categories,
                     int max_detections) {
  CocoPairs pairs;
  pairs.image_ids = sorted_ids(truth.images);
  pairs.category_ids = sorted_ids(truth.categories);

  const Placement truths = place(truth.annotations, pairs, use_categories);
  const Placement found = place(results.entries, pairs, use_categories);
  for (std::size_t i = 0; i < found.image.size(); ++i) {
    require(found.image[i] != kNowhere, "{}: result {}: image_id {} is not in {}", results.source, i,
            results.entries[i].image_id, truth.source);
  }
  pairs.truths = truths.order;
  pairs.found = found.order;
  pairs.cells = make_cells(truths, found);
  parallel_for(
      static_cast<std::int64_t>(pairs.cells.size()), 1024, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = begin; i < end; ++i) {
          Cell& cell = pairs.cells[i];
          const auto first = pairs.found.begin() + static_cast<std::ptrdiff_t>(cell.found_begin);
          std::stable_sort(
              first, first + static_cast<std::ptrdiff_t>(cell.found_count()),
              [&](auto a, auto b) { return results.entries[a].score > results.entries[b].score; });
          cell.found_end =
              cell.found_begin + std::min(cell.found_count(), static_cast<std::size_t>(max_detections));
        }
      });
  return pairs;
}

Overlaps::Overlaps(const CocoAnnotations& truth, const CocoResults& results, CocoType type,
                   std::vector<double> sigmas)
    : truth_(truth), results_(results), type_(type), sigmas_(std::move(sigmas)) {
  for (const auto& image : truth.images) images_[image.id] = &image;
}

XywhBox Overlaps::truth_box(std::size_t i) const {
  const auto& annotation = truth_.annotations[i];
  require(annotation.box.has_value(), "{}: annotation {} (id {}): the key \"bbox\" is missing", truth_.source,
          i, annotation.id);
  return *annotation.box;
}

XywhBox Overlaps::result_box(std::size_t i) const {
  const auto& entry = results_.entries[i];
  if (entry.box) return *entry.box;
  if (entry.mask) return mask_box(*entry.mask);
  require(!entry.keypoints.empty(),
          "{}: result {}: it has neither \"bbox\" nor \"segmentation\" nor \"keypoints\"", results_.source,
          i);
  return extent(entry.keypoints);
}

MaskSpans Overlaps::truth_mask(std::size_t i) const {
  const auto& annotation = truth_.annotations[i];
  require(annotation.mask.has_value(), "{}: annotation {} (id {}): the key \"segmentation\" is missing",
          truth_.source, i, annotation.id);
  return MaskSpans(*annotation.mask);
}

MaskSpans Overlaps::result_mask(std::size_t i) const {
  const auto& entry = results_.entries[i];
  if (entry.mask) return MaskSpans(*entry.mask);
  const auto image = images_.find(entry.image_id);
  require(entry.box && image != images_.end() && image->second->height > 0 && image->second->width > 0,
          "{}: result {}: it has no \"segmentation\", nor a \"bbox\" in an image of known size",
          results_.source, i);
  return MaskSpans(rle_from_box(*entry.box, image->second->height, image->second->width));
}

double Overlaps::area_of(std::size_t i) const {
  const auto& first = results_.entries[0];
  const auto& entry = results_.entries[i];
  if (!first.box && first.mask) {
    require(entry.mask.has_value(), "{}: result {}: the key \"segmentation\" is missing", results_.source, i);
    return static_cast<double>(mask_area(*entry.mask));
  }
  require(!first.box || entry.box, "{}: result {}: the key \"bbox\" is missing", results_.source, i);
  const auto box = result_box(i);
  return box[2] * box[3];
}

double Overlaps::object_keypoint_similarity(std::size_t result, std::size_t annotation) const {
  const auto& g = truth_.annotations[annotation].keypoints;
  const auto& d = results_.entries[result].keypoints;
  const std::size_t count = sigmas_.size();
  require(g.size() == 3 * count, "{}: annotation {} (id {}): keypoints: expected {} points, got {} numbers",
          truth_.source, annotation, truth_.annotations[annotation].id, count, g.size());
  require(d.size() == 3 * count, "{}: result {}: keypoints: expected {} points, got {} numbers",
          results_.source, result, count, d.size());

  bool labelled = false;
  for (std::size_t k = 0; k < count; ++k) labelled |= g[3 * k + 2] > 0;
  // Without a labelled point the distance is to the box, doubled around its centre.
  const XywhBox box = labelled ? XywhBox{} : truth_box(annotation);
  const auto outside = [](double p, double low, double high) {
    return std::max(0., low - p) + std::max(0., p - high);
  };
  const double area = truth_.annotations[annotation].area + std::numeric_limits<double>::epsilon();
  std::vector<double> terms;
  terms.reserve(count);
  for (std::size_t k = 0; k < count; ++k) {
    if (labelled && !(g[3 * k + 2] > 0)) continue;
    const double x = d[3 * k], y = d[3 * k + 1];
    const double dx = labelled ? x - g[3 * k] : outside(x, box[0] - box[2], box[0] + box[2] * 2);
    const double dy = labelled ? y - g[3 * k + 1] : outside(y, box[1] - box[3], box[1] + box[3] * 2);
    const double variance = (sigmas_[k] * 2) * (sigmas_[k] * 2);
    terms.push_back(std::exp(-((dx * dx + dy * dy) / variance / area / 2)));
  }
  return numpy_sum(terms) / static_cast<double>(terms.size());
}

void Overlaps::compute(const CocoPairs& pairs, const Cell& cell, std::vector<double>& out) const {
  out.clear();
  if (cell.truth_count() == 0 || cell.found_count() == 0) return;
  out.reserve(cell.truth_count() * cell.found_count());

  const auto fill = [&](auto&& truth_shape, auto&& result_shape, auto&& overlap) {
    std::vector<decltype(truth_shape(0))> truths;
    for (auto t = cell.truth_begin; t < cell.truth_end; ++t) truths.push_back(truth_shape(pairs.truths[t]));
    for (auto f = cell.found_begin; f < cell.found_end; ++f) {
      const auto shape = result_shape(pairs.found[f]);
      for (auto t = cell.truth_begin; t < cell.truth_end; ++t) {
        const bool crowd = truth_.annotations[pairs.truths[t]].crowd;
        out.push_back(overlap(shape, truths[t - cell.truth_begin], crowd));
      }
    }
  };
  switch (type_) {
    case CocoType::kBbox:
      return fill([&](std::size_t i) { return truth_box(i); }, [&](std::size_t i) { return result_box(i); },
                  box_iou);
    case CocoType::kSegm:
      return fill([&](std::size_t i) { return truth_mask(i); }, [&](std::size_t i) { return result_mask(i); },
                  [](const MaskSpans& d, const MaskSpans& g, bool crowd) { return mask_iou(d, g, crowd); });
    case CocoType::kKeypoints:
      return fill([](std::size_t i) { return i; }, [](std::size_t i) { return i; },
                  [&](std::size_t d, std::size_t g, bool) { return object_keypoint_similarity(d, g); });
  }
}

}  // namespace osprey

#include "eval/agreement.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/core.h>

#include "image/rle.h"

namespace osprey {
namespace {

double overlap(const Box& a, const Box& b) {
  const double w = std::min(a.x1, b.x1) - std::max(a.x0, b.x0),
               h = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
  const double shared = w > 0 && h > 0 ? w * h : 0;
  const double all = static_cast<double>(a.area()) + b.area() - shared;
  return all > 0 ? shared / all : (a == b ? 1 : 0);
}

double box_difference(const Box& a, const Box& b) {
  return std::max(
      {std::abs(a.x0 - b.x0), std::abs(a.y0 - b.y0), std::abs(a.x1 - b.x1), std::abs(a.y1 - b.y1)});
}

std::int64_t different_pixels(const Rle& a, const Rle& b) {
  const std::array<Rle, 2> both{a, b};
  return mask_area(merge_masks(both, /*intersect=*/false)) - mask_area(merge_masks(both, /*intersect=*/true));
}

void compare_masks(const Rle& a, const Rle& b, const AgreementBounds& bounds, Agreement& out) {
  const bool one_size = a.width == b.width && a.height == b.height;
  const std::int64_t pixels = one_size ? different_pixels(a, b) : std::numeric_limits<std::int64_t>::max();
  const double iou = pixels == 0 ? 1 : one_size ? mask_iou(a, b, /*crowd=*/false) : 0;
  out.worst_mask_iou = std::min(out.worst_mask_iou, iou);
  out.most_mask_pixels = std::max(out.most_mask_pixels, pixels);
  out.masks_outside += iou < bounds.mask_iou && pixels > bounds.mask_pixels;
}

}  // namespace

AgreementBounds bounds_for_fp32() { return {}; }

AgreementBounds bounds_for_reduced_precision() {
  constexpr double kAny = std::numeric_limits<double>::infinity();
  return {.match_iou = 0.95, .matched_share = 0.98, .box = kAny, .score = kAny, .mask_iou = 0, .stage = 0.02};
}

void Agreement::add(const Agreement& image) {
  first += image.first;
  second += image.second;
  matched += image.matched;
  largest_box = std::max(largest_box, image.largest_box);
  largest_score = std::max(largest_score, image.largest_score);
  worst_mask_iou = std::min(worst_mask_iou, image.worst_mask_iou);
  most_mask_pixels = std::max(most_mask_pixels, image.most_mask_pixels);
  masks_outside += image.masks_outside;
}

Agreement compare_detections(const Detections& first, const Detections& second,
                             const AgreementBounds& bounds) {
  Agreement out;
  out.first = static_cast<std::int64_t>(first.items.size());
  out.second = static_cast<std::int64_t>(second.items.size());
  std::vector<bool> taken(second.items.size(), false);
  for (const Detection& a : first.items) {
    double best = bounds.match_iou;
    const Detection* partner = nullptr;
    for (std::size_t j = 0; j < second.items.size(); ++j) {
      const Detection& b = second.items[j];
      const double iou = taken[j] || a.class_index != b.class_index ? -1 : overlap(a.box, b.box);
      // Among equal overlaps the first, which scores highest.
      if (iou > best || (iou == best && !partner)) best = iou, partner = &b;
    }
    if (!partner) continue;
    taken[static_cast<std::size_t>(partner - second.items.data())] = true;
    ++out.matched;
    out.largest_box = std::max(out.largest_box, box_difference(a.box, partner->box));
    out.largest_score = std::max(out.largest_score, std::abs(static_cast<double>(a.score) - partner->score));
    if (a.mask && partner->mask) compare_masks(*a.mask, *partner->mask, bounds, out);
  }
  return out;
}

std::vector<std::string> violations(const Agreement& total, const AgreementBounds& bounds) {
  std::vector<std::string> out;
  const auto share = [](std::int64_t part, std::int64_t whole) {
    return whole ? static_cast<double>(part) / static_cast<double>(whole) : 1.0;
  };
  if (share(total.matched, total.first) < bounds.matched_share)
    out.push_back(
        fmt::format("{} of {} detections are missing from the second", total.missing(), total.first));
  if (share(total.matched, total.second) < bounds.matched_share)
    out.push_back(fmt::format("{} of {} detections of the second are extra", total.extra(), total.second));
  if (total.largest_box > bounds.box)
    out.push_back(
        fmt::format("boxes differ by up to {:.4g} px (bound {:.4g})", total.largest_box, bounds.box));
  if (total.largest_score > bounds.score)
    out.push_back(
        fmt::format("scores differ by up to {:.3g} (bound {:.3g})", total.largest_score, bounds.score));
  if (total.masks_outside > 0)
    out.push_back(fmt::format("{} masks overlap by less than {} and differ in more than {} pixels",
                              total.masks_outside, bounds.mask_iou, bounds.mask_pixels));
  return out;
}

}  // namespace osprey

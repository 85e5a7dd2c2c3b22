// Binary masks as run lengths: COCO's mask API, number for number (pycocotools 2.0.11).
//
// Runs go down the columns, left to right, and start with zeros (a run that may be empty); they add up to
// height x width, which is below 2^31. Every Rle that a function here returns is canonical: no run but the
// first is empty. The compressed text packs 5 bits a character from '0' up, least significant first, bit 5
// marking continuation; from the fourth count on the difference to the count two before is stored.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "osprey/detections.h"

namespace osprey {

// From and to a mask of bytes in row-major order, nonzero = inside. decode_mask writes 0 and 1.
Rle encode_mask(const std::uint8_t* mask, int height, int width);
void decode_mask(const Rle& rle, std::uint8_t* mask);

// Counts from a file: throws Error(kBadInput) unless they add up to height x width. Empty runs are merged
// away.
Rle rle_from_counts(std::span<const std::uint32_t> counts, int height, int width);

// COCO's compressed text. decompress_rle throws on anything but counts that add up to height x width.
std::string compress_rle(const Rle& rle);
Rle decompress_rle(std::string_view text, int height, int width);

// A polygon x0, y0, x1, y1, ... in pixels, rasterised as COCO does: vertices on a grid of fifths of a pixel,
// columns sampled at their centres. Coordinates are finite and below 1e8 in magnitude, or it is bad input.
Rle rle_from_polygon(std::span<const double> xy, int height, int width);
// The same for the four corners of a box x, y, w, h.
Rle rle_from_box(std::array<double, 4> xywh, int height, int width);

// Union or intersection of masks of one size; no masks at all give an empty mask of 0 x 0.
Rle merge_masks(std::span<const Rle> masks, bool intersect);
std::int64_t mask_area(const Rle& rle);
// x, y, width, height of the pixels inside; zeros for an empty mask.
std::array<double, 4> mask_box(const Rle& rle);

// Intersection over union; over the first mask's area alone where `crowd` (the second is a crowd region).
// Masks of different sizes give -1 where their boxes touch, else 0, as in COCO's code.
double mask_iou(const Rle& detection, const Rle& truth, bool crowd);
double box_iou(const std::array<double, 4>& detection_xywh, const std::array<double, 4>& truth_xywh,
               bool crowd);

// The ones of a mask with what every comparison needs, computed once: for all-pairs loops.
struct MaskSpans {
  explicit MaskSpans(const Rle& rle);

  int height = 0, width = 0;
  std::int64_t area = 0;
  std::array<double, 4> box{};       // mask_box
  std::vector<std::uint32_t> edges;  // begin, end, begin, end, ... of the runs of ones
};
double mask_iou(const MaskSpans& detection, const MaskSpans& truth, bool crowd);

}  // namespace osprey

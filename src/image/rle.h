// Binary masks as run lengths: COCO's mask API, number for number (pycocotools 2.0.11).
//
// Runs go down the columns, left to right, and start with zeros. The compressed text packs 5 bits a
// character from '0' up, least significant first, bit 5 marking continuation; from the third count on the
// difference to the count two before is stored.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "osprey/detections.h"

namespace osprey {

// From and to a mask of bytes in row-major order, nonzero = inside. decode_mask writes 0 and 1.
Rle encode_mask(const std::uint8_t* mask, int height, int width);
void decode_mask(const Rle& rle, std::uint8_t* mask);

// COCO's compressed text. decompress_rle throws on counts that do not fit height x width.
std::string compress_rle(const Rle& rle);
Rle decompress_rle(std::string_view text, int height, int width);

// A polygon x0, y0, x1, y1, ... in pixels, rasterised as COCO does (5 x upsampled edges); and a box x, y, w, h.
Rle rle_from_polygon(std::span<const double> xy, int height, int width);
Rle rle_from_box(std::array<double, 4> xywh, int height, int width);

Rle merge_masks(std::span<const Rle> masks, bool intersect);
std::int64_t mask_area(const Rle& rle);
// x, y, width, height of the pixels inside; zeros for an empty mask.
std::array<double, 4> mask_box(const Rle& rle);

// Intersection over union; over the first mask's area alone where `crowd` (the second is a crowd region).
double mask_iou(const Rle& detection, const Rle& truth, bool crowd);
double box_iou(const std::array<double, 4>& detection_xywh, const std::array<double, 4>& truth_xywh, bool crowd);

}  // namespace osprey

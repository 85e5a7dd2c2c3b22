// A mask head's probabilities into the photo, as Detectron2's paste_masks_in_image does on a CPU
// (detectron2/layers/mask_ops.py over torch's grid_sample, bilinear, align_corners False, zeros outside).
//
// Pixel (x, y) of the photo samples the map at ((x + 0.5 - x0) / (x1 - x0) * size - 0.5, likewise y), where
// the box is not rounded. Torch's float32 operations are repeated one by one, the fused ones fused, so a
// probability that lands on the threshold falls on the same side. Only pixels from floor(x0) - 1 up to
// ceil(x1) + 1 are looked at, also as there.
//
// Or as maskrcnn-benchmark's Masker does it: the box is cut to whole inclusive corners (ops/paste_masks.h),
// the map, within one cell of zeros, is enlarged to its pixels by torch's interpolate (bilinear,
// align_corners False), and a probability must be above the threshold.
//
// Or as TensorFlow's Object Detection API does it (reframe_box_masks_to_image_masks): the first and the last
// pixel of the photo and of the map are its edges, and what lies outside the box is outside.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "osprey/detections.h"

namespace osprey {

// Memory that one thread keeps from mask to mask, so that pasting stops allocating once it has grown.
struct PasteWorkspace {
  // One side of the box: for each photo pixel from `begin` to `end`, the map's row or column below it (into
  // the padded map) and the weights of that and of the next.
  struct Axis {
    int begin = 0, end = 0;
    std::vector<int> index;
    std::vector<float> near, far;
  };
  Axis x, y;
  std::vector<float> padded;  // the map within two cells of zeros
  // Of one column of pixels: north-west, north-east, south-west, south-east.
  std::array<std::vector<float>, 4> corners;
  std::vector<std::uint8_t> inside;  // of one column of pixels: 0 or 1
};

// The mask of size x size `probabilities` (row-major) in a photo of height x width: the pixels of `box` where
// the probability is at least `threshold`, which must be positive. A box without extent, outside the photo or
// not finite gives an empty mask.
enum class MaskSampling : std::uint8_t { kCentres, kCorners, kPadded };
void paste_mask(std::span<const float> probabilities, int size, const Box& box, int height, int width,
                float threshold, PasteWorkspace& workspace, Rle& out,
                MaskSampling sampling = MaskSampling::kCentres);

// The same, but for the threshold: into `out`, height * width by rows, the probabilities in 255ths, cut to
// whole numbers; 0 outside the box.
void paste_probabilities(std::span<const float> probabilities, int size, const Box& box, int height,
                         int width, PasteWorkspace& workspace, std::span<std::uint8_t> out,
                         MaskSampling sampling);

}  // namespace osprey

// Mask probabilities into the original image, as COCO run lengths (Detectron2's paste_masks_in_image): the
// map is sampled bilinearly at pixel centres over the unrounded box, zero outside, and a pixel is inside
// where the probability is >= threshold.
//
// `rule` corners is TensorFlow's (reframe_box_masks_to_image_masks of its Object Detection API): the first
// and last pixel of photo and map are their edges, and a pixel outside the box is outside the mask.
//
// `rule` padded is maskrcnn-benchmark's Masker (boxes are inclusive): the map gets a border of one zero, the
// box grows about its centre as the map did, its corners are cut to whole numbers towards zero, the map is
// enlarged (bilinear, align_corners false) to the pixels from corner to corner, both held, and a pixel is
// inside where the result is > threshold.
//
// masks f32[D,S,S], boxes f32[E,5] of the original image, rows i32[E] (box e shows mask rows[e]),
// geometry f32[N,6]
//   -> runs i32[?] (osprey/detections.h's Rle, all masks one after the other), ends i32[E] (of each mask's)
#pragma once

#include "graph/infer.h"

namespace osprey {

enum class PasteRule : std::uint8_t { kCentres, kCorners, kPadded };
inline constexpr std::array<std::string_view, 3> kPasteRuleNames{"centres", "corners", "padded"};
constexpr const auto& enum_names(PasteRule) { return kPasteRuleNames; }

struct PasteMasks {
  static constexpr std::string_view kName = "paste_masks";
  float threshold = 0.5f;
  PasteRule rule = PasteRule::kCentres;
  void fields(auto&& f) { f("threshold", threshold), f("rule", rule); }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(4, 4);
    in.expect(0, "masks", {DType::kF32}, {"D", "S", "S"});
    in.expect(1, "boxes", {DType::kF32}, {"E", 5});
    in.expect(2, "rows", {DType::kI32}, {"E"});
    in.expect(3, "geometry", {DType::kF32}, {"N", 6});
    return {{DType::kI32, {Dim::unknown()}}, {DType::kI32, {in.dim("E")}}};
  }
};

}  // namespace osprey

// Resizes each photo of a batch for the network and records how to get back.
//
// photos u8[N,H,W,3] RGB, each in the top-left corner of its slot; sizes i32[N,2] (height, width) of each.
//   -> resized u8[N,rh,rw,3], each again in the top-left corner, what lies outside it unspecified;
//      geometry f32[N,6]: height and width that boxes are clipped to, factors (y, x) from network pixels to
//      original ones, original height and width.
// The TensorFlow rules give f32[N,rh,rw,3] instead, zero outside the photo: each level of a channel becomes
// (level * scale - mean) / std, without mean and std level * scale, one rounding an operation, and is
// interpolated then.
//
// Sizes by `fit`:
//   shortest_edge  Detectron2's ResizeShortestEdge: scale = shortest / min(h, w); if the longer side then
//   exceeds
//                  `longest`, scale again by longest / that; both sides int(x + 0.5), in double arithmetic.
//                  With a canvas (a fixed input size) the scale is the largest at which the photo fits, and
//                  boxes are clipped to the canvas, not the photo, as NVIDIA's TensorRT sample for Detectron2
//                  has it.
//   stretch        To the canvas, whatever the photo's shape (TensorFlow's fixed_shape_resizer,
//   PaddleDetection's
//                  Resize without keep_ratio). Boxes are clipped to the canvas, factors are original / canvas
//                  for each axis.
//   keep_aspect    TensorFlow's keep_aspect_ratio_resizer: in float32, scale = min(target height / h, target
//   width
//                  / w), target (shortest, longest) for h < w, else (longest, shortest); sides round(scale *
//                  side), half to even. Boxes are clipped to the resized photo, factors are original /
//                  resized. A canvas pads it (pad_to_max_dimension).
//   truncate       AutoML's EfficientDet: in float32, scale = min(canvas height / h, canvas width / w), sides
//                  int(side * scale). Boxes are clipped to the canvas, both factors are 1 / scale.
//   short_side     maskrcnn-benchmark's Resize, without a canvas: the shorter side becomes `shortest`, or
//                  round(longest * shorter / longer), half to even, where longer / shorter * shortest exceeds
//                  `longest`; the longer one int(new shorter * longer / shorter), in double arithmetic.
// With a canvas rh x rw are its extents, except with shortest_edge.
#pragma once

#include "graph/infer.h"

namespace osprey {

// kPilBilinear: Pillow's bilinear filter on 8 bits (antialiased, horizontal pass first, each pass rounded).
// kCvCubic: OpenCV's bicubic one, likewise from and to 8 bits (image/resize_cubic.h).
// TensorFlow's, in float32 and not antialiased, neighbours clamped at the edges: kTfBilinear takes output i
// from i * (in / out) (version 1: half_pixel_centers and align_corners false), kTfHalfPixel from (i + 0.5) *
// (in / out) - 0.5 (version 2).
enum class ResizeRule : std::uint8_t { kPilBilinear, kTfBilinear, kTfHalfPixel, kCvCubic };
inline constexpr std::array<std::string_view, 4> kResizeRuleNames{"pil_bilinear", "tf_bilinear",
                                                                  "tf_half_pixel", "cv_cubic"};
constexpr const auto& enum_names(ResizeRule) { return kResizeRuleNames; }

enum class Fit : std::uint8_t { kShortestEdge, kStretch, kKeepAspect, kTruncate, kShortSide };
inline constexpr std::array<std::string_view, 5> kFitNames{"shortest_edge", "stretch", "keep_aspect",
                                                           "truncate", "short_side"};
constexpr const auto& enum_names(Fit) { return kFitNames; }

struct ResizeImage {
  static constexpr std::string_view kName = "resize_image";
  ResizeRule rule = ResizeRule::kPilBilinear;
  int shortest = 800, longest = 1333;       // pixels; unused with a canvas
  int canvas_height = 0, canvas_width = 0;  // 0: no canvas
  bool bgr = false;                         // store blue first
  Fit fit = Fit::kShortestEdge;
  float scale = 1;               // of the TensorFlow rules
  std::vector<float> mean, std;  // likewise, in the order channels are stored; both or none
  void fields(auto&& f) {
    f("rule", rule), f("shortest", shortest), f("longest", longest), f("canvas_height", canvas_height),
        f("canvas_width", canvas_width), f("bgr", bgr), f("fit", fit), f("scale", scale), f("mean", mean),
        f("std", std);
  }
  bool to_float() const { return rule == ResizeRule::kTfBilinear || rule == ResizeRule::kTfHalfPixel; }
  // Whether the slots of the photos are the canvas, whatever the photos.
  bool fills_canvas() const { return canvas_height > 0 && fit != Fit::kShortestEdge; }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "photos", {DType::kU8}, {"N", "H", "W", 3});
    in.expect(1, "sizes", {DType::kI32}, {"N", 2});
    require((canvas_height > 0) == (canvas_width > 0) && canvas_height >= 0, "resize_image: canvas {}x{}",
            canvas_height, canvas_width);
    require(shortest > 0 && longest >= shortest,
            "resize_image: shortest {} and longest {} (need 0 < shortest <= longest)", shortest, longest);
    const bool canvas = canvas_height > 0;
    require(canvas || fit == Fit::kShortestEdge || fit == Fit::kKeepAspect || fit == Fit::kShortSide,
            "resize_image: the fit '{}' needs a canvas", kFitNames[static_cast<std::size_t>(fit)]);
    const bool short_side = fit == Fit::kShortSide && rule == ResizeRule::kPilBilinear && !canvas;
    require((to_float() && fit != Fit::kShortSide) || short_side ||
                fit == (rule == ResizeRule::kCvCubic ? Fit::kStretch : Fit::kShortestEdge),
            "resize_image: the fit '{}' does not go with the rule '{}'{}",
            kFitNames[static_cast<std::size_t>(fit)], kResizeRuleNames[static_cast<std::size_t>(rule)],
            canvas ? " and a canvas" : "");
    require(to_float() || (scale == 1 && mean.empty() && std.empty()),
            "resize_image: scale, mean and std go with the TensorFlow rules");
    require((mean.empty() && std.empty()) || (mean.size() == 3 && std.size() == 3),
            "resize_image: {} numbers in mean, {} in std (need 3 or none)", mean.size(), std.size());
    for (const float s : std) require(s > 0, "resize_image: a standard deviation of {}", s);
    require(!canvas || fit != Fit::kKeepAspect || (canvas_height >= longest && canvas_width >= longest),
            "resize_image: a canvas of {}x{} does not hold photos of up to {} pixels a side", canvas_height,
            canvas_width, longest);
    const Dim height = fills_canvas() ? Dim(canvas_height) : Dim::symbol("rh");
    const Dim width = fills_canvas() ? Dim(canvas_width) : Dim::symbol("rw");
    return {{to_float() ? DType::kF32 : DType::kU8, {in.dim("N"), height, width, 3}},
            {DType::kF32, {in.dim("N"), 6}}};
  }
};

}  // namespace osprey

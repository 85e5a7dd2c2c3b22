// Resizes each photo of a batch for the network and records how to get back.
//
// photos u8[N,H,W,3] RGB, each in the top-left corner of its slot; sizes i32[N,2] (height, width) of each.
//   -> resized u8[N,rh,rw,3], each again in the top-left corner, what lies outside it unspecified;
//      geometry f32[N,6]: height and width that boxes are clipped to, factors (y, x) from network pixels to
//      original ones, original height and width.
//
// The size rule is Detectron2's ResizeShortestEdge: scale = shortest / min(h, w); if the longer side then
// exceeds `longest`, scale again by longest / that; both sides int(x + 0.5), in double arithmetic. With a
// canvas (a fixed input size) the scale is the largest at which the photo fits, and boxes are clipped to the
// canvas, not the photo, as NVIDIA's TensorRT sample for Detectron2 has it.
#pragma once

#include "graph/infer.h"

namespace osprey {

// Pillow's bilinear filter on 8 bits (antialiased, horizontal pass first, each pass rounded).
enum class ResizeRule : std::uint8_t { kPilBilinear };
inline constexpr std::array<std::string_view, 1> kResizeRuleNames{"pil_bilinear"};
constexpr const auto& enum_names(ResizeRule) { return kResizeRuleNames; }

struct ResizeImage {
  static constexpr std::string_view kName = "resize_image";
  ResizeRule rule = ResizeRule::kPilBilinear;
  int shortest = 800, longest = 1333;       // pixels; unused with a canvas
  int canvas_height = 0, canvas_width = 0;  // 0: no canvas
  bool bgr = false;                         // store blue first
  void fields(auto&& f) {
    f("rule", rule), f("shortest", shortest), f("longest", longest), f("canvas_height", canvas_height),
        f("canvas_width", canvas_width), f("bgr", bgr);
  }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(2, 2);
    in.expect(0, "photos", {DType::kU8}, {"N", "H", "W", 3});
    in.expect(1, "sizes", {DType::kI32}, {"N", 2});
    require((canvas_height > 0) == (canvas_width > 0) && canvas_height >= 0, "resize_image: canvas {}x{}",
            canvas_height, canvas_width);
    require(shortest > 0 && longest >= shortest,
            "resize_image: shortest {} and longest {} (need 0 < shortest <= longest)", shortest, longest);
    return {{DType::kU8, {in.dim("N"), Dim::symbol("rh"), Dim::symbol("rw"), 3}},
            {DType::kF32, {in.dim("N"), 6}}};
  }
};

}  // namespace osprey

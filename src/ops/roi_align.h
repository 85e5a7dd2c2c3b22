// Bilinear crops of a feature pyramid under boxes: one output map a box, from the level that fits its size.
//
// features [N,C,H_l,W_l] for each level, then rois f32[R,5] = (image, x0, y0, x1, y1) in network pixels
//   -> [R,C,out,out]
//
// Each bin averages samples^2 bilinear samples; samples 0 takes ceil(box extent / out) of them a side, at
// least one (torchvision's sampling_ratio 0). A sample more than one pixel outside the map counts as 0.
// `aligned` shifts by half a feature pixel (ROIAlignV2); without it boxes are at least 1 feature pixel wide
// and high (the legacy ROIAlign). The level of a box is
//   floor(canonical_level + log2(sqrt(area) / canonical_size + 1e-8))
// clamped to the levels there are (Lin et al. 2017, with Detectron2's epsilon), from `first_level` on.
#pragma once

#include "graph/infer.h"

namespace osprey {

struct RoiAlign {
  static constexpr std::string_view kName = "roi_align";
  int out = 7;                // bins a side
  int samples = 0;            // samples a side of a bin; 0: as many as the box has feature pixels
  std::vector<float> scales;  // network pixels -> feature pixels, one a level: 1/4, 1/8, ...
  bool aligned = true;
  int first_level = 2, canonical_level = 4;
  float canonical_size = 224;
  void fields(auto&& f) {
    f("out", out), f("samples", samples), f("scales", scales), f("aligned", aligned),
        f("first_level", first_level), f("canonical_level", canonical_level),
        f("canonical_size", canonical_size);
  }

  TensorType infer(const OpInputs& in) const {
    require(!scales.empty() && in.count() == scales.size() + 1, "roi_align: {} scales need {} inputs, not {}",
            scales.size(), scales.size() + 1, in.count());
    for (std::size_t i = 0; i < scales.size(); ++i) in.expect(i, "features", kFloats, {"N", "C", "_", "_"});
    in.expect(scales.size(), "rois", {DType::kF32}, {"R", 5});
    require(out > 0 && samples >= 0, "roi_align: out {} and samples {}", out, samples);
    return {in[0].dtype, {in.dim("R"), in.dim("C"), out, out}};
  }
};

}  // namespace osprey

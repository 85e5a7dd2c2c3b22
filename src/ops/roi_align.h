// Bilinear crops of a feature pyramid under boxes: one output map a box, from the level that fits its size.
//
// features [N,C,H_l,W_l] for each level, then rois f32[R,5] = (image, x0, y0, x1, y1) in network pixels
//   -> [R,C,out,out]
//
// Each bin averages samples^2 bilinear samples; samples 0 takes ceil(box extent / out) of them a side, at
// least one (torchvision's sampling_ratio 0). A sample more than one pixel outside the map counts as 0.
// `aligned` shifts by half a feature pixel (ROIAlignV2); without it boxes are at least 1 feature pixel wide
// and high (the legacy ROIAlign). The level of a box is
//   floor(canonical_level + log2(sqrt(area) / canonical_size + level_epsilon))
// clamped to the levels there are (Lin et al. 2017, with Detectron2's epsilon), from `first_level` on. The
// area is that of an `inclusive` box where that is set (graph/box_rules.h); crops are not concerned.
//
// With `sampling` corners it is TensorFlow's crop_and_resize, of one level: the box in fractions of the
// network's input (the canvas, or without one the clip extents of the geometry f32[N,6], then the last input)
// times the map's last pixel (H - 1, W - 1), and in it out x out single samples, the outer ones on the box's
// edges (one sample: its centre). A sample outside [0, H - 1] x [0, W - 1] counts as 0; with `neighbours`
// (TensorFlow's use_matmul_crop_and_resize) each of the four pixels around it is judged by itself instead.
// `pool` then takes the maximum of pool x pool samples: the result is [R,C,out / pool,out / pool].
#pragma once

#include "graph/infer.h"

namespace osprey {

enum class RoiSampling : std::uint8_t { kBins, kCorners };
inline constexpr std::array<std::string_view, 2> kRoiSamplingNames{"bins", "corners"};
constexpr const auto& enum_names(RoiSampling) { return kRoiSamplingNames; }

struct RoiAlign {
  static constexpr std::string_view kName = "roi_align";
  int out = 7;                // bins a side
  int samples = 0;            // samples a side of a bin; 0: as many as the box has feature pixels
  std::vector<float> scales;  // network pixels -> feature pixels, one a level: 1/4, 1/8, ...
  bool aligned = true;
  int first_level = 2, canonical_level = 4;
  float canonical_size = 224;
  float level_epsilon = 1e-8f;
  bool inclusive = false;
  // Of kCorners, which uses none of the above but `out`:
  RoiSampling sampling = RoiSampling::kBins;
  bool neighbours = false;
  int pool = 1;
  int canvas_height = 0, canvas_width = 0;  // network pixels; 0: the geometry's clip extents
  void fields(auto&& f) {
    f("out", out), f("samples", samples), f("scales", scales), f("aligned", aligned),
        f("first_level", first_level), f("canonical_level", canonical_level),
        f("canonical_size", canonical_size), f("sampling", sampling), f("neighbours", neighbours),
        f("pool", pool), f("canvas_height", canvas_height), f("canvas_width", canvas_width),
        f("level_epsilon", level_epsilon), f("inclusive", inclusive);
  }
  // Bins a side of the result.
  int side() const { return out / pool; }

  TensorType infer(const OpInputs& in) const {
    if (sampling == RoiSampling::kCorners) return infer_corners(in);
    require(pool == 1, "roi_align: pool {} goes with sampling corners", pool);
    require(!scales.empty() && in.count() == scales.size() + 1, "roi_align: {} scales need {} inputs, not {}",
            scales.size(), scales.size() + 1, in.count());
    for (std::size_t i = 0; i < scales.size(); ++i) in.expect(i, "features", kFloats, {"N", "C", "_", "_"});
    in.expect(scales.size(), "rois", {DType::kF32}, {"R", 5});
    require(out > 0 && samples >= 0, "roi_align: out {} and samples {}", out, samples);
    return {in[0].dtype, {in.dim("R"), in.dim("C"), out, out}};
  }

 private:
  TensorType infer_corners(const OpInputs& in) const {
    const bool canvas = canvas_height > 0;
    in.expect_count(canvas ? 2 : 3, canvas ? 2 : 3);
    in.expect(0, "features", kFloats, {"N", "C", "_", "_"});
    in.expect(1, "rois", {DType::kF32}, {"R", 5});
    if (!canvas) in.expect(2, "geometry", {DType::kF32}, {"N", 6});
    require(scales.empty(), "roi_align: scales go with sampling bins");
    require(canvas == (canvas_width > 0) && canvas_height >= 0, "roi_align: canvas {}x{}", canvas_height,
            canvas_width);
    require(out > 0 && pool > 0 && pool <= out, "roi_align: out {} and pool {}", out, pool);
    return {in[0].dtype, {in.dim("R"), in.dim("C"), side(), side()}};
  }
};

}  // namespace osprey

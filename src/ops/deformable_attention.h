// Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021) as RT-DETR's decoder has it: every
// query takes `points` bilinear samples a head of each of its image's maps, around its reference box.
//
// value [N*T,C], the tokens of all maps (ops/tokens.h); offsets f32 [N*Q, heads*L*points*2] with x before y;
// logits f32 [N*Q, heads*L*points]; reference f32 [N*Q,4] (cx, cy, w, h in 0..1) -> [N*Q,C]
//
// The softmax of the logits runs over the L*points samples of a head. A sample lies at
//   reference centre + offset / points * reference extent / 2
// of a map that spans 0..1, half-pixel centres, zero outside. Head h has channels [h*C/heads, (h+1)*C/heads).
// `sizes` holds height and width of the L maps.
#pragma once

#include "graph/token_rules.h"

namespace osprey {

struct DeformableAttention {
  static constexpr std::string_view kName = "deformable_attention";
  int heads = 8, points = 4, queries = 1;
  std::vector<int> sizes{1, 1};
  void fields(auto&& f) { f("heads", heads), f("points", points), f("queries", queries), f("sizes", sizes); }

  std::int64_t levels() const { return static_cast<std::int64_t>(sizes.size() / 2); }
  std::int64_t samples() const { return levels() * points; }  // of a head

  TensorType infer(const OpInputs& in) const {
    in.expect_count(4, 4);
    require(!sizes.empty() && sizes.size() % 2 == 0, "deformable_attention: {} numbers in sizes",
            sizes.size());
    expect_list(kName, "sizes", sizes, sizes.size(), 1);
    require(heads >= 1 && points >= 1, "deformable_attention: {} heads, {} points", heads, points);
    const std::int64_t all = samples() * heads;
    in.expect(0, "value", kFloats, {"R", "C"});
    in.expect(1, "offsets", {DType::kF32}, {"M", all * 2});
    in.expect(2, "logits", {DType::kF32}, {"M", all});
    in.expect(3, "reference", {DType::kF32}, {"M", 4});
    require(in.dim("C").constant() % heads == 0, "deformable_attention: {} channels in {} heads",
            to_string(in.dim("C")), heads);
    std::int64_t pixels = 0;
    for (std::size_t l = 0; l < sizes.size(); l += 2) pixels += std::int64_t{sizes[l]} * sizes[l + 1];
    require(images_of(kName, in.dim("R"), pixels) == images_of(kName, in.dim("M"), queries),
            "deformable_attention: {} values and {} queries are of different batches", to_string(in.dim("R")),
            to_string(in.dim("M")));
    return {in[0].dtype, {in.dim("M"), in.dim("C")}};
  }
};

}  // namespace osprey

#include "engine/int8_speed.h"

#include <gtest/gtest.h>

namespace osprey {
namespace {

using Names = std::set<std::string>;

Quantization all_of(const Graph& graph) {
  Quantization out;
  for (const Value& value : graph.values()) out.limits[value.name] = 1;
  return out;
}

TEST(SoonerInFloats, StemsTransposedConvolutionsWhatReadsThemAndSmallLayers) {
  const Graph graph = parse_graph(R"(graph g
input x: f32[N,3,16,16]
input rows: f32[<=10*N,512]
weight stem.w: f32[8,3,3,3]
weight w: f32[8,8,1,1]
weight k: f32[8,8,3,3]
weight up.w: f32[8,8,2,2]
weight small.w: f32[1023,512]
weight large.w: f32[1024,512]
stem = conv(x, stem.w)
plain = conv(stem, w)
up = conv_transpose(plain, up.w)
after = conv(up, w)
wide = conv(up, k)
small = linear(rows, small.w)
large = linear(rows, large.w)
output after
output wide
output small
output large
)");
  EXPECT_EQ(sooner_in_floats(graph), (Names{"stem", "up", "after", "small"}));
}

TEST(SoonerBesideFloats, BlocksAroundASqueezeAndWhatReadsThemAlone) {
  const Graph graph = parse_graph(R"(graph g
input x: f32[N,8,16,16]
weight w: f32[8,8,1,1]
weight deep: f32[8,1,3,3]
weight s: f32[2,8]
weight t: f32[2]
weight e: f32[8,2]
weight d: f32[8]
plain = conv(x, w) @net.plain.conv
expanded = conv(plain, w) @net.gated.expand
depthwise = conv(expanded, deep) {padding='same', groups=8} @net.gated.depthwise
gated = squeeze_excite(depthwise, s, t, e, d)
projected = conv(gated, w) @net.gated.project
head = conv(projected, w) @net.head.conv
both = conv(plain, w, d, projected) @net.both.conv
output head
output both
)");
  const Quantization plan = all_of(graph);
  EXPECT_EQ(sooner_beside_floats(graph, plan, 1), (Names{"expanded", "depthwise", "projected", "head"}));
  EXPECT_EQ(sooner_beside_floats(graph, plan, 100000), Names{});  // enough to do
}

TEST(SoonerBesideFloats, NotWhereTheWorkIsUnknown) {
  const Graph graph = parse_graph(R"(graph g
input x: f32[N,8,h,w]
weight k: f32[8,8,1,1]
weight s: f32[2,8]
weight t: f32[2]
weight e: f32[8,2]
weight d: f32[8]
gated = squeeze_excite(x, s, t, e, d)
y = conv(gated, k) @net.block.conv
output y
)");
  EXPECT_EQ(sooner_beside_floats(graph, all_of(graph), 1), Names{});
}

}  // namespace
}  // namespace osprey

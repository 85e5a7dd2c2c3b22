#include "graph/graph.h"

#include <gtest/gtest.h>

namespace osprey {
namespace {

TEST(Dim, PyramidExtentsAreExactMultiples) {
  const Dim h = Dim::symbol("h") * 32;
  const Dim stem = (h + (6 - 7)).floor_div(2) + 1;  // 7x7, stride 2, padding 3
  EXPECT_EQ(stem, Dim::symbol("h") * 16);
  EXPECT_EQ(to_string((Dim::symbol("h") - 1).floor_div(2) + 1), "(h+1)/2");
  EXPECT_EQ(((Dim::symbol("h") - 1).floor_div(2) + 1).evaluate({{"h", 25}}), 13);
}

TEST(Dim, TimesOneIsItselfEvenWithADivision) {
  const Dim quarter = (Dim::symbol("h") + 3).floor_div(4);  // a map of an image that is not padded
  EXPECT_EQ(quarter * 1, quarter);
}

TEST(Dim, WhatLeavesSixtyFourBitsIsRefused) {
  EXPECT_THROW(Dim::symbol("h") * (std::int64_t{1} << 62) * 4, Error);
  EXPECT_THROW(Dim(std::int64_t{1} << 62) + (std::int64_t{1} << 62), Error);
}

TEST(Dim, TextReadsBack) {
  for (const char* text :
       {"64", "h", "32*h", "16*h+3", "h-2", "(h+1)/2", "(3*h-1)/4", "<=1000*N", "<=5", "?"})
    EXPECT_EQ(to_string(parse_dim(text)), text);
  for (const char* text : {"", "*h", "(h+1", "1.5", "h+"}) EXPECT_THROW(parse_dim(text), Error) << text;
}

constexpr const char* kText = R"(graph small
input x: f32[N,3,32*h,32*w]
weight stem.weight: f32[8,3,7,7]
weight stem.bias: f32[8] = 0.0 1.0 2.0 3.0 4.5 1e-05 6.0 -7.0
stem = conv(x, stem.weight, stem.bias) {stride=[2, 2], pads=[3, 3, 3, 3], activation='relu'} @layer.stem : f32[N,8,16*h,16*w]
pooled = max_pool(stem) {pads=[1, 1, 1, 1]} : f32[N,8,8*h,8*w]
output pooled
)";

TEST(Graph, TextReadsBack) {
  const Graph graph = parse_graph(kText);
  verify(graph);
  EXPECT_EQ(to_text(graph), kText);
}

TEST(Graph, AValueMayBeNamedLikeAKeyword) {
  const char* text =
      "graph g\ninput x: f32[N,2,h,w]\ninput = activate(x) : f32[N,2,h,w]\noutput = activate(input) : "
      "f32[N,2,h,w]\n"
      "output output\n";
  EXPECT_EQ(to_text(parse_graph(text)), text);
}

TEST(Graph, ErrorsNameTheLineAndTheRule) {
  const auto message = [](const std::string& text) -> std::string {
    try {
      parse_graph(text);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message("input x: f32[N,4,h,w]\nweight w: f32[8,3,1,1]\ny = conv(x, w)").find("line 3"),
            std::string::npos);
  EXPECT_NE(message("input x: f32[N,4,h,w]\nweight w: f32[8,3,1,1]\ny = conv(x, w)").find("takes 3"),
            std::string::npos);
  EXPECT_NE(message("y = warp(x)").find("no op 'warp'"), std::string::npos);
  EXPECT_NE(message("input x: f32[N,4,h,w]\ny = max_pool(x) {speed=3}").find("unknown attribute 'speed'"),
            std::string::npos);
}

TEST(Graph, CompactDropsWhatNobodyUses) {
  Graph graph = parse_graph(kText);
  graph.add_node(graph.nodes()[1].op, {graph.find("x")}, "unused");
  graph.compact();
  verify(graph);
  EXPECT_EQ(to_text(graph), kText);
}

TEST(Graph, VerifierFindsATypeThatNoRuleGives) {
  Graph graph = parse_graph(kText);
  graph.set_type(graph.find("pooled"), parse_type("f32[N,8,1,1]"));
  EXPECT_THROW(verify(graph), Error);
}

}  // namespace
}  // namespace osprey

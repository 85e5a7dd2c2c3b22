#include "engine/overflow.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "engine/synthetic_photo.h"
#include "passes/pass.h"

namespace osprey {
namespace {

// A photo of 0..255 less 128, then three 1x1 convolutions; the weights of the middle one decide.
Graph network(float middle, float last, float std = 1) {
  Graph g = parse_graph(fmt::format(R"(graph g
input photos: u8[N,H,W,3]
input sizes: i32[N,2]
weight one: f32[1,3,1,1] = 1.0 1.0 1.0
weight many: f32[1,1,1,1] = {}
weight few: f32[1,1,1,1] = {}
weight half: f32[1,1,1,1] = 0.5
resized, geometry = resize_image(photos, sizes) {{shortest=48, longest=64}}
image = normalize_image(resized, geometry) {{mean=[128.0, 128.0, 128.0], std=[{}, {}, {}]}}
first = conv(image, one)
middle = conv(first, many)
pooled = max_pool(middle) {{kernel=[1, 1], stride=[1, 1]}}
after = conv(pooled, few)
scores = conv(after, half) {{f32_out=true}}
output scores
)",
                                    middle, last, std, std, std));
  return g;
}

OverflowReport find(const Graph& graph) {
  const Image photo = synthetic_photo(graph);
  const ImageView view = photo;
  return find_overflow(graph, {&view, 1}, 1);
}

TEST(Overflow, NothingIsKeptWhereEverythingFits) {
  const OverflowReport found = find(network(2, 1));
  EXPECT_TRUE(found.values.empty());
  EXPECT_TRUE(found.remarks.empty());
}

// The middle layer gives up to 384 * 1000; what reads it, directly or through the pool, cannot be fp16
// either.
TEST(Overflow, ALayerWhoseValuesOverflowIsKeptWithItsReaders) {
  Graph graph = network(1000, 0.0001f);
  const OverflowReport found = find(graph);
  EXPECT_EQ(found.values, (std::vector<std::string>{"middle", "pooled", "after"}));
  ASSERT_EQ(found.remarks.size(), 3u);
  EXPECT_TRUE(found.remarks[0].starts_with("fp16: middle stays fp32: its values reach ")) << found.remarks[0];
  EXPECT_EQ(found.remarks[2], "fp16: after stays fp32: it reads pooled");

  lower_precision(graph, {.precision = DType::kF16, .keep_f32 = found.values});
  verify(graph);
  const auto type = [&](const char* name) { return graph.value(graph.find(name)).type.dtype; };
  EXPECT_EQ(type("first"), DType::kF16);
  for (const char* name : {"middle", "pooled", "after", "scores"}) EXPECT_EQ(type(name), DType::kF32) << name;
  EXPECT_EQ(type("after/f16"), DType::kF16);
}

TEST(Overflow, ALayerWhoseWeightsOverflowIsKeptAlone) {
  const OverflowReport found = find(network(0.001f, 70000));
  EXPECT_EQ(found.values, std::vector<std::string>{"after"});
  EXPECT_EQ(found.remarks, std::vector<std::string>{"fp16: after stays fp32: its weights reach 7e+04"});
}

TEST(Overflow, AnInputThatOverflowsIsRefused) {
  try {
    find(network(1, 1, 0.001f));
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("network's input"), std::string::npos) << e.what();
  }
}

TEST(SyntheticPhoto, IsTheSameEveryTimeAndFillsTheNetworksInput) {
  const Graph graph = network(1, 1);
  const Image a = synthetic_photo(graph), b = synthetic_photo(graph);
  EXPECT_EQ(a.pixels, b.pixels);
  EXPECT_EQ(a.height, 48);
  EXPECT_EQ(a.width, 64);
}

}  // namespace
}  // namespace osprey

#include "backends/image_dims.h"

#include <gtest/gtest.h>

#include "ops/normalize_image.h"
#include "ops/resize_image.h"

namespace osprey {
namespace {

Graph preprocessing(ResizeImage resize, NormalizeImage normalize) {
  Graph g("preprocessing");
  const ValueId photos = g.add_input("photos", parse_type("u8[N,H,W,3]")),
                sizes = g.add_input("sizes", parse_type("i32[N,2]"));
  const Node resized = g.add_node(std::move(resize), {photos, sizes}, "resized");
  g.add_output(g.add_node(std::move(normalize), resized.outputs, "image").outputs[0]);
  return g;
}

ImageView photo(int width, int height) { return {nullptr, width, height, 3 * width}; }

TEST(ImageDims, LargestPhotoRules) {
  const Graph g = preprocessing({}, {.multiple = 32});
  EXPECT_EQ(bind_image_dims(g, std::vector{photo(600, 400)}),
            (DimBindings{{"N", 1}, {"rh", 800}, {"rw", 1200}, {"h", 25}, {"w", 38}}));
  EXPECT_EQ(bind_image_dims(g, std::vector{photo(600, 400), photo(400, 600)}),
            (DimBindings{{"N", 2}, {"rh", 1200}, {"rw", 1200}, {"h", 38}, {"w", 38}}));
  EXPECT_THROW(bind_image_dims(g, std::vector{photo(0, 400)}), Error);
}

TEST(ImageDims, CanvasFixesTheNetworkInput) {
  const Graph g =
      preprocessing({.canvas_height = 512, .canvas_width = 512}, {.canvas_height = 512, .canvas_width = 512});
  const DimBindings dims = bind_image_dims(g, std::vector{photo(1000, 500)});
  EXPECT_EQ(dims.at("rh"), 256);
  EXPECT_EQ(dims.at("rw"), 512);
}

TEST(ImageDims, TensorsBindSymbols) {
  const TensorType type = parse_type("f32[N,3,32*h,(w+1)/2]");
  DimBindings dims;
  bind_dims(parse_type("f32[N,3,32*h,8*w]"), {2, 3, 64, 24}, "image", dims);
  EXPECT_EQ(dims, (DimBindings{{"N", 2}, {"h", 2}, {"w", 3}}));
  bind_dims(type, {2, 3, 64, 2}, "other", dims);
  EXPECT_THROW(bind_dims(type, {2, 3, 60, 2}, "other", dims), Error);
  EXPECT_THROW(bind_dims(type, {2, 3, 64}, "other", dims), Error);
  DimBindings rows;
  bind_dims(parse_type("f32[<=1024*P,5]"), {1500, 5}, "proposals", rows);
  EXPECT_EQ(rows, (DimBindings{{"P", 2}}));
  rows.clear();
  bind_dims(parse_type("f32[<=1024*P,5]"), {0, 5}, "proposals", rows);
  EXPECT_EQ(rows, (DimBindings{{"P", 0}}));
  DimBindings none;
  EXPECT_THROW(bind_dims(parse_type("f32[8*h]"), {12}, "image", none), Error);
  EXPECT_NO_THROW(bind_dims(parse_type("f32[<=8]"), {3}, "rows", none));
  EXPECT_THROW(bind_dims(parse_type("f32[<=8]"), {9}, "rows", none), Error);
}

}  // namespace
}  // namespace osprey

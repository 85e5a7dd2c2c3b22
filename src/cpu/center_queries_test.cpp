#include "ops/center_queries.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "cpu/kernel_harness.h"

namespace osprey {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::Pointwise;

constexpr float kNone = -std::numeric_limits<float>::infinity();

struct Queries {
  Tensor logits, boxes;
};

// One image on a canvas of 16 x 16 network pixels, of which `height` x `width` hold the photo.
Queries queries(const CenterQueries& op, const Tensor& logits, const Tensor& sizes, const Tensor& offsets,
                float height = 16, float width = 16, int threads = 1) {
  const Tensor geometry = tensor_of<float>({height, width, 1, 1, height, width}, {1, 6});
  auto out = run_kernel({.op = op, .inputs = {{logits}, {sizes}, {offsets}, {geometry}}, .threads = threads});
  return {out.at(0), out.at(1)};
}

Tensor zeros(std::int64_t channels) { return Tensor::zeros(DType::kF32, {1, channels, 3, 4}); }

TEST(CenterQueries, KeepsThePeaksOfEachClass) {
  const Tensor logits = tensor_of<float>({1, 0, 0, 2,  //
                                          0, 0, 0, 1,  //
                                          3, 0, 0, 1,
                                          // two neighbours as high, and one that is no lower than rounding
                                          0, 0, 0, 0,  //
                                          0, 2, 2, 0,  //
                                          0, 0, 0, -1},
                                         {1, 2, 3, 4});
  for (const int threads : {1, 2}) {
    const Queries got = queries({}, logits, zeros(2), zeros(2), 16, 16, threads);
    EXPECT_EQ(got.logits.shape(), (Shape{12, 2}));
    EXPECT_THAT(got.logits.values<float>(), ElementsAre(1, kNone, kNone, kNone, kNone, kNone, 2, kNone,  //
                                                        kNone, kNone, kNone, 2, kNone, 2, kNone, kNone,  //
                                                        3, kNone, kNone, kNone, kNone, kNone, 1, kNone));
  }
}

TEST(CenterQueries, ComparesScores) {
  // Logits of another size, but sigmoids that are both 1; and a window that leaves every pixel.
  Tensor logits = zeros(1);
  logits.mutable_values<float>()[5] = 30;
  logits.mutable_values<float>()[6] = 40;
  const Queries got = queries({}, logits, zeros(2), zeros(2));
  EXPECT_EQ(got.logits.values<float>()[5], 30);
  EXPECT_EQ(got.logits.values<float>()[6], 40);
  EXPECT_EQ(got.logits.values<float>()[4], kNone);
  const Queries all = queries({.peak = 1}, logits, zeros(2), zeros(2));
  EXPECT_THAT(all.logits.values<float>(), Pointwise(FloatEq(), logits.values<float>()));
}

TEST(CenterQueries, NoScoresOutsideOfThePhoto) {
  // Its extents, in network pixels, are compared with pixels of the map.
  const Tensor logits = tensor_of<float>({5, 0, 9, 0, 0, 0, 0, 0, 0, 8, 0, 0}, {1, 1, 3, 4});
  const Queries got = queries({}, logits, zeros(2), zeros(2), 2, 2);
  EXPECT_THAT(got.logits.values<float>(),
              ElementsAre(5, kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone));
}

TEST(CenterQueries, BoxesOfThePixels) {
  Tensor sizes = zeros(2), offsets = zeros(2);  // first all heights, then all widths
  const auto size = sizes.mutable_values<float>(), offset = offsets.mutable_values<float>();
  size[6] = 1, size[12 + 6] = 2, offset[6] = 0.25f, offset[12 + 6] = -0.5f;  // y 1, x 2
  size[0] = 2, size[12] = -4;                                                // leaves the map; has no width
  const Queries got = queries({}, zeros(1), sizes, offsets, 16, 8);
  EXPECT_EQ(got.boxes.shape(), (Shape{12, 4}));
  const auto boxes = got.boxes.values<float>();
  const auto box = [&](std::size_t pixel) {
    return std::vector<float>(boxes.begin() + 4 * static_cast<std::ptrdiff_t>(pixel),
                              boxes.begin() + 4 * static_cast<std::ptrdiff_t>(pixel + 1));
  };
  // y 0.75 to 1.75 of 4, x 0.5 to 2.5 of 2, of which 0.5 to 2 are on the photo.
  EXPECT_THAT(box(6), ElementsAre(0.625f, 0.3125f, 0.75f, 0.25f));
  EXPECT_THAT(box(0), ElementsAre(0, 0.125f, 0, 0.25f));
}

}  // namespace
}  // namespace osprey

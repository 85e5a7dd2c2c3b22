#include "ops/resize_masks.h"

#include <cmath>

#include <gmock/gmock.h>

#include "cpu/kernel_harness.h"
#include "image/rle.h"
#include "ops/mask_boxes.h"
#include "ops/mask_logits.h"

namespace osprey {
namespace {

using testing::ElementsAre;

TEST(MaskLogits, AreProductsWithTheRowsOwnImage) {
  const Tensor embeddings = random_tensor({37, 5}, -1, 1, 1),
               prototypes = random_tensor({2, 5, 17, 33}, -1, 1, 2);
  Tensor boxes = Tensor::zeros(DType::kF32, {37, 5});
  for (std::int64_t r = 20; r < 37; ++r) boxes.mutable_values<float>()[static_cast<std::size_t>(5 * r)] = 1;
  for (const int threads : {1, 2}) {
    const Tensor got = run_kernel({.op = MaskLogits{},
                                   .inputs = {{embeddings, {}, 50}, {prototypes}, {boxes, {}, 50}},
                                   .threads = threads})
                           .at(0);
    ASSERT_EQ(got.shape(), (Shape{37, 17, 33}));
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const std::int64_t row = i / 561, image = row < 20 ? 0 : 1;
      double want = 0;
      for (std::int64_t p = 0; p < 5; ++p)
        want += static_cast<double>(embeddings.values<float>()[static_cast<std::size_t>(row * 5 + p)]) *
                prototypes.values<float>()[static_cast<std::size_t>((image * 5 + p) * 561 + i % 561)];
      ASSERT_NEAR(got.values<float>()[static_cast<std::size_t>(i)], want, 1e-6) << i;
    }
  }
}

TEST(MaskLogits, WithoutBoxesEveryImageHasAsManyRows) {
  const Tensor embeddings = tensor_of<float>({1, 2, 3, 4}, {4, 1}),
               prototypes = tensor_of<float>({1, 10}, {2, 1, 1, 1});
  const Tensor got = run_kernel({.op = MaskLogits{}, .inputs = {{embeddings}, {prototypes}}}).at(0);
  EXPECT_THAT(got.values<float>(), ElementsAre(1, 2, 30, 40));
}

double logit(double v) { return std::log(std::max(v, 1e-5) / std::max(1 - v, 1e-5)); }

TEST(MaskBoxes, EnclosePixelsAboveZero) {
  // 2 x 4: one pixel, nothing (zero is not above), everything.
  const Tensor logits = tensor_of<float>(
      {-1, -1, -1, -1, -1, -1, 2, -1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}, {3, 2, 4});
  const Tensor got = run_kernel({.op = MaskBoxes{}, .inputs = {{logits}}, .threads = 2}).at(0);
  const double want[]{0.625, 0.75, 0.25, 0.5, 0, 0, 0, 0, 0.5, 0.5, 1, 1};
  for (std::size_t i = 0; i < 12; ++i) EXPECT_NEAR(got.values<float>()[i], logit(want[i]), 1e-4) << i;
}

struct Masks {
  std::vector<Rle> all;
};

Masks resize(const Tensor& logits, int height, int width, const RunParameters& parameters = {}) {
  const std::int64_t count = logits.dim(0);
  Tensor rows = Tensor::zeros(DType::kI32, {count});
  for (std::int64_t r = 0; r < count; ++r)
    rows.mutable_values<std::int32_t>()[static_cast<std::size_t>(r)] =
        static_cast<std::int32_t>(count - 1 - r);
  const Tensor geometry =
      tensor_of<float>({1, 1, 1, 1, static_cast<float>(height), static_cast<float>(width)}, {1, 6});
  const auto out =
      run_kernel({.op = ResizeMasks{},
                  .inputs = {{logits}, {Tensor::zeros(DType::kF32, {count, 5})}, {rows}, {geometry}},
                  .threads = 2,
                  .parameters = parameters});
  Masks masks;
  std::int32_t begin = 0;
  for (const std::int32_t end : out.at(1).values<std::int32_t>()) {
    const auto runs = out.at(0).values<std::int32_t>();
    masks.all.push_back({height, width, {runs.begin() + begin, runs.begin() + end}});
    begin = end;
  }
  return masks;
}

TEST(ResizeMasks, ResizesLogitsAndThenCompares) {
  const std::int64_t in_h = 5, in_w = 4;
  const int height = 23, width = 30;
  const Tensor logits = random_tensor({3, in_h, in_w}, -1, 1, 1);
  for (const float threshold : {0.5f, 0.6f}) {
    const Masks got = resize(logits, height, width, {.mask_threshold = threshold});
    ASSERT_EQ(got.all.size(), 3u);
    for (std::size_t e = 0; e < 3; ++e) {
      std::vector<std::uint8_t> mask(static_cast<std::size_t>(height * width));
      decode_mask(rle_from_counts(got.all[e].counts, height, width), mask.data());
      for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
          const auto place = [](int i, int out, std::int64_t in) {
            return std::clamp((i + 0.5) * static_cast<double>(in) / out - 0.5, 0.0,
                              static_cast<double>(in - 1));
          };
          const double v = place(y, height, in_h), u = place(x, width, in_w);
          const auto top = static_cast<std::int64_t>(v), left = static_cast<std::int64_t>(u);
          const auto at = [&](std::int64_t r, std::int64_t c) {
            r = std::min(r, in_h - 1), c = std::min(c, in_w - 1);
            return static_cast<double>(logits.values<float>()[((2 - e) * in_h + r) * in_w + c]);
          };
          const double dy = v - static_cast<double>(top), dx = u - static_cast<double>(left);
          const double value = (at(top, left) * (1 - dx) + at(top, left + 1) * dx) * (1 - dy) +
                               (at(top + 1, left) * (1 - dx) + at(top + 1, left + 1) * dx) * dy;
          const double probability = 1 / (1 + std::exp(-value));
          if (std::abs(probability - threshold) < 1e-5) continue;
          ASSERT_EQ(mask[static_cast<std::size_t>(y * width + x)], probability > threshold)
              << e << " " << y << " " << x;
        }
    }
  }
}

TEST(ResizeMasks, RunsOfEmptyAndFullMasks) {
  const Tensor logits = tensor_of<float>({1, 0}, {2, 1, 1});  // the rows come in reverse
  const Masks got = resize(logits, 2, 3);
  EXPECT_THAT(got.all[0].counts, ElementsAre(6));
  EXPECT_THAT(got.all[1].counts, ElementsAre(0, 6));
}

}  // namespace
}  // namespace osprey

#include "ops/normalize_image.h"

#include <gtest/gtest.h>

#include "cpu/box_cases_test.h"

namespace osprey {
namespace {

TEST(NormalizeImage, SubtractsDividesThenPadsWithZeros) {
  NormalizeImage op{.mean = {103.53f, 116.28f, 123.675f}, .std = {57.375f, 57.12f, 58.395f}, .multiple = 16};
  const std::vector<Geometry> geometry{{20, 30, 1, 1, 20, 30}, {25, 18, 1, 1, 25, 18}};
  std::vector<std::uint8_t> pixels(2 * 25 * 30 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 31 % 256);
  for (const auto& [threads, block] : {std::pair{1, 1}, {2, 1}, {1, 0}, {2, 0}}) {
    const Tensor got = run_kernel({.op = op,
                                   .inputs = {{tensor_of(pixels, {2, 25, 30, 3})}, {rows_tensor(geometry)}},
                                   .output_layout = {block},
                                   .threads = threads,
                                   .bindings = {{"h", 2}, {"w", 2}}})
                           .at(0);
    ASSERT_EQ(got.shape(), (Shape{2, 3, 32, 32}));
    for (std::size_t n = 0, i = 0; n < 2; ++n)
      for (std::size_t c = 0; c < 3; ++c)
        for (std::size_t y = 0; y < 32; ++y)
          for (std::size_t x = 0; x < 32; ++x, ++i) {
            const bool inside = static_cast<float>(y) < geometry[n].clip_height &&
                                static_cast<float>(x) < geometry[n].clip_width;
            const float v = inside ? static_cast<float>(pixels[((n * 25 + y) * 30 + x) * 3 + c]) : 0;
            ASSERT_EQ(got.values<float>()[i], inside ? (v - op.mean[c]) / op.std[c] : 0)
                << n << c << y << " " << x;
          }
  }
}

TEST(NormalizeImage, OtherTypesAreRoundedLast) {
  NormalizeImage op{.mean = {103.53f, 116.28f, 123.675f}, .std = {57.375f, 57.12f, 58.395f}};
  const std::vector<Geometry> geometry{{16, 16, 1, 1, 16, 16}};
  std::vector<std::uint8_t> pixels(16 * 16 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i / 3);
  const auto run = [&] {
    return run_kernel({.op = op,
                       .inputs = {{tensor_of(pixels, {1, 16, 16, 3})}, {rows_tensor(geometry)}},
                       .bindings = {{"h", 17}, {"w", 17}}})
        .at(0);
  };
  const Tensor exact = run();
  op.to = FloatType::kBF16;
  const Tensor rounded = run();
  ASSERT_EQ(rounded.dtype(), DType::kBF16);
  for (std::size_t i = 0; i < 3 * 17 * 17; ++i)
    ASSERT_EQ(rounded.values<BFloat16>()[i].bits, to_bfloat16(exact.values<float>()[i]).bits) << i;
}

TEST(NormalizeImage, CanvasBorderIsFilledBeforeNormalisation) {
  const NormalizeImage op{
      .mean = {100, 110, 120}, .fill = {116, 116, 124}, .canvas_height = 8, .canvas_width = 8};
  const std::vector<Geometry> geometry{{8, 8, 0.5f, 0.5f, 2, 4}};  // 4 x 8 pixels of the canvas
  const Tensor pixels = tensor_of(std::vector<std::uint8_t>(4 * 8 * 3, 130), {1, 4, 8, 3});
  for (const int block : {1, 0}) {
    const Tensor got =
        run_kernel({.op = op, .inputs = {{pixels}, {rows_tensor(geometry)}}, .output_layout = {block}}).at(0);
    ASSERT_EQ(got.shape(), (Shape{1, 3, 8, 8}));
    EXPECT_EQ(got.values<float>()[0], 30);
    EXPECT_EQ(got.values<float>()[31], 30);
    EXPECT_EQ(got.values<float>()[32], 16);
    EXPECT_EQ(got.values<float>()[64 + 63], 6);
    EXPECT_EQ(got.values<float>()[128 + 63], 4);
  }
}

// The whole of `resized` is the picture, padding and all; only what is added to it is zero.
TEST(NormalizeImage, FloatsWithAndWithoutMean) {
  const Tensor pixels = random_tensor({2, 20, 30, 3}, -2, 250, 5);
  const std::vector<Geometry> geometry{{20, 30, 1, 1, 20, 30}, {7, 8, 1, 1, 7, 8}};
  NormalizeImage plain{.mean = {}, .std = {}, .multiple = 16};
  NormalizeImage full{
      .mean = {1, 2, 3}, .std = {4, 5, 7}, .canvas_height = 24, .canvas_width = 32, .scale = 0.3f};
  for (const NormalizeImage& op : {plain, full})
    for (const auto& [threads, block] : {std::pair{1, 1}, {2, 1}, {2, 0}}) {
      const Tensor got = run_kernel({.op = op,
                                     .inputs = {{pixels}, {rows_tensor(geometry)}},
                                     .output_layout = {block},
                                     .threads = threads,
                                     .bindings = {{"h", 2}, {"w", 2}}})
                             .at(0);
      ASSERT_EQ(got.shape(), op.mean.empty() ? (Shape{2, 3, 32, 32}) : (Shape{2, 3, 24, 32}));
      for (std::int64_t n = 0, i = 0; n < 2; ++n)
        for (std::int64_t c = 0; c < 3; ++c)
          for (std::int64_t y = 0; y < got.dim(2); ++y)
            for (std::int64_t x = 0; x < got.dim(3); ++x, ++i) {
              const auto channel = static_cast<std::size_t>(c);
              float want = 0;
              if (y < 20 && x < 30) {
                want = pixels.values<float>()[static_cast<std::size_t>(((n * 20 + y) * 30 + x) * 3 + c)];
                if (!op.mean.empty()) want = (want * op.scale - op.mean[channel]) / op.std[channel];
              }
              ASSERT_EQ(got.values<float>()[static_cast<std::size_t>(i)], want) << n << c << y << " " << x;
            }
    }
}

}  // namespace
}  // namespace osprey

#include "ops/resize_image.h"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "backends/network_size.h"
#include "cpu/boxes.h"
#include "cpu/kernel_harness.h"

namespace osprey {
namespace {

Image random_photo(int width, int height, std::uint32_t seed) {
  Image out(width, height);
  const std::vector<float> r = random_floats(static_cast<std::int64_t>(out.pixels.size()), 0, 256, seed);
  for (std::size_t i = 0; i < r.size(); ++i) out.pixels[i] = static_cast<std::uint8_t>(r[i]);
  return out;
}

// A photo whose rows lie further apart than they are long.
struct Strided {
  std::vector<std::uint8_t> memory;
  ImageView view;

  explicit Strided(const Image& image) : view{nullptr, image.width, image.height, image.width * 3 + 5} {
    memory.assign(static_cast<std::size_t>(view.stride * image.height), 77);
    for (int y = 0; y < image.height; ++y)
      std::memcpy(memory.data() + y * view.stride, image.row(y), static_cast<std::size_t>(image.width) * 3);
    view.pixels = memory.data();
  }
};

std::vector<Tensor> run(const ResizeImage& op, const std::vector<ImageView>& photos, int threads = 1) {
  const auto count = static_cast<std::int64_t>(photos.size());
  DimBindings bindings{{"rh", 0}, {"rw", 0}};
  for (const ImageView& p : photos) {
    const ImageSize size = network_size(op, p.width, p.height).size;
    bindings["rh"] = std::max<std::int64_t>(bindings["rh"], size.height);
    bindings["rw"] = std::max<std::int64_t>(bindings["rw"], size.width);
  }
  return run_kernel(
      {.op = op,
       .inputs = {{Tensor::zeros(DType::kU8, {count, 1, 1, 3})}, {Tensor::zeros(DType::kI32, {count, 2})}},
       .threads = threads,
       .photos = photos,
       .bindings = bindings});
}

// Pixels outside a photo's corner of its slot are unspecified, so only the corner is compared.
void expect_corner(const Tensor& slots, std::int64_t n, const Image& want, bool bgr) {
  for (int y = 0; y < want.height; ++y)
    for (int x = 0; x < want.width; ++x)
      for (int c = 0; c < 3; ++c) {
        const std::int64_t at = ((n * slots.dim(1) + y) * slots.dim(2) + x) * 3 + (bgr ? 2 - c : c);
        ASSERT_EQ(slots.values<std::uint8_t>()[static_cast<std::size_t>(at)], want.row(y)[3 * x + c])
            << n << ": " << y << ", " << x;
      }
}

TEST(ResizeImage, EveryPhotoOfABatchInItsCorner) {
  const Image wide = random_photo(90, 60, 1), tall = random_photo(31, 75, 2), as_is = random_photo(50, 40, 3);
  const Strided a(wide), b(tall), c(as_is);
  for (const bool bgr : {false, true})
    for (const int threads : {1, 2}) {
      const ResizeImage op{.shortest = 40, .longest = 64, .bgr = bgr};
      const std::vector<Tensor> out = run(op, {a.view, b.view, c.view}, threads);
      EXPECT_EQ(out[0].shape(), (Shape{3, 64, 60, 3}));
      expect_corner(out[0], 0, resize_pil_bilinear(wide, 60, 40), bgr);
      expect_corner(out[0], 1, resize_pil_bilinear(tall, 26, 64), bgr);
      expect_corner(out[0], 2, as_is, bgr);
      const auto* g = reinterpret_cast<const Geometry*>(out[1].bytes().data());
      EXPECT_EQ(g[0].clip_height, 40);
      EXPECT_EQ(g[0].clip_width, 60);
      EXPECT_EQ(g[0].scale_y, 1.5f);
      EXPECT_EQ(g[1].scale_x, 31.0f / 26);
      EXPECT_EQ(g[1].height, 75);
      EXPECT_EQ(g[1].width, 31);
    }
}

TEST(ResizeImage, OneSideOnly) {
  const Image photo = random_photo(64, 60, 4);
  const ResizeImage to_canvas{.canvas_height = 30, .canvas_width = 64};
  const Tensor out = run(to_canvas, {photo}, 2)[0];
  expect_corner(out, 0, resize_pil_bilinear(photo, 32, 30), false);
  const Image strip = random_photo(100, 1, 5);  // its height stays
  expect_corner(run({.shortest = 1, .longest = 50}, {strip})[0], 0, resize_pil_bilinear(strip, 50, 1), false);
}

TEST(ResizeImage, CanvasGeometryClipsToTheCanvas) {
  const Image photo = random_photo(60, 40, 6);
  const std::vector<Tensor> out = run({.canvas_height = 90, .canvas_width = 90}, {photo});
  EXPECT_EQ(out[0].shape(), (Shape{1, 60, 90, 3}));
  const auto* g = reinterpret_cast<const Geometry*>(out[1].bytes().data());
  EXPECT_EQ(g->clip_height, 90);
  EXPECT_EQ(g->scale_y, static_cast<float>(60.0 / 90));
  EXPECT_EQ(g->scale_x, static_cast<float>(60.0 / 90));
}

// TensorFlow's rules by their definition, in the same float32 operations.
float interpolated(const ResizeImage& op, const Image& photo, ImageSize to, int y, int x, int c) {
  const auto level = [&](int row, int column) {
    const auto v = static_cast<float>(photo.row(row)[3 * column + (op.bgr ? 2 - c : c)]) * op.scale;
    const auto channel = static_cast<std::size_t>(c);
    return op.mean.empty() ? v : (v - op.mean[channel]) / op.std[channel];
  };
  const auto source = [&](int i, int in, int out) {
    const float scale = static_cast<float>(in) / static_cast<float>(out);
    return op.rule == ResizeRule::kTfHalfPixel ? (static_cast<float>(i) + 0.5f) * scale - 0.5f
                                               : static_cast<float>(i) * scale;
  };
  const float sy = source(y, photo.height, to.height), sx = source(x, photo.width, to.width);
  const int top = std::max(static_cast<int>(std::floor(sy)), 0),
            left = std::max(static_cast<int>(std::floor(sx)), 0);
  const int bottom = std::min(static_cast<int>(std::ceil(sy)), photo.height - 1);
  const int right = std::min(static_cast<int>(std::ceil(sx)), photo.width - 1);
  const float dy = sy - std::floor(sy), dx = sx - std::floor(sx);
  const float north =
      level(std::min(top, bottom), std::min(left, right)) +
      (level(std::min(top, bottom), right) - level(std::min(top, bottom), std::min(left, right))) * dx;
  const float south = level(bottom, std::min(left, right)) +
                      (level(bottom, right) - level(bottom, std::min(left, right))) * dx;
  return north + (south - north) * dy;
}

TEST(ResizeImage, TensorflowsRulesIntoFloats) {
  const std::vector<Image> photos{random_photo(90, 60, 11), random_photo(31, 75, 12), random_photo(1, 1, 13),
                                  random_photo(48, 48, 14)};
  std::vector<Strided> strided;
  for (const Image& p : photos) strided.emplace_back(p);
  std::vector<ImageView> views;
  for (const Strided& s : strided) views.push_back(s.view);
  const std::vector<float> mean{0.5f, 1, 100}, std{1, 2.5f, 57};
  for (const ResizeRule rule : {ResizeRule::kTfBilinear, ResizeRule::kTfHalfPixel})
    for (const ResizeImage& op :
         {ResizeImage{.rule = rule, .canvas_height = 48, .canvas_width = 48, .fit = Fit::kStretch},
          ResizeImage{.rule = rule,
          .canvas_height = 50,
          .canvas_width = 70,
          .fit = Fit::kTruncate,
          .mean = mean,
          .std = std},
          ResizeImage{.rule = rule, .shortest = 40, .longest = 64, .fit = Fit::kKeepAspect, .scale = 0.25f},
          ResizeImage{.rule = rule,
          .shortest = 33,
          .longest = 64,
          .canvas_height = 64,
          .canvas_width = 64,
          .bgr = true,
          .fit = Fit::kKeepAspect}})
      for (const int threads : {1, 2}) {
        const std::vector<Tensor> out = run(op, views, threads);
        std::size_t at = 0;
        for (const Image& photo : photos) {
          const ImageSize to = network_size(op, photo.width, photo.height).size;
          for (int y = 0; y < out[0].dim(1); ++y)
            for (int x = 0; x < out[0].dim(2); ++x)
              for (int c = 0; c < 3; ++c) {
                const float want = y < to.height && x < to.width ? interpolated(op, photo, to, y, x, c) : 0;
                ASSERT_EQ(out[0].values<float>()[at++], want) << y << ", " << x << ", " << c;
              }
        }
      }
}

TEST(ResizeImage, SizesOfTensorflowsFits) {
  const auto size = [](const ResizeImage& op, int width, int height) {
    return network_size(op, width, height);
  };
  const ResizeImage keep{
      .rule = ResizeRule::kTfBilinear, .shortest = 800, .longest = 1333, .fit = Fit::kKeepAspect};
  EXPECT_EQ(size(keep, 600, 400).size, (ImageSize{1200, 800}));
  EXPECT_EQ(size(keep, 1000, 500).size, (ImageSize{1333, 666}));  // 666.5: to the even one
  EXPECT_EQ(size(keep, 500, 1000).size, (ImageSize{666, 1333}));
  EXPECT_EQ(size(keep, 300, 300).size, (ImageSize{800, 800}));
  EXPECT_EQ(size(keep, 1, 4000).size, (ImageSize{1, 1333}));  // not nothing
  EXPECT_EQ(size(keep, 600, 400).geometry, (std::array<float, 6>{800, 1200, 0.5f, 0.5f, 400, 600}));
  const ResizeImage cut{
      .rule = ResizeRule::kTfHalfPixel, .canvas_height = 512, .canvas_width = 512, .fit = Fit::kTruncate};
  EXPECT_EQ(size(cut, 451, 300).size, (ImageSize{512, 340}));  // 340.58
  EXPECT_EQ(size(cut, 300, 451).geometry[2], 1 / (512.0f / 451));
  const ResizeImage stretch{
      .rule = ResizeRule::kTfBilinear, .canvas_height = 300, .canvas_width = 200, .fit = Fit::kStretch};
  EXPECT_EQ(size(stretch, 600, 400).size, (ImageSize{200, 300}));
  EXPECT_EQ(size(stretch, 600, 400).geometry, (std::array<float, 6>{300, 200, 400.0f / 300, 3, 400, 600}));
}

}  // namespace
}  // namespace osprey

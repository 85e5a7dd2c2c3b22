// Bit for bit as on the CPU, in slots larger than the photos need.
#include "ops/resize_image.h"

#include "backends/network_size.h"
#include "cuda/cuda_harness.h"

namespace osprey {
namespace {

Image random_photo(int width, int height) {
  Image out(width, height);
  const std::vector<float> r = random_floats(static_cast<std::int64_t>(out.pixels.size()), 0, 256,
                                             static_cast<std::uint32_t>(width * 7919 + height));
  for (std::size_t i = 0; i < r.size(); ++i) out.pixels[i] = static_cast<std::uint8_t>(r[i]);
  return out;
}

void expect_same_corner(const Tensor& got, const Tensor& want, std::int64_t n, ImageSize size,
                        const std::string& what) {
  std::int64_t different = 0;
  const auto at = [&](const Tensor& t, std::int64_t y, std::int64_t x) {
    return t.values<std::uint8_t>()[static_cast<std::size_t>(((n * t.dim(1) + y) * t.dim(2)) * 3 + x)];
  };
  for (std::int64_t y = 0; y < size.height; ++y)
    for (std::int64_t x = 0; x < std::int64_t{3} * size.width; ++x)
      different += at(got, y, x) != at(want, y, x);
  EXPECT_EQ(different, 0) << what << ", photo " << n << " of " << size.width << " x " << size.height;
}

void expect_as_on_cpu(const ResizeImage& op, const std::vector<ImageSize>& sizes, const std::string& what) {
  std::vector<Image> photos;
  std::vector<ImageSize> targets;
  DimBindings bindings{{"rh", 0}, {"rw", 0}};
  for (const ImageSize& size : sizes) {
    photos.push_back(random_photo(size.width, size.height));
    targets.push_back(network_size(op, size.width, size.height).size);
    bindings["rh"] = std::max<std::int64_t>(bindings["rh"], targets.back().height);
    bindings["rw"] = std::max<std::int64_t>(bindings["rw"], targets.back().width);
  }
  const auto count = static_cast<std::int64_t>(sizes.size());
  KernelCase test{
      .op = op,
      .inputs = {{Tensor::zeros(DType::kU8, {count, 1, 1, 3})}, {Tensor::zeros(DType::kI32, {count, 2})}},
      .photos = {photos.begin(), photos.end()},
      .bindings = bindings};
  const std::vector<Tensor> want = run_oracle(test);
  test.bindings["rh"] += 7, test.bindings["rw"] += 5;
  const std::vector<Tensor> got = run_cuda(test);
  for (std::size_t n = 0; n < sizes.size(); ++n)
    expect_same_corner(got[0], want[0], static_cast<std::int64_t>(n), targets[n], what);
  EXPECT_TRUE(std::ranges::equal(got[1].bytes(), want[1].bytes())) << what << ": geometry";
}

TEST(CudaResizeImage, EverySizeOfAClass) {
  SKIP_WITHOUT_GPU();
  const std::vector<ImageSize> sizes{{90, 60}, {31, 75}, {50, 40}, {41, 40},
                                     {1, 1},   {511, 3}, {2, 300}, {333, 500}};
  expect_as_on_cpu({.shortest = 40, .longest = 64}, sizes, "a batch");
  for (const ImageSize size : sizes) {
    expect_as_on_cpu({.shortest = 40, .longest = 64}, {size}, "shrunk");
    expect_as_on_cpu({.shortest = 173, .longest = 291, .bgr = true}, {size}, "enlarged");
    expect_as_on_cpu({.canvas_height = 64, .canvas_width = 64}, {size}, "square canvas");
    expect_as_on_cpu({.canvas_height = 37, .canvas_width = 96, .bgr = true}, {size}, "wide canvas");
  }
}

TEST(CudaResizeImage, PhotosOfCamerasAndLongStrips) {
  SKIP_WITHOUT_GPU();
  expect_as_on_cpu({}, {{640, 480}}, "enlarged");
  expect_as_on_cpu({}, {{1333, 800}, {800, 1333}}, "as they are");
  expect_as_on_cpu({}, {{1999, 1501}}, "shrunk");
  expect_as_on_cpu({}, {{4000, 3000}}, "shrunk from a class larger than the photo");
  expect_as_on_cpu({.shortest = 100, .longest = 133}, {{2048, 1537}}, "thumbnail");
  expect_as_on_cpu({.shortest = 10, .longest = 20}, {{3000, 2}, {7, 1900}}, "strips");
}

TEST(CudaResizeImage, OpencvsBicubicRule) {
  SKIP_WITHOUT_GPU();
  const std::vector<ImageSize> sizes{{90, 60}, {31, 75}, {1, 1}, {511, 3}, {2, 300}, {333, 500}, {5, 5}};
  for (const bool bgr : {false, true})
    for (const ImageSize canvas : {ImageSize{64, 64}, {37, 96}, {640, 640}, {1, 1}}) {
      const ResizeImage op{.rule = ResizeRule::kCvCubic,
                           .canvas_height = canvas.height,
                           .canvas_width = canvas.width,
                           .bgr = bgr,
                           .fit = Fit::kStretch};
      const std::string what = fmt::format("bicubic, to {} x {}", canvas.width, canvas.height);
      for (const ImageSize size : sizes) expect_as_on_cpu(op, {size}, what);
      expect_as_on_cpu(op, sizes, what);
    }
}

TEST(CudaResizeImage, ShortSideOfMaskrcnnBenchmark) {
  SKIP_WITHOUT_GPU();
  const std::vector<ImageSize> sizes{{90, 60}, {31, 75}, {511, 3}, {2, 300}, {333, 500}, {300, 451}};
  expect_as_on_cpu({.shortest = 40, .longest = 64, .fit = Fit::kShortSide}, sizes, "a batch");
  for (const ImageSize size : sizes)
    expect_as_on_cpu({.shortest = 256, .longest = 384, .bgr = true, .fit = Fit::kShortSide}, {size},
                     "enlarged");
  expect_as_on_cpu({.fit = Fit::kShortSide}, {{640, 480}, {1999, 1501}}, "photos");
  // Strips that shrink by half as much again as their shape would let them: 1.49 pixels become 1.
  expect_as_on_cpu({.shortest = 800, .longest = 1333, .fit = Fit::kShortSide}, {{2684, 3}, {3, 2684}},
                   "strips");
  expect_as_on_cpu({.shortest = 10, .longest = 20, .fit = Fit::kShortSide}, {{3000, 2}, {7, 1900}},
                   "to nothing");
}

// TensorFlow's rules: the whole slot, zeros around the photo and all.
TEST(CudaResizeImage, TensorflowsRulesIntoFloats) {
  SKIP_WITHOUT_GPU();
  const std::vector<ImageSize> sizes{{90, 60}, {31, 75}, {50, 40}, {1, 1}, {511, 3}, {333, 500}};
  const std::vector<float> mean{123.675f, 1, 100}, std{1, 2.5f, 57};
  for (const ResizeRule rule : {ResizeRule::kTfBilinear, ResizeRule::kTfHalfPixel})
    for (const ResizeImage& op :
         {ResizeImage{.rule = rule, .canvas_height = 48, .canvas_width = 300, .fit = Fit::kStretch},
          ResizeImage{.rule = rule,
          .canvas_height = 70,
          .canvas_width = 90,
          .bgr = true,
          .fit = Fit::kTruncate,
          .scale = 0.25f,
          .mean = mean,
          .std = std},
          ResizeImage{
              .rule = rule, .shortest = 40, .longest = 64, .fit = Fit::kKeepAspect, .scale = 2.0f / 255},
          ResizeImage{.rule = rule,
          .shortest = 33,
          .longest = 64,
          .canvas_height = 64,
          .canvas_width = 64,
          .fit = Fit::kKeepAspect}}) {
      std::vector<Image> photos;
      DimBindings bindings{{"rh", 0}, {"rw", 0}};
      for (const ImageSize& size : sizes) {
        photos.push_back(random_photo(size.width, size.height));
        const ImageSize to = network_size(op, size.width, size.height).size;
        bindings["rh"] = std::max<std::int64_t>(bindings["rh"], to.height);
        bindings["rw"] = std::max<std::int64_t>(bindings["rw"], to.width);
      }
      const auto count = static_cast<std::int64_t>(sizes.size());
      expect_as_on_cpu(KernelCase{.op = op,
                                  .inputs = {{Tensor::zeros(DType::kU8, {count, 1, 1, 3})},
                                             {Tensor::zeros(DType::kI32, {count, 2})}},
                                  .photos = {photos.begin(), photos.end()},
                                  .bindings = bindings},
                       0, std::string(kFitNames[static_cast<std::size_t>(op.fit)]));
    }
}

}  // namespace
}  // namespace osprey

// The same values as on the CPU, rounded to the type.
#include "ops/normalize_image.h"

#include "cpu/boxes.h"
#include "cuda/cuda_harness.h"

namespace osprey {
namespace {

struct Case {
  NormalizeImage op;
  std::vector<Geometry> geometry;
  std::int64_t height, width;  // of the slots
  DimBindings bindings;
};

void expect_as_on_cpu(Case c) {
  const auto photos = static_cast<std::int64_t>(c.geometry.size());
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(photos * c.height * c.width * 3));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 31 % 256);
  const Tensor geometry = Tensor::from<float>(
      {reinterpret_cast<const float*>(c.geometry.data()), c.geometry.size() * 6}, {photos, 6});
  const auto test = [&] {
    return KernelCase{.op = c.op,
                      .inputs = {{tensor_of(pixels, {photos, c.height, c.width, 3})}, {geometry}},
                      .bindings = c.bindings};
  };
  const std::vector<Tensor> want = run_oracle(test());
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
    c.op.to = type;
    const std::vector<Tensor> got = run_cuda(test());
    if (!short_cases()) {  // the oracle's are f32
      EXPECT_EQ(got[0].dtype(), dtype_of(type));
    }
    expect_close(got, want, 0, std::string(name_of(dtype_of(type))));
  }
}

const std::vector<float> kMean{103.53f, 116.28f, 123.675f}, kStd{57.375f, 57.12f, 58.395f};

TEST(CudaNormalizeImage, PadsToAMultiple) {
  SKIP_WITHOUT_GPU();
  const std::vector<Geometry> photos{{20, 30, 1, 1, 20, 30}, {25, 18, 1, 1, 25, 18}};
  expect_as_on_cpu({{.mean = kMean, .std = kStd, .multiple = 16}, photos, 25, 30, {{"h", 2}, {"w", 2}}});
  expect_as_on_cpu({{.mean = kMean, .std = kStd, .multiple = 3}, photos, 26, 31, {{"h", 9}, {"w", 11}}});
  expect_as_on_cpu({{.mean = kMean, .std = kStd}, {{1, 1, 1, 1, 1, 1}}, 1, 1, {{"h", 1}, {"w", 1}}});
  const std::vector<Geometry> wide{{5, 1333, 1, 1, 5, 1333}};
  expect_as_on_cpu({{.mean = kMean, .std = kStd, .multiple = 32}, wide, 5, 1333, {{"h", 1}, {"w", 42}}});
}

TEST(CudaNormalizeImage, FillsACanvas) {
  SKIP_WITHOUT_GPU();
  NormalizeImage op{
      .mean = kMean, .std = kStd, .fill = {116, 1, 250}, .canvas_height = 24, .canvas_width = 24};
  const std::vector<Geometry> photos{{24, 24, 0.5f, 0.5f, 6, 12}, {24, 24, 2, 2, 48, 40}};
  expect_as_on_cpu({op, photos, 24, 24, {}});
  op.canvas_width = 31;
  expect_as_on_cpu({op, photos, 24, 31, {}});
}

TEST(CudaNormalizeImage, FloatsWithAndWithoutMean) {
  SKIP_WITHOUT_GPU();
  const Tensor geometry = Tensor::zeros(DType::kF32, {2, 6});
  for (const std::int64_t width : {30, 33})
    for (NormalizeImage op :
         {NormalizeImage{.mean = {}, .std = {}, .multiple = 16},
          NormalizeImage{
              .mean = kMean, .std = kStd, .canvas_height = 24, .canvas_width = 40, .scale = 0.3f}}) {
      const Tensor pixels = random_tensor({2, 20, width, 3}, -2, 250, 5);
      const auto test = [&] {
        return KernelCase{.op = op, .inputs = {{pixels}, {geometry}}, .bindings = {{"h", 2}, {"w", 3}}};
      };
      const std::vector<Tensor> want = run_oracle(test());
      for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
        op.to = type;
        expect_close(run_cuda(test()), want, 0, std::string(name_of(dtype_of(type))));
      }
    }
}

}  // namespace
}  // namespace osprey

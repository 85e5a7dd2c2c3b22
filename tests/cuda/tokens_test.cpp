// What is done to tokens, row by row, against the CPU's.
#include "ops/tokens.h"

#include "cuda/cuda_harness.h"
#include "ops/combine_rows.h"
#include "ops/gather_rows.h"
#include "ops/gelu.h"
#include "ops/layer_norm.h"
#include "ops/refine_boxes.h"
#include "ops/token_map.h"

namespace osprey {
namespace {

constexpr DType kTypes[]{DType::kF32, DType::kF16, DType::kBF16};

double last_place(DType type) { return type == DType::kF16 ? 0x1p-10 : type == DType::kBF16 ? 0x1p-7 : 1e-5; }

Tensor row_numbers(std::int64_t count, std::int64_t below) {
  std::vector<std::int32_t> rows;
  for (std::int64_t i = 0; i < count; ++i) rows.push_back(static_cast<std::int32_t>((i * 37 + 5) % below));
  return tensor_of(rows, {count});
}

TEST(CudaTokens, MapsSideBySide) {
  SKIP_WITHOUT_GPU();
  for (const DType type : kTypes)
    for (const std::int64_t channels : {1, 6, 64})
      for (const std::size_t maps : {1, 2, 3, 11})
        for (const std::int64_t images : {1, 3}) {
          KernelCase test{.op = Tokens{}, .inputs = {}};
          for (std::size_t i = 0; i < maps; ++i) {
            const auto n = static_cast<std::int64_t>(i);
            const Shape shape{images, channels, 1 + (7 * n + 4) % 9, 1 + (5 * n + 3) % 8};
            test.inputs.push_back(
                {rounded_to(random_tensor(shape, -1, 1, static_cast<std::uint32_t>(i)), type)});
          }
          expect_as_on_cpu(
              test, 0,
              fmt::format("{} maps of {} images, {} channels, {}", maps, images, channels, name_of(type)));
        }
}

TEST(CudaTokenMap, RowsAreAMapChannelsLast) {
  SKIP_WITHOUT_GPU();
  for (const DType type : kTypes)
    for (const std::int64_t channels : {1, 7, 64})
      expect_as_on_cpu({.op = TokenMap{.height = 5, .width = 7},
                        .inputs = {{rounded_to(random_tensor({70, channels}, -1, 1, 1), type)}}},
                       0, fmt::format("{} channels, {}", channels, name_of(type)));
}

TEST(CudaCombineRows, WithATableOfRowsOrOfOneColumn) {
  SKIP_WITHOUT_GPU();
  for (const DType type : kTypes)
    for (const CombineRule rule : {CombineRule::kAdd, CombineRule::kMultiply})
      for (const std::int64_t channels : {1, 4, 6, 64})
        for (const bool one_column : {false, true}) {
          const Tensor table = random_tensor({9, one_column ? 1 : channels}, -2, 2, 3);
          const std::string what = fmt::format("{} channels, {}", channels, name_of(type));
          expect_as_on_cpu({.op = CombineRows{.rule = rule},
                            .inputs = {{rounded_to(random_tensor({27, channels}, -1, 1, 1), type)}, {table}}},
                           0, what);
          for (const std::int64_t rows : {0, 1, 20})
            expect_as_on_cpu(
                {.op = CombineRows{.rule = rule},
                 .inputs = {{rounded_to(random_tensor({rows, channels}, -1, 1, 1), type), {}, 20},
                            {table},
                            {row_numbers(rows, 27), {}, 20}}},
                0, fmt::format("{}, {} rows", what, rows));
        }
}

TEST(CudaGatherRows, ByTheirNumbers) {
  SKIP_WITHOUT_GPU();
  for (const DType type : kTypes)
    for (const std::int64_t channels : {1, 6, 64, 256})
      for (const std::int64_t rows : {0, 1, 300})
        expect_as_on_cpu({.op = GatherRows{},
                          .inputs = {{rounded_to(random_tensor({50, channels}, -1, 1, 1), type)},
                                     {row_numbers(rows, 50), {}, 300}}},
                         0, fmt::format("{} rows of {}, {}", rows, channels, name_of(type)));
}

TEST(CudaGelu, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const DType type : kTypes)
    for (const Shape& shape : {Shape{1, 1}, {37, 129}, {2, 5, 7, 3}})
      expect_as_on_cpu({.op = Gelu{}, .inputs = {{rounded_to(random_tensor(shape, -6, 6, 1), type)}}},
                       last_place(type), std::string(name_of(type)));
}

TEST(CudaLayerNorm, WithAndWithoutAResidual) {
  SKIP_WITHOUT_GPU();
  for (const DType type : kTypes)
    for (const std::int64_t width : {1, 7, 32, 96, 256, 384, 512, 1024, 1500})
      for (const std::int64_t rows : {1, 5, 300})
        for (const bool residual : {false, true}) {
          if (width == 1 && type != DType::kF32) continue;  // nothing but the bias
          KernelCase test{.op = LayerNorm{},
                          .inputs = {{rounded_to(random_tensor({rows, width}, -2, 3, 1), type)},
                                     {random_tensor({width}, -2, 2, 2)},
                                     {random_tensor({width}, -1, 1, 3)}}};
          if (residual) test.inputs.push_back({rounded_to(random_tensor({rows, width}, -1, 1, 4), type)});
          expect_as_on_cpu(
              test, last_place(type),
              fmt::format("{} rows of {}, {}, residual {}", rows, width, name_of(type), residual));
        }
}

TEST(CudaLayerNorm, RowsFarFromZero) {
  SKIP_WITHOUT_GPU();
  expect_as_on_cpu({.op = LayerNorm{},
                    .inputs = {{random_tensor({40, 256}, 1000, 1001, 1)},
                               {random_tensor({256}, 1, 1, 2)},
                               {random_tensor({256}, 0, 0, 3)}}},
                   3e-3, "far from zero");
}

TEST(CudaRefineBoxes, AtTheEdgesToo) {
  SKIP_WITHOUT_GPU();
  Tensor boxes = random_tensor({301, 4}, -0.1f, 1.1f, 2);
  const auto v = boxes.mutable_values<float>();
  v[0] = 0, v[1] = 1, v[2] = 1e-6f, v[3] = 1 - 1e-6f, v[4] = -5, v[5] = 7, v[6] = NAN;
  for (const float epsilon : {1e-5f, 1e-2f})
    expect_as_on_cpu(
        {.op = RefineBoxes{.epsilon = epsilon}, .inputs = {{random_tensor({301, 4}, -9, 9, 1)}, {boxes}}},
        3e-7, fmt::format("epsilon {}", epsilon));
}

}  // namespace
}  // namespace osprey

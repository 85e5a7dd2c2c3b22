// The kernels that keep shapes: activate, add, batch_norm, cast, dequantize, mean, quantize, scale,
// scale_channels, softmax, squeeze_excite, weighted_sum; and those that only move or average pixels:
// upsample, average_pool, concat, flatten, global_average_pool.
#include <cmath>

#include "cuda/cuda_harness.h"
#include "ops/activate.h"
#include "ops/add.h"
#include "ops/average_pool.h"
#include "ops/batch_norm.h"
#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/dequantize.h"
#include "ops/flatten.h"
#include "ops/global_average_pool.h"
#include "ops/mean.h"
#include "ops/quantize.h"
#include "ops/scale.h"
#include "ops/scale_channels.h"
#include "ops/softmax.h"
#include "ops/squeeze_excite.h"
#include "ops/upsample.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

const std::vector<DType> kAll{DType::kF32, DType::kF16, DType::kBF16}, kOnlyF32{DType::kF32};
const std::vector<Shape> kMaps{{1, 1, 1, 1}, {1, 3, 5, 4}, {1, 24, 3, 7}, {1, 81, 2, 2}, {1, 64, 17, 33}};

// What a type makes of an error of a few roundings in f32, relative to the largest magnitude.
double one_rounding(DType type) {
  return type == DType::kF16 ? 0x1p-11 : type == DType::kBF16 ? 0x1p-8 : 2e-6;
}

// For a full batch, for no rows, and for some or all of the rows that there may be. Ops that are `exact`
// give the CPU's values, rounded to the type.
void in_every_way(const Op& op, const Shape& shape, std::size_t inputs, const std::vector<Tensor>& weights,
                  const std::vector<DType>& types, bool exact) {
  struct Rows {
    std::int64_t live, bound;
  };
  for (const Rows rows : {Rows{2, 0}, Rows{0, 20}, Rows{5, 20}, Rows{20, 20}})
    for (const DType type : types) {
      KernelCase test{.op = op, .inputs = {}};
      Shape dims = shape;
      dims[0] = rows.live;
      for (std::size_t i = 0; i < inputs; ++i)
        test.inputs.push_back(
            {rounded_to(random_tensor(dims, -3, 3, static_cast<std::uint32_t>(i + 1)), type),
             {},
             rows.bound});
      for (const Tensor& weight : weights) test.inputs.push_back({weight});
      expect_as_on_cpu(test, exact ? 0 : one_rounding(type),
                       fmt::format("{} of {}, {} of {} rows, {}", op.name(), to_string(shape), rows.live,
                                   rows.bound, name_of(type)));
    }
}

TEST(CudaElementwise, Activate) {
  SKIP_WITHOUT_GPU();
  for (const Activation kind :
       {Activation::kNone, Activation::kRelu, Activation::kSigmoid, Activation::kSwish, Activation::kRelu6})
    for (const Shape& shape : {kMaps[1], kMaps[2], Shape{1, 7}})
      in_every_way(Activate{.kind = kind}, shape, 1, {}, kAll,
                   kind == Activation::kNone || kind == Activation::kRelu || kind == Activation::kRelu6);
}

TEST(CudaElementwise, ActivateKeepsNaN) {
  SKIP_WITHOUT_GPU();
  const std::vector<float> values{NAN, INFINITY, -INFINITY, -0.0f, 1e-40f, 3e38f};
  for (const Activation kind : {Activation::kRelu, Activation::kSigmoid})
    expect_as_on_cpu({.op = Activate{.kind = kind}, .inputs = {{tensor_of(values, {1, 6})}}}, 1e-6,
                     "activate");
}

TEST(CudaElementwise, Add) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps) in_every_way(Add{}, shape, 2, {}, kAll, true);
}

TEST(CudaElementwise, Mean) {
  SKIP_WITHOUT_GPU();
  for (const std::size_t inputs : {2, 3, 5}) in_every_way(Mean{}, {1, 81}, inputs, {}, kOnlyF32, true);
}

TEST(CudaElementwise, Softmax) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t columns : {1, 2, 31, 81, 1204})
    in_every_way(Softmax{}, {1, columns}, 1, {}, kOnlyF32, false);
}

TEST(CudaElementwise, BatchNorm) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps) {
    const std::int64_t c = shape[1];
    in_every_way(BatchNorm{.epsilon = 1e-3f}, shape, 1,
                 {random_tensor({c}, -1, 1, 11), random_tensor({c}, -1, 1, 12), random_tensor({c}, -1, 1, 13),
                  random_tensor({c}, 0.5f, 2, 14)},
                 kAll, false);
  }
}

TEST(CudaElementwise, Flatten) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps) in_every_way(Flatten{}, shape, 1, {}, kAll, true);
}

TEST(CudaElementwise, GlobalAveragePool) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps) in_every_way(GlobalAveragePool{}, shape, 1, {}, kAll, false);
  for (const Shape& shape : {Shape{1, 40, 45, 37}, Shape{1, 7, 70, 31}, Shape{1, 136, 16, 32}}) {
    in_every_way(GlobalAveragePool{}, shape, 1, {}, kAll, false);
    in_every_way(GlobalAveragePool{}, shape, 1, {}, kOnlyF32, true);  // summed in the same order
  }
}

TEST(CudaElementwise, Upsample) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps)
    for (const Interpolation mode : {Interpolation::kNearest, Interpolation::kBilinear})
      for (const int scale : {1, 2, 3})
        in_every_way(Upsample{.mode = mode, .scale = scale}, shape, 1, {}, kAll,
                     mode == Interpolation::kNearest);
}

TEST(CudaElementwise, UpsampleToASize) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps)
    for (const Interpolation mode :
         {Interpolation::kNearest, Interpolation::kBilinear, Interpolation::kBilinearCorners})
      for (const auto& [h, w] : {std::pair{9, 5}, {33, 33}, {1, 2}})
        in_every_way(Upsample{.mode = mode, .height = h, .width = w}, shape, 1, {}, kAll,
                     mode == Interpolation::kNearest);
  in_every_way(Upsample{.mode = Interpolation::kBilinearCorners, .scale = 3}, {1, 16, 3, 4}, 1, {}, kAll,
               false);
}

TEST(CudaElementwise, AveragePool) {
  SKIP_WITHOUT_GPU();
  const std::vector<AveragePool> ops{
      {.padding = Padding::kSame},
      {.kernel = {3, 3}, .stride = {1, 1}, .padding = Padding::kSame},
      {.kernel = {3, 3}, .stride = {2, 2}, .padding = Padding::kSame, .count_padding = true},
      {.kernel = {3, 2}, .stride = {2, 1}, .pads = {1, 0, 0, 1}},
      {.kernel = {3, 2}, .stride = {2, 1}, .pads = {1, 0, 0, 1}, .count_padding = true}};
  for (const AveragePool& op : ops)
    for (const Shape& shape : {kMaps[1], kMaps[2], kMaps[4]}) in_every_way(op, shape, 1, {}, kAll, false);
}

TEST(CudaElementwise, Scale) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps) in_every_way(Scale{.factor = 0.17f}, shape, 1, {}, kAll, true);
}

// Inputs of `rows` live rows, 4-D ones of the extents given, all rounded to the type.
KernelCase case_of(const Op& op, const std::vector<Shape>& shapes, DType type, std::int64_t rows,
                   std::int64_t bound) {
  KernelCase out{.op = op, .inputs = {}};
  for (Shape shape : shapes) {
    shape[0] = rows;
    const auto seed = static_cast<std::uint32_t>(out.inputs.size() + 1);
    out.inputs.push_back({rounded_to(random_tensor(shape, -3, 3, seed), type), {}, bound});
  }
  return out;
}

// Narrow types come of a faster exponential, which may carry a value over the border between two roundings.
double one_unit(DType type) { return type == DType::kF32 ? 2e-6 : 2 * one_rounding(type); }

struct RowsOf {
  std::int64_t live, bound;
};
const std::vector<RowsOf> kRows{{2, 0}, {0, 20}, {5, 20}};

TEST(CudaElementwise, ScaleChannels) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps)
    for (const RowsOf rows : kRows)
      for (const DType type : kAll)
        expect_as_on_cpu(case_of(ScaleChannels{}, {shape, {1, shape[1]}}, type, rows.live, rows.bound), 0,
                         fmt::format("{}, {}", to_string(shape), name_of(type)));
}

// As large as a trained layer's: the error of a gate is that of its argument, which grows with both layers.
Tensor layer_weights(std::int64_t outputs, std::int64_t inputs, unsigned seed) {
  const float most = 1 / std::sqrt(static_cast<float>(inputs));
  return random_tensor({outputs, inputs}, -most, most, seed);
}

TEST(CudaElementwise, SqueezeExcite) {
  SKIP_WITHOUT_GPU();
  struct Extents {
    std::int64_t channels, hidden, height, width;
  };
  for (const Extents& e :
       {Extents{3, 1, 5, 4}, {24, 6, 3, 7}, {32, 8, 112, 110}, {96, 4, 45, 37}, {1152, 48, 7, 5}})
    for (const RowsOf rows : kRows)
      for (const DType type : kAll) {
        KernelCase test =
            case_of(SqueezeExcite{}, {{1, e.channels, e.height, e.width}}, type, rows.live, rows.bound);
        test.inputs.push_back({rounded_to(layer_weights(e.hidden, e.channels, 21), type)});
        test.inputs.push_back({random_tensor({e.hidden}, -1, 1, 22)});
        test.inputs.push_back({rounded_to(layer_weights(e.channels, e.hidden, 23), type)});
        test.inputs.push_back({random_tensor({e.channels}, -1, 1, 24)});
        expect_as_on_cpu(test, one_unit(type), fmt::format("{} channels, {}", e.channels, name_of(type)));
      }
}

TEST(CudaElementwise, Concat) {
  SKIP_WITHOUT_GPU();
  const std::vector<std::vector<std::int64_t>> cases{
      {3, 5}, {16, 32, 8}, {24, 8, 1, 40}, {64, 64}, {8, 16, 8, 8, 8, 24, 8, 8, 8, 16}};
  for (const auto& channels : cases)
    for (const RowsOf rows : kRows)
      for (const DType type : kAll) {
        std::vector<Shape> shapes;
        for (const std::int64_t c : channels) shapes.push_back({1, c, 7, 5});
        expect_as_on_cpu(case_of(Concat{}, shapes, type, rows.live, rows.bound), 0,
                         fmt::format("{} maps, {}", channels.size(), name_of(type)));
      }
}

TEST(CudaElementwise, WeightedSum) {
  SKIP_WITHOUT_GPU();
  const std::vector<std::pair<WeightedSum, std::vector<float>>> cases{
      {{.activation = Activation::kSwish}, {0.8f, 1.3f}},
      {{}, {0.8f, -0.4f, 1.3f}},
      {{.activation = Activation::kSwish, .scales = {1, 2}}, {0.7f, 0.1f}},
      {{.activation = Activation::kSigmoid, .scales = {3, 1, 2}}, {0.7f, 0.1f, 2.f}},
      {{.activation = Activation::kRelu6}, {1.f, 2.f, 3.f, 4.f, 5.f, 6.f, 7.f, 8.f}}};
  for (const auto& [op, weights] : cases)
    for (const std::int64_t channels : {3, 24, 64, 88})
      for (const RowsOf rows : kRows)
        for (const DType type : kAll) {
          std::vector<Shape> shapes;
          for (std::size_t i = 0; i < weights.size(); ++i)
            shapes.push_back({1, channels, 6 / op.scale(i), 12 / op.scale(i)});
          KernelCase test = case_of(op, shapes, type, rows.live, rows.bound);
          for (const float w : weights) test.inputs.push_back({Tensor::from<float>(std::span(&w, 1), {})});
          expect_as_on_cpu(test, one_unit(type),
                           fmt::format("{} maps of {}, {}", weights.size(), channels, name_of(type)));
        }
  expect_as_on_cpu(case_of(WeightedSum{.normalize = false, .activation = Activation::kSwish},
                           {{1, 64, 9, 7}, {1, 64, 9, 7}, {1, 64, 9, 7}}, DType::kF16, 2, 0),
                   one_unit(DType::kF16), "plain sum");
}

// All integers there are, and as many more as the shape has room for.
Tensor integers(DType type, Shape shape) {
  Tensor out = Tensor::zeros(type, std::move(shape));
  for (std::size_t i = 0; i < static_cast<std::size_t>(out.size()); ++i)
    reinterpret_cast<std::uint8_t*>(out.mutable_data())[i] = static_cast<std::uint8_t>(i * 37 + i / 256);
  return out;
}
const std::vector<DType> kIntegers{DType::kI8, DType::kU8};

TEST(CudaElementwise, FlattenOfIntegers) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps)
    for (const RowsOf rows : kRows)
      for (const DType type : kIntegers) {
        Shape dims = shape;
        dims[0] = rows.live;
        expect_as_on_cpu({.op = Flatten{}, .inputs = {{integers(type, dims), {}, rows.bound}}}, 0,
                         fmt::format("{} of {}", to_string(shape), name_of(type)));
      }
}

TEST(CudaElementwise, Quantize) {
  SKIP_WITHOUT_GPU();
  const float special[]{NAN, INFINITY, -INFINITY, -0.0f, 0.25f, 0.75f, 1.25f, -0.25f, 63.75f, 6e4f};
  for (const Shape& shape : kMaps)
    for (const RowsOf rows : kRows)
      for (const DType type : kAll)
        for (const float scale : {0.5f, 0.013f})
          for (const IntegerType to : {IntegerType::kI8, IntegerType::kU8}) {
            Shape dims = shape;
            dims[0] = rows.live;
            Tensor x = random_tensor(dims, -3, 3, 5);
            const auto values = x.mutable_values<float>();
            std::copy_n(special, std::min(values.size(), std::size(special)), values.begin());
            expect_as_on_cpu(
                {.op = Quantize{.to = to, .scale = scale}, .inputs = {{rounded_to(x, type), {}, rows.bound}}},
                0, fmt::format("{} of {}", to_string(shape), name_of(type)));
          }
}

TEST(CudaElementwise, Dequantize) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps)
    for (const RowsOf rows : kRows)
      for (const DType type : kIntegers)
        for (const FloatType to : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
          Shape dims = shape;
          dims[0] = rows.live;
          expect_as_on_cpu(
              {.op = Dequantize{.to = to, .scale = 0.3f}, .inputs = {{integers(type, dims), {}, rows.bound}}},
              0, fmt::format("{} of {}", to_string(shape), name_of(type)));
        }
}

TEST(CudaElementwise, IntegersAreMoved) {
  SKIP_WITHOUT_GPU();
  for (const DType type : kIntegers)
    for (const RowsOf rows : kRows) {
      for (const Shape& shape : kMaps)
        for (const Upsample& op : {Upsample{.scale = 2}, Upsample{.height = 9, .width = 5}})
          expect_as_on_cpu(
              {.op = op,
               .inputs = {{integers(type, {rows.live, shape[1], shape[2], shape[3]}), {}, rows.bound}}},
              0, fmt::format("{} of {}", to_string(shape), name_of(type)));
      for (const std::vector<std::int64_t>& channels :
           {std::vector<std::int64_t>{3, 5}, {16, 48}, {24, 8, 1}}) {
        KernelCase test{.op = Concat{}, .inputs = {}};
        for (const std::int64_t c : channels)
          test.inputs.push_back({integers(type, {rows.live, c, 7, 5}), {}, rows.bound});
        expect_as_on_cpu(test, 0, fmt::format("{} maps, {}", channels.size(), name_of(type)));
      }
    }
}

// The CPU casts to fewer types, so the reference is core/dtype.h's rounding.
TEST(CudaElementwise, Cast) {
  SKIP_WITHOUT_GPU();
  const std::pair<FloatType, DType> types[]{
      {FloatType::kF32, DType::kF32}, {FloatType::kF16, DType::kF16}, {FloatType::kBF16, DType::kBF16}};
  Tensor values = random_tensor({3, 5, 9, 7}, -3, 3, 1);
  const float special[]{NAN,   INFINITY, -INFINITY, -0.0f,  65504, 65519.99f,
                        65520, 1e-7f,    6e-8f,     1e-40f, 1e38f};
  std::ranges::copy(special, values.mutable_values<float>().begin());
  for (const auto& [from_name, from] : types)
    for (const auto& [to, want] : types) {
      const Tensor x = rounded_to(values, from);
      const KernelCase test{.op = Cast{.to = to}, .inputs = {{x, {}, 4}}};
      expect_close(run_cuda(test), {x.to_f32()}, 0, fmt::format("{} to {}", name_of(from), name_of(want)));
    }
}

}  // namespace
}  // namespace osprey

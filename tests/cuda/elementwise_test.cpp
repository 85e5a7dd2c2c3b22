// The kernels that keep shapes: activate, add, batch_norm, cast, mean, softmax; and those that only move or
// average pixels: upsample, flatten, global_average_pool.
#include "cuda/cuda_harness.h"
#include "ops/activate.h"
#include "ops/add.h"
#include "ops/batch_norm.h"
#include "ops/cast.h"
#include "ops/flatten.h"
#include "ops/global_average_pool.h"
#include "ops/mean.h"
#include "ops/softmax.h"
#include "ops/upsample.h"

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
       {Activation::kNone, Activation::kRelu, Activation::kSigmoid, Activation::kSwish})
    for (const Shape& shape : {kMaps[1], kMaps[2], Shape{1, 7}})
      in_every_way(Activate{.kind = kind}, shape, 1, {}, kAll,
                   kind == Activation::kNone || kind == Activation::kRelu);
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
}

TEST(CudaElementwise, Upsample) {
  SKIP_WITHOUT_GPU();
  for (const Shape& shape : kMaps)
    for (const Interpolation mode : {Interpolation::kNearest, Interpolation::kBilinear})
      for (const int scale : {1, 2, 3})
        in_every_way(Upsample{.mode = mode, .scale = scale}, shape, 1, {}, kAll,
                     mode == Interpolation::kNearest);
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

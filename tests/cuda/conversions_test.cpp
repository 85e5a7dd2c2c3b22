// Kernels that store their result in 8 bits for a `quantize` behind them give the integers that it would make
// of their floats; those that read the integers before a `dequantize` give what they make of its floats.
#include <algorithm>
#include <cmath>
#include <map>

#include "cuda/conversions_harness.h"
#include "cuda/executor.h"
#include "ops/conv.h"
#include "ops/roi_align.h"
#include "ops/squeeze_excite.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

// What ops/quantize.h says.
Tensor integers_of(const Tensor& floats, const Quantize& op) {
  const Tensor wide = floats.to_f32();
  Tensor out = Tensor::zeros(dtype_of(op.to), floats.shape());
  const auto from = wide.values<float>();
  const bool is_signed = op.to == IntegerType::kI8;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const float v = std::clamp(std::nearbyint(from[i] * (1 / op.scale)), is_signed ? -128.f : 0.f,
                               is_signed ? 127.f : 255.f);
    out.mutable_data()[i] = static_cast<std::byte>(static_cast<int>(v));
  }
  return out;
}

void expect_integers(const KernelCase& test, const std::string& what,
                     const std::vector<Dequantize>& maps = {}) {
  const std::vector<Tensor> floats = run_cuda(test, {.maps = maps, .result = {}});
  for (const Quantize& op : {Quantize{.to = IntegerType::kI8, .scale = 0.02f},
                             Quantize{.to = IntegerType::kU8, .scale = 0.013f}}) {
    const std::vector<Tensor> got = run_cuda(test, {.maps = maps, .result = op});
    ASSERT_EQ(got.size(), 1u) << what;
    const Tensor want = integers_of(floats[0], op);
    ASSERT_EQ(got[0].shape(), want.shape()) << what;
    ASSERT_EQ(got[0].dtype(), want.dtype()) << what;
    EXPECT_TRUE(std::ranges::equal(got[0].bytes(), want.bytes()))
        << what << " to " << name_of(dtype_of(op.to));
  }
}

TEST(CudaConversions, WeightedSum) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const std::int64_t channels : {64, 12, 3}) {
      const auto map = [&](std::int64_t side, std::uint32_t seed) {
        return KernelInput{rounded_to(random_tensor({2, channels, side, side}, -3, 3, seed), type)};
      };
      expect_integers({.op = WeightedSum{.activation = Activation::kSwish, .scales = {1, 2}},
                       .inputs = {map(6, 1),
                                  map(3, 2),
                                  {Tensor::from<float>(std::vector<float>{0.7f}, {})},
                                  {Tensor::from<float>(std::vector<float>{1.2f}, {})}}},
                      fmt::format("weighted sum of {} channels in {}", channels, name_of(type)));
    }
}

TEST(CudaConversions, SqueezeExcite) {
  SKIP_WITHOUT_GPU();
  const std::int64_t images = short_cases() ? 1 : 2;
  using Types = std::vector<DType>;
  using Channels = std::vector<std::int64_t>;
  for (const DType type : short_cases() ? Types{DType::kF16} : Types{DType::kF32, DType::kF16, DType::kBF16})
    for (const std::int64_t channels : short_cases() ? Channels{136, 7} : Channels{672, 96, 12, 7})
      expect_integers({.op = SqueezeExcite{},
                       .inputs = {{rounded_to(random_tensor({images, channels, 9, 11}, -3, 3, 1), type)},
                                  {random_tensor({4, channels}, -1, 1, 2)},
                                  {random_tensor({4}, -1, 1, 3)},
                                  {random_tensor({channels, 4}, -1, 1, 4)},
                                  {random_tensor({channels}, -1, 1, 5)}}},
                      fmt::format("squeeze and excitation of {} channels in {}", channels, name_of(type)));
}

TEST(CudaConversions, Stems) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF16, DType::kBF16})
    for (const Activation kind : {Activation::kNone, Activation::kRelu6, Activation::kSwish})
      for (const std::int64_t window : {3, 7}) {
        if (window == 7 && kind == Activation::kSwish) continue;  // is no stem
        const std::int64_t outputs = window == 3 ? 40 : 64;
        expect_integers(
            {.op = Conv{.stride = {2, 2},
                        .pads = std::vector<int>(4, static_cast<int>(window / 2)),
                        .activation = kind},
             .inputs = {{rounded_to(random_tensor({2, 3, 37, 40}, -2, 3, 5), type)},
                        {rounded_to(random_tensor({outputs, 3, window, window}, -0.1f, 0.1f, 7), type)},
                        {random_tensor({outputs}, -1, 1, 9)}}},
            fmt::format("{}x{} stem in {}", window, window, name_of(type)));
      }
}

Tensor random_integers(DType type, const Shape& shape, std::uint32_t seed) {
  const Tensor floats = random_tensor(shape, 0, 1, seed);
  Tensor out = Tensor::zeros(type, shape);
  for (std::size_t i = 0; i < static_cast<std::size_t>(out.size()); ++i)
    out.mutable_data()[i] = static_cast<std::byte>(static_cast<int>(floats.values<float>()[i] * 256));
  return out;
}

Tensor floats_of(const Tensor& integers, float scale) {
  Tensor out = Tensor::zeros(DType::kF32, integers.shape());
  const auto to = out.mutable_values<float>();
  for (std::size_t i = 0; i < to.size(); ++i)
    to[i] = scale * (integers.dtype() == DType::kI8 ? static_cast<float>(integers.values<std::int8_t>()[i])
                                                    : static_cast<float>(integers.values<std::uint8_t>()[i]));
  return out;
}

TEST(CudaConversions, RoiAlign) {
  SKIP_WITHOUT_GPU();
  const Tensor rois = tensor_of<float>(
      {0, 3, 5, 90, 70, 1, -9, 20, 30, 64, 0, 8, 8, 9, 9, 1, 0, 0, 400, 300, 0, 50, 2, 60, 90}, {5, 5});
  for (const DType type : {DType::kI8, DType::kU8})
    for (const std::int64_t channels : {64, 12}) {
      const RoiAlign op{.out = 5, .scales = {0.25f, 0.125f}};
      const std::vector<Tensor> maps{random_integers(type, {2, channels, 20, 26}, 1),
                                     random_integers(type, {2, channels, 10, 13}, 2)};
      const std::vector<float> scales{0.013f, 0.02f};
      KernelCase integers{.op = op, .inputs = {}}, floats{.op = op, .inputs = {}};
      std::vector<Dequantize> dequantize;
      for (std::size_t l = 0; l < maps.size(); ++l) {
        integers.inputs.push_back({maps[l]});
        floats.inputs.push_back({floats_of(maps[l], scales[l])});
        dequantize.push_back({.to = FloatType::kF16, .scale = scales[l]});
      }
      integers.inputs.push_back({rois, {}, 8});
      floats.inputs.push_back({rois, {}, 8});
      const std::string what = fmt::format("{} channels of {}", channels, name_of(type));
      expect_close(run_cuda(integers, {.maps = dequantize, .result = {}}), run_oracle(floats), 0x1p-10, what);
      expect_integers(integers, what, dequantize);
    }
}

// A plan joins them to what stands before and behind, and gives what it gives with all values kept apart.
TEST(CudaConversions, InAPlan) {
  SKIP_WITHOUT_GPU();
  const auto graph = [] {
    Graph out("joined");
    const auto map = [&](const char* name, std::int64_t side) {
      return out.add_input(name, {DType::kF16, {Dim(1), Dim(16), Dim(side), Dim(side)}});
    };
    const ValueId a = map("a", 12), b = map("b", 12),
                  rois = out.add_input("rois", {DType::kF32, {Dim(3), Dim(5)}});
    const ValueId sum = out.add_node(WeightedSum{.normalize = false}, {a, b}, "sum").outputs[0];
    const ValueId small = out.add_node(Quantize{.scale = 0.03f}, {sum}, "small").outputs[0];
    const ValueId wide =
        out.add_node(Dequantize{.to = FloatType::kF16, .scale = 0.03f}, {small}, "wide").outputs[0];
    for (const int bins : {3, 4})
      out.add_output(out.add_node(RoiAlign{.out = bins, .scales = {1}}, {wide, rois}, "crops").outputs[0]);
    return std::make_shared<const Graph>(std::move(out));
  }();
  const std::map<std::string, Tensor> inputs{
      {"a", rounded_to(random_tensor({1, 16, 12, 12}, -2, 2, 1), DType::kF16)},
      {"b", rounded_to(random_tensor({1, 16, 12, 12}, -2, 2, 2), DType::kF16)},
      {"rois", tensor_of<float>({0, 1, 1, 9, 8, 0, 0, 0, 12, 12, 0, 5, 2, 6, 11}, {3, 5})}};
  const auto joined = make_cuda_executor(graph, {.tuning_budget = 0})->cuda_session(),
             apart = make_cuda_executor(graph, {.keep_values = true, .tuning_budget = 0})->cuda_session();
  joined->run_tensors(inputs, {});
  apart->run_tensors(inputs, {});
  for (const ValueId id : graph->outputs()) {
    const std::string& name = graph->value(id).name;
    expect_close({joined->value(name)}, {apart->value(name)}, 0x1p-10, name);
  }
}

}  // namespace
}  // namespace osprey

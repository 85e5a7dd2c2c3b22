// Depthwise convolutions of 8-bit integers: all that our own kernel takes, stored as every type. The CPU's
// kernel gives the f32 results; integers are the nearest ones, and may be the other neighbour only of a value
// that lies between two but for rounding.
#include <cmath>
#include <map>

#include "cpu/random_integers_test.h"
#include "cuda/conversions_harness.h"
#include "cuda/executor.h"
#include "ops/quantized_conv.h"

namespace osprey {
namespace {

struct Case {
  std::int64_t images, channels, height, width;
  Activation activation = Activation::kNone;
  bool bias = true;
};

std::vector<float> numbers(const Tensor& t) {
  std::vector<float> out(static_cast<std::size_t>(t.size()));
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = t.dtype() == DType::kI8 ? t.values<std::int8_t>()[i] : t.values<std::uint8_t>()[i];
  return out;
}

void expect_nearest(const Tensor& got, const Tensor& f32, const QuantizedConv& op, const std::string& what) {
  ASSERT_EQ(got.dtype(), dtype_of(op.to)) << what;
  ASSERT_EQ(got.shape(), f32.shape()) << what;
  const std::vector<float> values = numbers(got);
  const auto want = f32.values<float>();
  const double low = op.to == StoredType::kI8 ? -128 : 0, high = op.to == StoredType::kI8 ? 127 : 255;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double exact = std::clamp(double{want[i]} / double{op.y_scale}, low, high);
    ASSERT_LE(std::abs(double{values[i]} - exact), 0.5 + 1e-4) << what << ", element " << i;
  }
}

void expect_as_on_cpu(const Case& c, QuantizedConv op, std::int64_t window) {
  op.groups = static_cast<int>(c.channels);
  op.activation = c.activation;
  op.x_scale = 0.03f;
  op.y_scale = 0.05f;
  for (const DType type : {DType::kI8, DType::kU8}) {
    op.to = StoredType::kF32;
    const Shape shape{c.images, c.channels, c.height, c.width};
    KernelCase test{.op = op,
                    .inputs = {{type == DType::kI8 ? random_integers<std::int8_t>(shape, -128, 127, 3)
                                                   : random_integers<std::uint8_t>(shape, 0, 255, 3)},
                               {random_integers<std::int8_t>({c.channels, 1, window, window}, -127, 127, 5)},
                               {random_tensor({c.channels}, 1e-3f, 3e-3f, 7)}}};
    if (c.bias) test.inputs.push_back({random_tensor({c.channels}, -3, 3, 9)});
    const std::vector<Tensor> want = run_oracle(test);
    for (const StoredType to :
         {StoredType::kF32, StoredType::kBF16, StoredType::kF16, StoredType::kI8, StoredType::kU8}) {
      op.to = to;
      test.op = op;
      const std::string what = fmt::format("{}x{}x{}x{} {} {}x{} in {} to {}", c.images, c.channels, c.height,
                                           c.width, kActivationNames[static_cast<std::size_t>(c.activation)],
                                           window, window, name_of(type), name_of(dtype_of(to)));
      const std::vector<Tensor> got = run_cuda(test);
      if (is_integer(to))
        expect_nearest(got[0], want[0], op, what);
      else
        expect_close(got, want,
                     to == StoredType::kF32   ? 1e-6
                     : to == StoredType::kF16 ? 0x1p-10
                                              : 0x1p-7,
                     what);
    }
  }
}

TEST(CudaQuantizedDepthwise, MapsOfEverySize) {
  SKIP_WITHOUT_GPU();
  for (const Case& c : std::vector<Case>{{1, 32, 20, 20, Activation::kRelu6},
                                         {2, 96, 13, 17, Activation::kSwish},
                                         {1, 4, 1, 1},
                                         {1, 12, 3, 5, Activation::kRelu, false},
                                         {3, 144, 9, 6, Activation::kSigmoid},
                                         {1, 1152, 4, 4, Activation::kSwish},
                                         {1, 68, 7, 33}})
    for (const std::int64_t window : {3, 5})
      for (const int stride : {1, 2}) {
        expect_as_on_cpu(c, {.stride = {stride, stride}, .padding = Padding::kSame}, window);
        if (c.height > 4 && c.width > 4)
          expect_as_on_cpu(c, {.stride = {stride, stride}, .pads = {1, 2, 0, 1}}, window);
      }
}

// The largest sums: 25 products of -128 and -127, or of 255 and 127.
TEST(CudaQuantizedDepthwise, LargestSums) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kI8, DType::kU8}) {
    const Shape shape{1, 16, 6, 6};
    const KernelCase test{
        .op = QuantizedConv{.padding = Padding::kSame, .groups = 16},
        .inputs = {{type == DType::kI8 ? random_integers<std::int8_t>(shape, -128, -128, 1)
                                       : random_integers<std::uint8_t>(shape, 255, 255, 1)},
                   {type == DType::kI8 ? random_integers<std::int8_t>({16, 1, 5, 5}, -127, -127, 1)
                                       : random_integers<std::int8_t>({16, 1, 5, 5}, 127, 127, 1)},
                   {Tensor::from<float>(std::span<const float>(std::vector<float>(16, 1.f)), {16})}}};
    expect_as_on_cpu(test, 0, fmt::format("largest sums of {}", name_of(type)));
  }
}

TEST(CudaQuantizedDepthwise, LiveRowsOnly) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t live : {0, 1, 3}) {
    const KernelCase test{
        .op = QuantizedConv{.padding = Padding::kSame, .groups = 16, .activation = Activation::kRelu},
        .inputs = {{random_integers<std::uint8_t>({live, 16, 7, 7}, 0, 255, 1), {}, 5},
                   {random_integers<std::int8_t>({16, 1, 3, 3}, -127, 127, 2)},
                   {random_tensor({16}, 0.01f, 0.02f, 3)}}};
    expect_as_on_cpu(test, 1e-6, fmt::format("{} of 5 rows", live));
  }
}

// Levels and heads, as the executor runs them together.
TEST(CudaQuantizedDepthwise, ManyInOneLaunch) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t window : {3, 5}) {
    Graph graph("heads");
    std::map<std::string, Tensor> maps;
    std::map<std::string, KernelCase> cases;
    unsigned seed = 0;
    for (const std::int64_t side : {1, 7, short_cases() ? 9 : 40}) {
      const std::string level = fmt::format("p{}", side);
      maps[level] = random_integers<std::uint8_t>({2, 48, side, side}, 0, 255, ++seed);
      const ValueId x = graph.add_input(level, {DType::kU8, {Dim(2), Dim(48), Dim(side), Dim(side)}});
      for (const StoredType to : {StoredType::kI8, StoredType::kF32}) {
        const std::string name = fmt::format("{} {}", level, name_of(dtype_of(to)));
        const QuantizedConv op{.padding = Padding::kSame,
                               .groups = 48,
                               .activation = Activation::kSwish,
                               .to = to,
                               .x_scale = 0.01f + 0.001f * static_cast<float>(side),
                               .y_scale = 0.05f};
        const Tensor weight = random_integers<std::int8_t>({48, 1, window, window}, -127, 127, ++seed),
                     scale = random_tensor({48}, 1e-3f, 3e-3f, ++seed);
        const ValueId y =
            graph
                .add_node(op,
                          {x, graph.add_weight(name + ".w", weight), graph.add_weight(name + ".s", scale)},
                          name)
                .outputs[0];
        graph.add_output(y);
        cases.emplace(graph.value(y).name,
                      KernelCase{.op = op, .inputs = {{maps[level]}, {weight}, {scale}}});
      }
    }
    const auto executor =
        make_cuda_executor(std::make_shared<const Graph>(std::move(graph)), {.tuning_budget = 0});
    const auto session = executor->cuda_session();
    session->run_tensors(maps, {});
    for (const auto& [name, alone] : cases)
      expect_close({session->value(name)}, run_cuda(alone, {}), 0, name);
  }
}

}  // namespace
}  // namespace osprey

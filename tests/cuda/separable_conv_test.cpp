// Separable convolutions of one launch, and sums before them: what lies between is that of the CPU, rounded
// as it is stored, the result what the CPU makes of that; and for each photo what it gives alone.
#include "cuda/separable_conv.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "cuda/check.h"
#include "cuda/cuda_harness.h"
#include "cuda/device_buffer.h"
#include "cuda/early_launch.h"
#include "cuda/executor.h"
#include "cuda/guarded_device.h"
#include "cuda/packed_weights.h"
#include "ops/conv.h"
#include "ops/max_pool.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

constexpr Activation kNone = Activation::kNone, kRelu6 = Activation::kRelu6, kSwish = Activation::kSwish;

struct SeparableCase {
  std::int64_t images, height, width, channels, outputs;
  int stride = 1;
  Activation between = kNone, activation = kNone;
  bool bias = true, residual = false, f32_out = false;
};

// Each list is one launch.
const std::vector<std::vector<SeparableCase>>& separable_cases() {
  static const std::vector<std::vector<SeparableCase>> cases{
      {{1, 1, 1, 8, 8}},
      {{1, 4, 4, 64, 64}},
      {{2, 5, 7, 64, 64, 1, kNone, kSwish}},
      // channels that fill no chunk, outputs that fill no unit
      {{1, 9, 6, 88, 88, 1, kNone, kNone, false}},
      {{1, 10, 10, 40, 24, 1, kRelu6, kNone, true, true}},
      {{1, 13, 11, 144, 24, 1, kRelu6, kNone, true, true}},
      {{1, 10, 10, 320, 320, 1, kRelu6, kRelu6}},
      {{1, 3, 3, 72, 512}},
      // stride 2, even and odd sides
      {{1, 20, 20, 96, 24, 2, kRelu6, kNone}},
      {{1, 21, 33, 32, 16, 2, kRelu6, kSwish, false}},
      {{2, 40, 44, 200, 160, 2, kRelu6, kNone}},
      {{3, 96, 64, 64, 64, 2}},
      // levels of a head, in tiles of 16, 32 and 64 pixels
      {{1, 10, 10, 128, 128, 1, kNone, kRelu6},
       {1, 5, 5, 128, 128, 1, kNone, kRelu6},
       {1, 3, 3, 128, 128, 1, kNone, kRelu6}},
      {{1, 40, 40, 64, 64, 1, kNone, kSwish},
       {1, 60, 50, 64, 64, 1, kNone, kSwish},
       {1, 2, 2, 64, 64, 1, kNone, kSwish}},
      {{2, 64, 64, 64, 64, 1, kNone, kSwish},
       {2, 33, 31, 64, 64, 1, kNone, kSwish},
       {2, 1, 5, 64, 64, 1, kNone, kSwish}},
      {{1, 90, 70, 128, 128, 1, kRelu6, kRelu6}, {1, 8, 9, 192, 104, 1, kRelu6, kRelu6, false, true}},
      {{0, 8, 8, 64, 64}, {1, 6, 6, 64, 64}},
      {{0, 8, 8, 64, 64}},
      // scores and boxes
      {{1, 1, 1, 8, 2, 1, kNone, kNone, true, false, true}},
      {{1, 7, 5, 64, 810, 1, kNone, kNone, true, false, true},
       {1, 7, 5, 64, 36, 1, kNone, kNone, false, false, true},
       {1, 4, 4, 64, 810, 1, kRelu6, kNone, true, false, true}},
      {{1, 10, 10, 128, 546, 1, kNone, kNone, true, false, true},
       {2, 5, 5, 160, 24, 1, kNone, Activation::kSigmoid, true, false, true}},
      {{2, 19, 22, 88, 90, 1, kNone, kNone, true, false, true}},
      {{8, 64, 64, 64, 36, 1, kNone, kNone, true, false, true},
       {1, 30, 31, 64, 130, 1, kNone, kNone, true, false, true}},
  };
  return cases;
}

Tensor halves(Shape shape, float low, float high, int seed) {
  return rounded_to(random_tensor(std::move(shape), low, high, static_cast<std::uint32_t>(seed)),
                    DType::kF16);
}

// Channels last, on the device.
DeviceBuffer on_device(const Tensor& map) {
  return DeviceBuffer::holding(as_type(permuted(map.to_f32(), {0, 2, 3, 1}), DType::kF16).bytes());
}

// A map that a launch writes, between guard words.
class Written {
 public:
  explicit Written(Shape dims, DType type = DType::kF16)
      : type_(type),
        dims_(std::move(dims)),
        memory_(static_cast<std::size_t>(element_count(dims_)) * size_of(type)) {}
  void* data() const { return memory_.data(); }

  // In C order.
  Tensor map() const {
    const Tensor last = memory_.result(type_, {dims_[0], dims_[2], dims_[3], dims_[1]});
    return as_type(permuted(last.to_f32(), {0, 3, 1, 2}), type_);
  }

 private:
  DType type_;
  Shape dims_;
  GuardedDevice memory_;
};

// One convolution of a launch.
class Separable {
 public:
  Separable(const SeparableCase& c, int seed)
      : case_(c),
        out_height_((c.height + c.stride - 1) / c.stride),
        out_width_((c.width + c.stride - 1) / c.stride),
        x_(halves({c.images, c.channels, c.height, c.width}, -2, 2, seed)),
        taps_(halves({c.channels, 1, 3, 3}, -0.4f, 0.4f, seed + 1)),
        weight_(halves({c.outputs, c.channels, 1, 1}, -0.3f, 0.3f, seed + 2)),
        between_bias_(random_tensor({c.channels}, -1, 1, static_cast<std::uint32_t>(seed + 3))),
        bias_(random_tensor({c.outputs}, -1, 1, static_cast<std::uint32_t>(seed + 4))),
        residual_(halves({c.images, c.outputs, out_height_, out_width_}, -1, 1, seed + 5)),
        x_memory_(on_device(x_)),
        taps_memory_(
            DeviceBuffer::holding(as_type(permuted(taps_.to_f32(), {2, 3, 1, 0}), DType::kF16).bytes())),
        weight_memory_(on_device(weight_)),
        between_bias_memory_(DeviceBuffer::holding(between_bias_.bytes())),
        bias_memory_(DeviceBuffer::holding(bias_.bytes())),
        residual_memory_(on_device(residual_)),
        between_({c.images, c.channels, out_height_, out_width_}),
        y_({c.images, c.outputs, out_height_, out_width_}, c.f32_out ? DType::kF32 : DType::kF16) {}

  SeparableConv conv(bool kept) const {
    SeparableConv out{
        .images = case_.images, .height = case_.height, .width = case_.width, .channels = case_.channels};
    out.out_height = out_height_, out.out_width = out_width_, out.outputs = case_.outputs;
    const auto pads = first().window(3, 3).pads_of(case_.height, case_.width);
    out.stride = case_.stride, out.top = pads[0], out.left = pads[1];
    out.between_activation = case_.between, out.activation = case_.activation;
    out.x = x_memory_.data(), out.taps = taps_memory_.data(), out.weight = weight_memory_.data();
    if (case_.bias) out.between_bias = between_bias_memory_.as<float>(), out.bias = bias_memory_.as<float>();
    if (case_.residual) out.residual = residual_memory_.data();
    if (kept) out.between = between_.data();
    out.y = y_.data(), out.f32_out = case_.f32_out;
    return out;
  }

  Tensor result() const { return y_.map(); }

  // Of what the launch read, or of a sum.
  void expect_as_on_cpu(const Tensor& x, bool kept) const {
    const std::string what = fmt::format("{} images of {}x{}x{}/{}, {} outputs", case_.images, case_.height,
                                         case_.width, case_.channels, case_.stride, case_.outputs);
    KernelCase depthwise{.op = first(), .inputs = {}},
        pointwise{.op = Conv{.activation = case_.activation, .f32_out = case_.f32_out}, .inputs = {}};
    depthwise.inputs.push_back({x});
    depthwise.inputs.push_back({taps_});
    if (case_.bias) depthwise.inputs.push_back({between_bias_});
    const Tensor between = rounded_to(run_oracle(depthwise).front().to_f32(), DType::kF16);
    // The order of nine f32 sums may differ: a rounding to the other side.
    if (kept) expect_close({between_.map()}, {between}, 0x1p-10, what + ": between");
    pointwise.inputs.push_back({kept ? between_.map() : between});
    pointwise.inputs.push_back({weight_});
    if (case_.bias || case_.residual) pointwise.inputs.push_back({case_.bias ? bias_ : Tensor()});
    if (case_.residual) pointwise.inputs.push_back({residual_});
    const double exact = case_.f32_out ? 1e-5 : 0x1p-10;  // sums in another order
    expect_close({result()}, {run_oracle(pointwise).front()}, kept ? exact : 0x1p-9, what);
  }
  void expect_as_on_cpu(bool kept) const { expect_as_on_cpu(x_, kept); }

 private:
  Conv first() const {
    return {.stride = {case_.stride, case_.stride},
            .padding = Padding::kSame,
            .groups = static_cast<int>(case_.channels),
            .activation = case_.between};
  }

  SeparableCase case_;
  std::int64_t out_height_, out_width_;
  Tensor x_, taps_, weight_, between_bias_, bias_, residual_;
  DeviceBuffer x_memory_, taps_memory_, weight_memory_, between_bias_memory_, bias_memory_, residual_memory_;
  Written between_, y_;
};

void launch(const std::vector<SeparableConv>& convs) {
  const CudaDevice device = cuda_devices().front();
  launch_separable_convs(convs, {.multiprocessors = device.multiprocessors,
                                 .shared_bytes = static_cast<int>(device.shared_bytes_optin),
                                 .early = may_launch_early(device)});
  cuda_check(cudaDeviceSynchronize(), "separable convolutions");
}

bool same(const Tensor& a, const Tensor& b) { return std::ranges::equal(a.bytes(), b.bytes()); }

TEST(CudaSeparableConv, LaunchesOfSeveral) {
  SKIP_WITHOUT_GPU();
  int seed = 0;
  for (const auto& cases : separable_cases())
    for (const bool kept : {false, true}) {
      std::vector<Separable> members;
      for (const SeparableCase& c : cases) members.emplace_back(c, seed += 10);
      std::vector<SeparableConv> convs;
      for (const Separable& m : members) convs.push_back(m.conv(kept));
      ASSERT_TRUE(std::ranges::all_of(convs, can_separate));
      launch(convs);
      std::vector<Tensor> once;
      for (const Separable& m : members) m.expect_as_on_cpu(kept), once.push_back(m.result());
      launch(convs);
      for (std::size_t i = 0; i < members.size(); ++i) EXPECT_TRUE(same(members[i].result(), once[i]));
    }
}

TEST(CudaSeparableConv, DeclinesWhatItDoesNotTake) {
  const SeparableConv conv{
      .images = 1, .height = 8, .width = 8, .channels = 64, .out_height = 8, .out_width = 8, .outputs = 64};
  EXPECT_TRUE(can_separate(conv));
  const auto declined = [&](auto change) {
    SeparableConv other = conv;
    change(other);
    return !can_separate(other);
  };
  EXPECT_TRUE(declined([](SeparableConv& c) { c.channels = 60; }));
  EXPECT_TRUE(declined([](SeparableConv& c) { c.outputs = 36; }));
  EXPECT_TRUE(declined([](SeparableConv& c) { c.outputs = 520; }));
  EXPECT_TRUE(declined([](SeparableConv& c) { c.stride = 3; }));
  EXPECT_FALSE(declined([](SeparableConv& c) { c.outputs = 810, c.f32_out = true; }));
  EXPECT_TRUE(declined([](SeparableConv& c) { c.outputs = 91, c.f32_out = true; }));
  EXPECT_TRUE(declined([](SeparableConv& c) { c.outputs = 2000, c.f32_out = true; }));  // shared memory
  EXPECT_TRUE(declined([](SeparableConv& c) { c.stride = 2, c.f32_out = true; }));
  const SeparableSource map{.height = 8, .width = 8};
  EXPECT_TRUE(declined([&](SeparableConv& c) { c.sources = {map, map}, c.stride = 2; }));
  EXPECT_TRUE(declined([&](SeparableConv& c) { c.sources = {map, map, map, map}; }));
  EXPECT_TRUE(declined([&](SeparableConv& c) { c.sources = {map, map}, c.sources[1].scale = 3; }));
  EXPECT_TRUE(declined([&](SeparableConv& c) { c.sources = {map, map}, c.sources[0].pooled = true; }));
  const SeparableSource pooled{.height = 8, .width = 8, .pooled = true};
  EXPECT_FALSE(declined([&](SeparableConv& c) { c.sources = {map, pooled}; }));
  EXPECT_TRUE(declined([&](SeparableConv& c) { c.sources = {map, pooled}, c.sources[1].scale = 2; }));
  EXPECT_TRUE(declined([&](SeparableConv& c) { c.sources = {map, map}, c.out_height = 7; }));
}

struct SummedCase {
  SeparableCase conv;
  std::vector<int> scales;  // of the maps; 0: pooled
  Activation activation = kSwish;
};

// Of an even side: what is pooled has twice that, or one less.
const std::vector<SummedCase>& summed_cases() {
  static const std::vector<SummedCase> cases{
      {{1, 4, 4, 64, 64}, {1, 0}},
      {{1, 8, 8, 64, 64}, {1, 2}},
      {{2, 8, 12, 64, 64}, {1, 1, 0}},
      {{1, 6, 10, 88, 88, 1, kNone, kSwish, false}, {1, 1, 0}},
      {{1, 16, 16, 64, 64}, {1, 1, 0}},
      {{1, 40, 42, 64, 64}, {1, 2}, kNone},
      {{1, 8, 8, 224, 224}, {1, 4, 1}},
      {{4, 64, 64, 64, 64}, {1, 1, 0}},
      {{2, 90, 70, 112, 112, 1, kRelu6, kNone}, {2, 1}, kRelu6},
      {{3, 64, 66, 160, 160}, {1, 1, 0}},
  };
  return cases;
}

TEST(CudaSeparableConv, OfSums) {
  SKIP_WITHOUT_GPU();
  int seed = 1000;
  for (const SummedCase& c : summed_cases())
    for (const bool kept : {false, true}) {
      const Separable member(c.conv, seed += 20);
      const SeparableCase& d = c.conv;
      SeparableConv conv = member.conv(kept);
      KernelCase sum{.op = WeightedSum{.normalize = false, .activation = c.activation}, .inputs = {}};
      WeightedSum op{.normalize = true, .activation = c.activation};
      std::vector<DeviceBuffer> maps;
      std::vector<Tensor> weights;
      Tensor pooled;
      const Written pooled_map({d.images, d.channels, d.height, d.width}),
          summed({d.images, d.channels, d.height, d.width});
      float all = 0;
      for (std::size_t i = 0; i < c.scales.size(); ++i) {
        const int scale = c.scales[i];
        const std::int64_t height = scale == 0 ? 2 * d.height : d.height / scale,
                           width = scale == 0 ? 2 * d.width - 1 : d.width / scale;
        const Tensor map =
            halves({d.images, d.channels, height, width}, -2, 2, seed + 7 + static_cast<int>(i));
        maps.push_back(on_device(map));
        const float weight = 0.3f + 0.4f * static_cast<float>(i);
        all += weight;
        weights.push_back(tensor_of<float>({weight}, {}));
        conv.sources.push_back({.map = maps.back().data(),
                                .height = height,
                                .width = width,
                                .share = weight,
                                .scale = std::max(scale, 1)});
        op.scales.push_back(std::max(scale, 1));
        if (scale > 0) {
          sum.inputs.push_back({map});
          continue;
        }
        const MaxPool pooling{.padding = Padding::kSame};
        KernelCase pool{.op = pooling, .inputs = {}};
        pool.inputs.push_back({map});
        pooled = rounded_to(run_oracle(pool).front().to_f32(), DType::kF16);
        sum.inputs.push_back({pooled});
        const auto pads = pooling.window().pads_of(height, width);
        SeparableSource& last = conv.sources.back();
        last.pooled = true, last.top = pads[0], last.left = pads[1];
        if (kept) last.pooled_map = pooled_map.data();
      }
      for (SeparableSource& s : conv.sources) s.share /= all + op.epsilon;
      for (const Tensor& w : weights) sum.inputs.push_back({w});
      sum.op = op;
      conv.x = nullptr, conv.sum_activation = c.activation;
      if (kept) conv.sum = summed.data();
      ASSERT_TRUE(can_separate(conv));
      launch({conv});
      const Tensor want = rounded_to(run_oracle(sum).front().to_f32(), DType::kF16);
      if (kept) expect_close({summed.map()}, {want}, 0x1p-10, "sum");
      if (kept && !pooled.empty()) {
        EXPECT_TRUE(same(pooled_map.map(), pooled));
      }
      member.expect_as_on_cpu(kept ? summed.map() : want, kept);
      const Tensor once = member.result();
      launch({conv});
      EXPECT_TRUE(same(member.result(), once));
    }
}

// Whatever tiles a batch or its neighbours in a launch bring about.
TEST(CudaSeparableConv, APhotoGivesWhatItGivesAlone) {
  SKIP_WITHOUT_GPU();
  const SeparableCase one{1, 20, 24, 72, 40, 1, kRelu6, kSwish};
  const Separable alone(one, 5), beside(one, 5), large({8, 64, 64, 72, 40, 1, kRelu6, kSwish}, 9);
  launch({alone.conv(false)});
  launch({beside.conv(false), large.conv(false)});
  EXPECT_TRUE(same(alone.result(), beside.result()));
}

TEST(CudaSeparableConv, APhotoGivesInABatchWhatItGivesAlone) {
  SKIP_WITHOUT_GPU();
  for (const SeparableCase& one : {SeparableCase{1, 20, 24, 72, 40, 1, kRelu6, kSwish},
                                   {1, 21, 24, 72, 40, 2, kRelu6, kNone, true, true},
                                   {1, 20, 23, 72, 90, 1, kNone, kNone, true, false, true}}) {
    SeparableCase batch = one;
    batch.images = 24;  // enough for larger tiles
    const Separable alone(one, 5), among(batch, 5);
    launch({alone.conv(false)});
    launch({among.conv(false)});
    const Tensor first = alone.result(), all = among.result();
    EXPECT_TRUE(std::ranges::equal(first.bytes(), all.bytes().first(first.bytes().size())))
        << one.outputs << " outputs, stride " << one.stride;
  }
}

}  // namespace
}  // namespace osprey

// Convolutions of integers in one launch on a Hopper GPU: as the CPU's, however the work is cut into tiles.
#include "cuda/hopper/quantized_conv_group.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "cuda/check.h"
#include "cuda/cuda_harness.h"
#include "cuda/device_buffer.h"
#include "cuda/executor.h"
#include "cuda/hopper/quantized_predictors.h"
#include "cuda/integer_results.h"

namespace osprey {
namespace {

constexpr auto kNone = Activation::kNone, kRelu = Activation::kRelu;
constexpr auto kI8 = StoredType::kI8, kU8 = StoredType::kU8, kF16 = StoredType::kF16, kF32 = StoredType::kF32;
constexpr float kXScale = 0.02f, kYScale = 0.01f, kResidualScale = 0.007f;

struct GroupCase {
  std::int64_t images, height, width, channels, outputs;
  int side, stride;
  StoredType to;
  Activation activation = kNone;
  DType residual = DType::kBool;  // of integers; none
  int upsampling = 1;
  std::int64_t live = -1;  // images, -1: all

  bool has_residual() const { return residual != DType::kBool; }
  std::int64_t out_height() const { return (height + stride - 1) / stride; }
  std::int64_t out_width() const { return (width + stride - 1) / stride; }
};

struct Launch {
  DType x;
  std::vector<GroupCase> convs;
};

const std::vector<Launch>& launches() {
  constexpr DType i8 = DType::kI8, u8 = DType::kU8;
  static const std::vector<Launch> all{
      {i8, {{1, 1, 1, 64, 16, 1, 1, kU8, kRelu}}},
      {i8, {{1, 13, 21, 128, 64, 1, 1, kI8}}},
      {u8, {{1, 13, 21, 256, 256, 3, 1, kU8, kRelu}}},
      // residuals: of the result's size and of half of it, outputs that no tile divides
      {u8, {{2, 12, 20, 64, 256, 1, 1, kU8, kRelu, u8}}},
      {i8, {{2, 12, 20, 96, 320, 1, 1, kU8, kRelu, i8}}},
      {u8, {{2, 12, 20, 512, 256, 1, 1, kI8, kNone, i8, 2}}},
      {i8, {{1, 9, 11, 64, 48, 3, 1, kI8, Activation::kRelu6, u8}}},
      // weights that stay in shared memory: windows at all borders, tiles that a map does not fill
      {u8, {{1, 8, 8, 64, 64, 3, 1, kU8, kRelu}}},
      {u8, {{2, 30, 41, 64, 64, 3, 1, kU8, kRelu}}},
      {i8, {{2, 23, 18, 128, 128, 3, 1, kI8, kNone, u8}}},
      {u8, {{1, 1, 3, 96, 80, 3, 1, kU8, kRelu}}},
      {u8, {{3, 23, 19, 192, 512, 1, 2, kU8, kRelu, i8}}},
      {u8, {{1, 12, 10, 512, 1024, 1, 1, kU8, kRelu, u8}}},
      {u8, {{3, 26, 38, 256, 256, 1, 1, kI8, kNone, i8, 2}}},
      {i8, {{1, 10, 6, 64, 80, 3, 1, kU8, kRelu, u8, 2}}},
      // of them, more tiles than stages, with fewer stages than warpgroups would fill
      {u8, {{2, 60, 168, 512, 128, 1, 1, kU8, kRelu}}},
      {u8, {{2, 60, 168, 128, 128, 3, 1, kU8, kRelu}}},
      {i8, {{2, 100, 168, 256, 64, 1, 1, kU8, kRelu}}},
      // every second pixel
      {u8, {{1, 23, 19, 256, 512, 1, 2, kI8}}},
      {u8, {{2, 23, 18, 128, 128, 3, 2, kU8, kRelu}}},
      // floats, in rows of whole, half and no pieces of 16 bytes
      {i8, {{1, 9, 11, 64, 810, 1, 1, kF32}, {1, 5, 6, 64, 36, 1, 1, kF32}}},
      {i8, {{1, 9, 11, 192, 81, 3, 1, kF32}, {1, 5, 6, 192, 36, 3, 1, kF32}}},
      {i8, {{1, 9, 11, 192, 720, 3, 1, kF16, Activation::kSigmoid}}},
      {u8, {{1, 10, 12, 192, 84, 3, 1, kF16, Activation::kSwish, DType::kF16}}},
      {u8, {{2, 10, 12, 128, 64, 1, 1, kF32, kRelu, DType::kF32, 2}}},
      // activations that are no bounds
      {i8,
       {{2, 10, 12, 64, 64, 1, 1, kI8, Activation::kSwish},
        {2, 5, 6, 64, 64, 1, 1, kU8, Activation::kSigmoid}}},
      // the levels of a head, of either integer type
      {i8,
       {{2, 20, 30, 256, 256, 3, 1, kU8, kRelu},
        {2, 10, 15, 256, 256, 3, 1, kI8},
        {2, 5, 8, 256, 256, 3, 1, kU8, kRelu},
        {2, 3, 4, 256, 256, 3, 1, kU8, kRelu}}},
      // rows that the data chose
      {u8, {{9, 14, 14, 64, 64, 3, 1, kU8, kRelu, DType::kBool, 1, 4}}},
      {u8, {{9, 7, 7, 64, 64, 1, 1, kU8, kRelu, DType::kBool, 1, 0}}},
      // more tiles than are listed
      {u8, {{1, 200, 336, 64, 256, 1, 1, kU8, kRelu, u8}}},
  };
  return all;
}

bool is_8_bits(DType type) { return type == DType::kI8 || type == DType::kU8; }

KernelCase kernel_case(const GroupCase& c, DType x_type, int seed) {
  const int border = c.side / 2;
  const float spread = 1 / std::sqrt(static_cast<float>(c.channels * c.side * c.side));
  KernelCase out{.op = QuantizedConv{.stride = {c.stride, c.stride},
                                     .pads = {border, border, border, border},
                                     .activation = c.activation,
                                     .residual_upsampling = c.upsampling,
                                     .to = is_integer(c.to) ? c.to : kF32,  // the CPU knows no f16
                                     .x_scale = kXScale,
                                     .y_scale = kYScale,
                                     .residual_scale = kResidualScale},
                 .inputs = {}};
  const auto add = [&](Tensor t) { out.inputs.push_back({std::move(t)}); };
  const auto at = static_cast<unsigned>(seed);
  add(random_integers(x_type, {c.images, c.channels, c.height, c.width}, at));
  add(random_integers(DType::kI8, {c.outputs, c.channels, c.side, c.side}, at + 1));
  add(random_tensor({c.outputs}, 0.005f * spread, 0.015f * spread, seed + 2));
  add(random_tensor({c.outputs}, -0.3f, 0.3f, seed + 3));
  if (!c.has_residual()) return out;
  const Shape shape{c.images, c.outputs, c.out_height() / c.upsampling, c.out_width() / c.upsampling};
  add(is_8_bits(c.residual) ? random_integers(c.residual, shape, at + 4)
                            : rounded_to(random_tensor(shape, -1, 1, seed + 4), c.residual));
  return out;
}

// Maps between C order and channels last.
Tensor reordered(const Tensor& from, bool to_last) {
  const Shape& s = from.shape();
  const std::int64_t inner = to_last ? s[1] : s[3], outer = to_last ? s[2] * s[3] : s[1] * s[2];
  Tensor out =
      Tensor::zeros(from.dtype(), to_last ? Shape{s[0], s[2], s[3], s[1]} : Shape{s[0], s[3], s[1], s[2]});
  const auto size = static_cast<std::int64_t>(size_of(from.dtype()));
  for (std::int64_t n = 0; n < s[0]; ++n)
    for (std::int64_t i = 0; i < outer; ++i)
      for (std::int64_t j = 0; j < inner; ++j) {
        const std::int64_t last = (n * outer + i) * inner + j, first = (n * inner + j) * outer + i;
        std::copy_n(from.bytes().data() + (to_last ? first : last) * size, size,
                    out.mutable_data() + (to_last ? last : first) * size);
      }
  return out;
}

constexpr int kGarbage = 0xa5;
constexpr std::size_t kGuardBytes = 4096;

// On the device, ready to launch; the result between guard words.
class Placed {
 public:
  // `predictor`: for launch_quantized_predictors().
  Placed(const GroupCase& c, const KernelCase& k, bool predictor = false)
      : case_(c),
        x_(DeviceBuffer::holding(reordered(k.inputs[0].data, true).bytes())),
        weight_(DeviceBuffer::holding((predictor ? quantized_predictor_weight(k.inputs[1].data)
                                                 : quantized_grouped_weight(k.inputs[1].data, c.to))
                                          .bytes())),
        y_(result_bytes() + 2 * kGuardBytes) {
    conv_ = {.shape = {.images = c.images,
                       .height = c.height,
                       .width = c.width,
                       .channels = c.channels,
                       .outputs = c.outputs,
                       .side = c.side,
                       .stride = c.stride},
             .to = c.to,
             .activation = c.activation,
             .y_scale = kYScale,
             .residual = {.type = c.residual, .upsampling = c.upsampling, .scale = kResidualScale}};
    const auto terms = predictor ? quantized_predictor_terms : quantized_grouped_terms;
    terms_ = DeviceBuffer::holding(terms(conv_, k.inputs[2].data, k.inputs[3].data, kXScale).bytes());
    if (c.has_residual()) residual_ = DeviceBuffer::holding(reordered(k.inputs[4].data, true).bytes());
    if (c.live >= 0) {
      const int live = static_cast<int>(c.live);
      live_ = DeviceBuffer::holding(std::as_bytes(std::span(&live, 1)));
    }
    cuda_check(cudaMemset(y_.data(), kGarbage, y_.size()), "garbage");
  }

  // Without pointers.
  const QuantizedGroupedConv& described() const { return conv_; }
  QuantizedGroupedConv conv() const {
    QuantizedGroupedConv out = conv_;
    out.x = x_.data();
    out.weight = weight_.data();
    out.terms = terms_.data();
    out.residual_data = residual_.data();
    out.live = live_.as<int>();
    out.y = y_.data() + kGuardBytes;
    return out;
  }

  // In C order.
  Tensor result() const { return reordered(stored(), false); }
  // Channels last.
  Tensor stored() const {
    std::vector<std::byte> all(y_.size());
    cuda_check(cudaMemcpy(all.data(), y_.data(), all.size(), cudaMemcpyDeviceToHost), "result");
    const auto intact = [](std::byte b) { return b == std::byte{kGarbage}; };
    EXPECT_TRUE(std::all_of(all.begin(), all.begin() + kGuardBytes, intact)) << "wrote before the result";
    EXPECT_TRUE(std::all_of(all.end() - kGuardBytes, all.end(), intact)) << "wrote behind the result";
    Tensor out = Tensor::zeros(dtype_of(case_.to),
                               {case_.images, case_.out_height(), case_.out_width(), case_.outputs});
    std::copy_n(all.begin() + kGuardBytes, result_bytes(), out.mutable_data());
    return out;
  }

 private:
  std::size_t result_bytes() const {
    return static_cast<std::size_t>(case_.images * case_.out_height() * case_.out_width() * case_.outputs) *
           size_of(dtype_of(case_.to));
  }

  GroupCase case_;
  QuantizedGroupedConv conv_;
  DeviceBuffer x_, weight_, terms_, residual_, live_, y_;
};

Tensor first_images(const Tensor& from, std::int64_t images) {
  Shape shape = from.shape();
  const std::size_t bytes = from.bytes().size() / static_cast<std::size_t>(shape[0]);
  shape[0] = images;
  Tensor out = Tensor::zeros(from.dtype(), shape);
  std::copy_n(from.bytes().data(), bytes * static_cast<std::size_t>(images), out.mutable_data());
  return out;
}

std::string text_of(const GroupCase& c, DType x) {
  return fmt::format("{} images of {}x{}x{} {}, {} outputs, {}x{} stride {}, to {}", c.images, c.height,
                     c.width, c.channels, name_of(x), c.outputs, c.side, c.side, c.stride,
                     kStoredTypeNames[static_cast<std::size_t>(c.to)]);
}

bool skips_here() { return cuda_devices().front().major != 9; }

TEST(CudaQuantizedConvGroup, AsOnTheCpuWhateverTheTiles) {
  SKIP_WITHOUT_GPU();
  if (skips_here()) GTEST_SKIP() << "not a Hopper GPU";
  int seed = 0;
  for (const Launch& launch : launches()) {
    std::vector<KernelCase> cases;
    std::vector<Tensor> want;
    for (const GroupCase& c : launch.convs) {
      cases.push_back(kernel_case(c, launch.x, seed += 5));
      want.push_back(run_oracle(cases.back()).front());
    }
    const std::vector<std::string> ways = [&] {
      std::vector<QuantizedGroupedConv> convs;
      for (std::size_t i = 0; i < cases.size(); ++i)
        convs.push_back(Placed(launch.convs[i], cases[i]).described());
      return quantized_group_ways(convs);
    }();
    for (std::size_t way = 0; way < ways.size(); ++way) {
      std::vector<Placed> placed;
      std::vector<QuantizedGroupedConv> convs;
      for (std::size_t i = 0; i < cases.size(); ++i) placed.emplace_back(launch.convs[i], cases[i]);
      for (const Placed& p : placed) convs.push_back(p.conv());
      ASSERT_TRUE(std::ranges::all_of(convs, [](const auto& c) { return can_group(c); }));
      launch_quantized_conv_group(convs, launch.x, way, cuda_devices().front().multiprocessors, nullptr);
      cuda_check(cudaDeviceSynchronize(), "grouped convolutions of integers");
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const GroupCase& c = launch.convs[i];
        const std::int64_t live = c.live >= 0 ? c.live : c.images;
        const Tensor got = first_images(placed[i].result(), live), wanted = first_images(want[i], live);
        const std::string what = fmt::format("{}, tiles of {}", text_of(c, launch.x), ways[way]);
        if (is_integer(c.to))
          expect_almost_all_equal(got, wanted, what);
        else
          expect_close({got}, {wanted}, c.to == kF16 ? 0x1p-10 : 1e-6, what);
      }
    }
  }
}

// Levels that share a weight: their maps' sides.
struct PredictorCase {
  DType x;
  std::int64_t images, channels, outputs;
  std::vector<std::pair<std::int64_t, std::int64_t>> levels;
};

const std::vector<PredictorCase>& predictor_cases() {
  constexpr DType i8 = DType::kI8, u8 = DType::kU8;
  static const std::vector<PredictorCase> all{
      {u8, 1, 64, 4, {{1, 1}}},
      {i8, 2, 256, 36, {{25, 42}, {13, 21}, {7, 11}, {8, 8}, {1, 3}}},
      {u8, 3, 128, 16, {{9, 17}, {5, 9}}},
      {i8, 1, 96, 64, {{8, 16}}},
      {u8, 1, 256, 64, {{31, 9}, {16, 5}}},
      {i8, 2, 320, 12, {{10, 7}}},
      {u8, 1, 80, 24, {{2, 30}}},
      // more tiles than the blocks' stages
      {u8, 2, 256, 36, {{100, 168}, {50, 84}, {25, 42}, {13, 21}, {7, 11}}},
  };
  return all;
}

TEST(CudaQuantizedConvGroup, PredictorsOfFewOutputs) {
  SKIP_WITHOUT_GPU();
  if (skips_here()) GTEST_SKIP() << "not a Hopper GPU";
  int seed = 1000;
  for (const PredictorCase& c : predictor_cases()) {
    std::vector<GroupCase> levels;
    std::vector<KernelCase> cases;
    std::vector<Placed> placed;
    std::vector<QuantizedGroupedConv> convs;
    for (const auto& [height, width] : c.levels) {
      levels.push_back({c.images, height, width, c.channels, c.outputs, 3, 1, kF32});
      cases.push_back(kernel_case(levels.back(), c.x, seed += 5));
      cases.back().inputs[1] = cases.front().inputs[1];
      placed.emplace_back(levels.back(), cases.back(), true);
      convs.push_back(placed.back().conv());
      ASSERT_TRUE(is_small_predictor(convs.back()));
    }
    launch_quantized_predictors(convs, c.x, cuda_devices().front().multiprocessors, nullptr);
    cuda_check(cudaDeviceSynchronize(), "predictors");
    for (std::size_t i = 0; i < cases.size(); ++i)
      expect_close({placed[i].result()}, run_oracle(cases[i]), 1e-6,
                   fmt::format("level {} of {}", i, text_of(levels[i], c.x)));
  }
}

TEST(CudaQuantizedConvGroup, WhatIsNoSmallPredictor) {
  const auto described = [](const GroupCase& c) {
    return QuantizedGroupedConv{.shape = {.images = c.images,
                                          .height = c.height,
                                          .width = c.width,
                                          .channels = c.channels,
                                          .outputs = c.outputs,
                                          .side = c.side,
                                          .stride = c.stride},
                                .to = c.to,
                                .activation = c.activation};
  };
  EXPECT_TRUE(is_small_predictor(described({1, 9, 9, 256, 36, 3, 1, kF32})));
  EXPECT_FALSE(is_small_predictor(described({1, 9, 9, 256, 36, 1, 1, kF32}))) << "1x1";
  EXPECT_FALSE(is_small_predictor(described({1, 9, 9, 256, 36, 3, 2, kF32}))) << "every second pixel";
  EXPECT_FALSE(is_small_predictor(described({1, 9, 9, 256, 36, 3, 1, kF16}))) << "f16";
  EXPECT_FALSE(is_small_predictor(described({1, 9, 9, 256, 36, 3, 1, kF32, kRelu}))) << "an activation";
  EXPECT_FALSE(is_small_predictor(described({1, 9, 9, 256, 38, 3, 1, kF32}))) << "rows of 8 bytes";
  EXPECT_FALSE(is_small_predictor(described({1, 9, 9, 256, 68, 3, 1, kF32}))) << "many outputs";
  EXPECT_FALSE(is_small_predictor(described({1, 9, 9, 1024, 36, 3, 1, kF32}))) << "a large weight";
}

// Of a result that is there in part.
struct InPart {
  Tensor scores;  // channels last
  std::vector<std::uint32_t> flags;
};

// Four neighbours are flagged where one is at least `least`, and then are what they would be; others were
// not written.
void expect_in_part(const InPart& got, const Tensor& all, float least, const std::string& what) {
  const auto channels = static_cast<std::size_t>(all.dim(3));
  const std::size_t words = flag_words(static_cast<unsigned>(channels)),
                    pixels = static_cast<std::size_t>(all.size()) / channels;
  const auto want = all.values<float>(), scores = got.scores.values<float>();
  constexpr std::byte kByte{kGarbage};
  std::size_t wrong_flags = 0, wrong_scores = 0;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel)
    for (std::size_t at = 0; at < channels; at += kFlaggedTogether) {
      const std::size_t lane = at / kFlaggedTogether % kFlagLanes, first = pixel * channels + at;
      const std::uint32_t word = got.flags[(pixel * kFlagLanes + lane) * words + at / kWordScores];
      const auto bit = at % kWordScores / kByteScores * 8 + at % kByteScores / 16;
      const bool flagged = (word >> bit & 1) != 0;
      const auto there = want.subspan(first, kFlaggedTogether),
                 made = scores.subspan(first, kFlaggedTogether);
      wrong_flags += flagged != std::ranges::any_of(there, [&](float v) { return v >= least; });
      wrong_scores +=
          flagged ? !std::ranges::equal(made, there)
                  : !std::ranges::all_of(std::as_bytes(made), [&](std::byte b) { return b == kByte; });
    }
  EXPECT_EQ(wrong_flags, 0u) << what;
  EXPECT_EQ(wrong_scores, 0u) << what;
}

TEST(CudaQuantizedConvGroup, ScoresThatAreThereInPart) {
  SKIP_WITHOUT_GPU();
  if (skips_here()) GTEST_SKIP() << "not a Hopper GPU";
  const std::vector<Launch> cases{
      {DType::kI8,
       {{1, 9, 11, 192, 720, 3, 1, kF32}, {1, 5, 6, 192, 720, 3, 1, kF32}, {1, 9, 11, 192, 36, 3, 1, kF32}}},
      {DType::kU8, {{2, 13, 21, 64, 84, 1, 1, kF32}, {2, 13, 21, 64, 4, 1, 1, kF32}}},
      {DType::kU8, {{1, 60, 70, 64, 320, 3, 1, kF32}}},
  };
  const auto launched = [](const Launch& launch, const std::vector<KernelCase>& kernels, std::size_t way,
                           const std::vector<ScoreFlags>& flags) {
    std::vector<Placed> placed;
    std::vector<QuantizedGroupedConv> convs;
    for (std::size_t i = 0; i < kernels.size(); ++i) {
      convs.push_back(placed.emplace_back(launch.convs[i], kernels[i]).conv());
      convs.back().scores = flags[i];
    }
    launch_quantized_conv_group(convs, launch.x, way, cuda_devices().front().multiprocessors, nullptr);
    cuda_check(cudaDeviceSynchronize(), "scores");
    std::vector<Tensor> out;
    for (const Placed& p : placed) out.push_back(p.stored());
    return out;
  };
  int seed = 2000;
  for (const Launch& launch : cases) {
    std::vector<KernelCase> kernels;
    for (const GroupCase& c : launch.convs) kernels.push_back(kernel_case(c, launch.x, seed += 5));
    const std::size_t ways = 3;
    for (std::size_t way = 0; way < ways; ++way) {
      const std::vector<Tensor> all = launched(launch, kernels, way, std::vector<ScoreFlags>(kernels.size()));
      for (const float least : {-std::numeric_limits<float>::max(), 0.0f, 0.4f, 1e9f}) {
        const DeviceBuffer on_device = DeviceBuffer::holding(std::as_bytes(std::span(&least, 1)));
        std::vector<DeviceBuffer> buffers;
        std::vector<ScoreFlags> flags(kernels.size());  // of all but the last of several
        for (std::size_t i = 0; i < std::max<std::size_t>(kernels.size() - 1, 1); ++i) {
          const GroupCase& c = launch.convs[i];
          buffers.emplace_back(static_cast<std::size_t>(c.images * c.height * c.width) *
                               flag_bytes(static_cast<unsigned>(c.outputs)));
          flags[i] = {buffers.back().as<std::uint8_t>(), on_device.as<float>()};
        }
        const std::vector<Tensor> got = launched(launch, kernels, way, flags);
        for (std::size_t i = 0; i < got.size(); ++i) {
          const std::string what =
              fmt::format("{}, way {}, at least {}", text_of(launch.convs[i], launch.x), way, least);
          if (!flags[i].flags) {
            EXPECT_TRUE(std::ranges::equal(got[i].bytes(), all[i].bytes())) << what;
            continue;
          }
          InPart in_part{got[i], std::vector<std::uint32_t>(buffers[i].size() / 4)};
          cuda_check(
              cudaMemcpy(in_part.flags.data(), buffers[i].data(), buffers[i].size(), cudaMemcpyDeviceToHost),
              "flags");
          expect_in_part(in_part, all[i], least, what);
        }
      }
    }
  }
}

}  // namespace
}  // namespace osprey

#include "cuda/activations.cuh"
#include "cuda/hopper/conv_group.h"
#include "cuda/hopper/conv_tiles.cuh"
#include "cuda/numbers.cuh"

namespace osprey {
namespace {

using namespace hopper;

static_assert(kMostGroupedConvs <= kMostProblems);

constexpr std::array<Tiles, 2> kTiles{Tiles{256, 1}, Tiles{128, 1}};

// Outputs whose order the packed weight changes together, so that a lane has 16 or 32 neighbouring bytes.
constexpr int packed_group(bool f32_out) { return f32_out ? 16 : 32; }

// Packed and stored as it lies: a lane's numbers of a group of columns are neighbouring outputs.
template <class T, int kCount>
__device__ void store(const float (&values)[kCount], T* to, int live) {
  if (live >= kCount && reinterpret_cast<std::uintptr_t>(to) % 16 == 0) {
    alignas(16) T packed[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) packed[k] = narrow<T>(values[k]);
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(packed);
    return;
  }
  if (live >= kCount && reinterpret_cast<std::uintptr_t>(to) % 8 == 0) {
    alignas(8) T packed[kCount];
#pragma unroll
    for (int k = 0; k < kCount; ++k) packed[k] = narrow<T>(values[k]);
#pragma unroll
    for (int i = 0; i < 2; ++i) reinterpret_cast<uint2*>(to)[i] = reinterpret_cast<const uint2*>(packed)[i];
    return;
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k)
    if (k < live) to[k] = narrow<T>(values[k]);
}

struct FloatResult {
  void* y;
  const float* bias;
  Activation activation;
};

template <class T>
constexpr auto widths_of() {
  if constexpr (sizeof(T) == 4)
    return std::array{240, 192, 128, 64, 48, 16};
  else
    return std::array{256, 128, 64};
}

template <class T, class Out>
struct FloatKind {
  using Operand = T;
  using Sum = float;
  using Result = FloatResult;
  static constexpr int kOperand = sizeof(T);
  static constexpr auto kWidths = widths_of<Out>();

  template <int kOutputs, bool kEarly>
  class Finish {
   public:
    __device__ Finish(const Tile<Result>& tile, int row) : tile_(tile), row_(row) {}

    // The sums of two rows of the tile, with bias and activation, into the result.
    __device__ void store(const float (&sums)[kOutputs / 2]) const {
      constexpr int kGroups = 16 / static_cast<int>(sizeof(Out)) / 2;  // of 8 columns, of which a lane has 2
      constexpr int kCount = 2 * kGroups;
      const Problem<Result>& p = *tile_.problem;
      const Result& r = p.result;
      const int t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
      for (int group = 0; group < kOutputs / 8 / kGroups; ++group) {
        const int output = tile_.output + group * kGroups * 8 + t * kCount, live = p.outputs - output;
        float bias[kCount];
#pragma unroll
        for (int k = 0; k < kCount; ++k) bias[k] = r.bias && k < live ? __ldg(r.bias + output + k) : 0.0f;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int pixel = tile_.pixel + row_ + half * 8;
          float values[kCount];
#pragma unroll
          for (int k = 0; k < kCount; ++k)
            values[k] = sums[(group * kGroups + k / 2) * 4 + half * 2 + k % 2] + bias[k];
          activate_all<Out>(r.activation, values);
          if (pixel < p.pixels && live > 0)
            osprey::store(
                values, static_cast<Out*>(r.y) + static_cast<std::int64_t>(pixel) * p.outputs + output, live);
        }
      }
    }

   private:
    const Tile<Result>& tile_;
    int row_;
  };
};

ConvShape shape_of(const GroupedConv& c) {
  return {.images = c.images,
          .height = c.height,
          .width = c.width,
          .channels = c.channels,
          .outputs = c.outputs,
          .side = c.side,
          .stride = c.stride,
          .top = c.top,
          .left = c.left,
          .first_tap = c.first_tap,
          .taps = c.taps};
}

template <class T, class Out>
void launch_as(std::span<const GroupedConv> convs, DType type, int multiprocessors, cudaStream_t stream) {
  using Kind = FloatKind<T, Out>;
  std::vector<Member<FloatResult>> members;
  for (const GroupedConv& c : convs)
    members.push_back({.shape = shape_of(c),
                       .x = c.x,
                       .weight = c.weight,
                       .live = nullptr,
                       .packed = packed_outputs(c.outputs, packed_group(c.f32_out)),
                       .stored = sizeof(Out),
                       .result = {.y = c.y, .bias = c.bias, .activation = c.activation}});
  const auto plan = plan_of<FloatResult>(members, type, Kind::kWidths, kTiles, multiprocessors);
  plan.tiles.widest == 256 ? launch<Kind, 256, 1>(plan, stream) : launch<Kind, 128, 1>(plan, stream);
}

}  // namespace

bool can_group(const GroupedConv& c) { return shape_of(c).fits(c.channels * 2); }

Tensor grouped_conv_weight(const Tensor& weight, bool f32_out) {
  return packed_conv_weight<float>(weight, DType::kF32, packed_group(f32_out));
}

void launch_conv_group(std::span<const GroupedConv> convs, DType type, int multiprocessors,
                       cudaStream_t stream) {
  check(!convs.empty(), "a group of no convolutions");
  const bool f32_out = convs.front().f32_out;
  check(std::all_of(convs.begin(), convs.end(), [&](const GroupedConv& c) { return c.f32_out == f32_out; }),
        "a group of several types");
  const auto launch_to = [&]<class T>(T) {
    f32_out ? launch_as<T, float>(convs, type, multiprocessors, stream)
            : launch_as<T, T>(convs, type, multiprocessors, stream);
  };
  type == DType::kF16 ? launch_to(__half{}) : launch_to(__nv_bfloat16{});
}

}  // namespace osprey

#include "cuda/activations.cuh"
#include "cuda/hopper/conv_group.h"
#include "cuda/hopper/conv_tiles.cuh"
#include "cuda/numbers.cuh"
#include "cuda/tensor_core.cuh"

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

// What becomes of a tile's sums beside bias and activation.
enum class Ending { kPlain, kResidual, kPredictors };

struct FloatResult {
  void* y;
  const float* bias;
  const void* residual;
  const uint2* predictors;  // their weights
  const float* predictor_bias;
  float *first, *second;
  int predicted[2];  // outputs of each
  int residual_scale;
  Activation activation;
};
using FloatProblem = Problem<FloatResult>;
using FloatTile = Tile<FloatResult>;

// Of neighbouring outputs that a lane has, in 16 bytes: groups of 8 columns, of each of which it has 2.
template <class T>
constexpr int kLaneGroups = 16 / static_cast<int>(sizeof(T)) / 2;

// Where among a lane's sums is the k-th of its neighbouring outputs of a group, in its first or second row.
template <class T>
__device__ constexpr int place_of(int group, int half, int k) {
  return (group * kLaneGroups<T> + k / 2) * 4 + half * 2 + k % 2;
}

// What a lane adds to its sums of kOutputs columns and two rows: as much as there are registers for is read
// early, to arrive while products are made, the rest as those become free.
template <class T, int kOutputs>
class LaneResidual {
 public:
  __device__ LaneResidual(const FloatTile& tile, int row) {
    const FloatProblem& p = *tile.problem;
    const int scale = p.result.residual_scale, height = p.height / scale, width = p.width / scale;
    const int output = tile.output + static_cast<int>(threadIdx.x % 4) * kCount;
    live_ = p.outputs - output;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int pixel = min(tile.pixel + row + half * 8, p.pixels - 1);
      const int line = pixel / p.width, n = line / p.height;
      const int y = (line - n * p.height) / scale, x = (pixel - line * p.width) / scale;
      from_[half] = static_cast<const T*>(p.result.residual) +
                    (static_cast<std::int64_t>(n * height + y) * width + x) * p.outputs + output;
    }
#pragma unroll
    for (int group = 0; group < kAhead; ++group) read(group);
  }
  template <int kSums>
  __device__ void add_to(float (&sums)[kSums]) {
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const T* const v = reinterpret_cast<const T*>(&packs_[group % kAhead][half]);
#pragma unroll
        for (int k = 0; k < kCount; ++k) sums[place_of<T>(group, half, k)] += widen(v[k]);
      }
      if (group + kAhead < kGroups) read(group + kAhead);
    }
  }

 private:
  static constexpr int kGroups = kOutputs / 8 / kLaneGroups<T>, kCount = 2 * kLaneGroups<T>;
  static constexpr int kAhead = kGroups < 2 ? kGroups : 2;

  __device__ void read(int group) {
    const int offset = group * kLaneGroups<T> * 8;
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (offset < live_)
        packs_[group % kAhead][half] = __ldg(reinterpret_cast<const uint4*>(from_[half] + offset));
  }

  const T* from_[2];
  int live_;
  uint4 packs_[kAhead][2];
};
struct NoResidual {
  __device__ NoResidual(const FloatTile&, int) {}
  template <int kSums>
  __device__ void add_to(float (&)[kSums]) const {}
};

// The first of a lane's outputs, and whether all of a tile of kSums sums a lane are outputs.
template <class T>
__device__ int lane_output(const FloatTile& tile) {
  return tile.output + static_cast<int>(threadIdx.x % 4) * 2 * kLaneGroups<T>;
}
template <int kSums>
__device__ bool is_whole(const FloatTile& tile) {
  return tile.output + 2 * kSums <= tile.problem->outputs;
}

template <class T, bool kWhole, int kSums>
__device__ void add_bias(const FloatTile& tile, float (&sums)[kSums]) {
  constexpr int kGroups = kLaneGroups<T>, kCount = 2 * kGroups;
  const FloatProblem& p = *tile.problem;
#pragma unroll
  for (int group = 0; group < kSums / 4 / kGroups; ++group) {
    const int output = lane_output<T>(tile) + group * kGroups * 8;
    alignas(16) float bias[kCount];
    if constexpr (kWhole) {
#pragma unroll
      for (int i = 0; i < kCount / 4; ++i)
        reinterpret_cast<float4*>(bias)[i] =
            __ldg(reinterpret_cast<const float4*>(p.result.bias + output) + i);
    } else {
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        bias[k] = output + k < p.outputs ? __ldg(p.result.bias + output + k) : 0.0f;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int k = 0; k < kCount; ++k) sums[place_of<T>(group, half, k)] += bias[k];
  }
}

// Bias, residual and activation. Each goes over all sums before the next begins: what is passed over, such as
// other activations, then lies in one piece. Between the sums it would be fetched with them for every tile,
// and kernels of so many instructions do not fit the caches.
template <class T, int kSums, class Residual>
__device__ void end_sums(const FloatTile& tile, float (&sums)[kSums], Residual& residual) {
  const FloatProblem& p = *tile.problem;
  if (p.result.bias) is_whole<kSums>(tile) ? add_bias<T, true>(tile, sums) : add_bias<T, false>(tile, sums);
  residual.add_to(sums);
  activate_all<T>(p.result.activation, sums);
}

template <class T, bool kWhole, int kSums>
__device__ void store_sums(const FloatTile& tile, const float (&sums)[kSums], int row) {
  constexpr int kGroups = kLaneGroups<T>, kCount = 2 * kGroups;
  const FloatProblem& p = *tile.problem;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int pixel = tile.pixel + row + half * 8, output = lane_output<T>(tile);
    if (pixel >= p.pixels) continue;
    T* const to = static_cast<T*>(p.result.y) + static_cast<std::int64_t>(pixel) * p.outputs + output;
#pragma unroll
    for (int group = 0; group < kSums / 4 / kGroups; ++group) {
      float values[kCount];
#pragma unroll
      for (int k = 0; k < kCount; ++k) values[k] = sums[place_of<T>(group, half, k)];
      const int offset = group * kGroups * 8, live = p.outputs - output - offset;
      if constexpr (kWhole) {
        alignas(16) T packed[kCount];
#pragma unroll
        for (int k = 0; k < kCount; ++k) packed[k] = narrow<T>(values[k]);
        *reinterpret_cast<uint4*>(to + offset) = *reinterpret_cast<const uint4*>(packed);
      } else if (live > 0) {
        store(values, to + offset, live);
      }
    }
  }
}

template <class T, int kSums>
__device__ void store_tile(const FloatTile& tile, const float (&sums)[kSums], int row) {
  const bool aligned = tile.problem->outputs * sizeof(T) % 16 == 0;
  is_whole<kSums>(tile) && aligned ? store_sums<T, true>(tile, sums, row)
                                   : store_sums<T, false>(tile, sums, row);
}

// A lane has four neighbouring outputs of each of two rows.
__device__ inline void store_predicted(const FloatTile& tile, const float (&sums)[kMostPredicted / 8][4],
                                       int row) {
  const FloatProblem& p = *tile.problem;
  const FloatResult& r = p.result;
  const int begin = static_cast<int>(threadIdx.x % 4) * 4, first = r.predicted[0], second = r.predicted[1];
  const float4 bias = __ldg(reinterpret_cast<const float4*>(r.predictor_bias + begin));
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t pixel = tile.pixel + row + half * 8;
    if (pixel >= p.pixels) continue;
    const float4 v{sums[0][half * 2] + bias.x, sums[0][half * 2 + 1] + bias.y, sums[1][half * 2] + bias.z,
                   sums[1][half * 2 + 1] + bias.w};
    if (begin < first) {
      *reinterpret_cast<float4*>(r.first + pixel * first + begin) = v;
      continue;
    }
    float* const to = r.second + pixel * second + (begin - first);
    const int live = second - (begin - first);
    if (live > 0) to[0] = v.x;
    if (live > 1) to[1] = v.y;
    if (live > 2) to[2] = v.z;
    if (live > 3) to[3] = v.w;
  }
}

// The columns of the sums, in their order, are what the predictors' weights are packed for: rounded as they
// would have been stored, a lane's sums are its part of the left operand of another product.
template <class T>
__device__ void predict_tile(const FloatTile& tile, const float (&sums)[kPredictedChannels / 2], int row) {
  if (tile.problem->result.y) store_tile<T>(tile, sums, row);
  const uint2* const weights = tile.problem->result.predictors + threadIdx.x % 32;
  float predicted[kMostPredicted / 8][4] = {};
#pragma unroll
  for (int k = 0; k < kPredictedChannels / 16; ++k) {
    unsigned map[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) map[i] = cuda::packed<T>(sums[8 * k + 2 * i], sums[8 * k + 2 * i + 1]);
#pragma unroll
    for (int j = 0; j < kMostPredicted / 8; ++j)
      cuda::multiply_add<T>(predicted[j], map, __ldg(weights + (k * (kMostPredicted / 8) + j) * 32));
  }
  store_predicted(tile, predicted, row);
}

template <class T>
constexpr auto widths_of() {
  if constexpr (sizeof(T) == 4)
    return std::array{240, 192, 128, 64, 48, 16};
  else
    return std::array{256, 128, 64};
}

template <class T, class Out, Ending kEnding>
struct FloatKind {
  using Operand = T;
  using Sum = float;
  using Result = FloatResult;
  static constexpr int kOperand = sizeof(T);
  static constexpr bool kMayBeginEarly = false;  // gains nothing
  static constexpr auto kWidths = [] {
    if constexpr (kEnding == Ending::kPredictors)
      return std::array{kPredictedChannels};
    else
      return widths_of<Out>();
  }();

  template <int kOutputs, bool kEarly>
  class Finish {
   public:
    __device__ Finish(const FloatTile& tile, int row) : tile_(tile), row_(row), residual_(tile, row) {}

    __device__ void store(float (&sums)[kOutputs / 2]) {
      end_sums<Out>(tile_, sums, residual_);
      if constexpr (kEnding == Ending::kPredictors)
        predict_tile<Out>(tile_, sums, row_);
      else
        store_tile<Out>(tile_, sums, row_);
    }

   private:
    const FloatTile& tile_;
    int row_;
    std::conditional_t<kEnding == Ending::kResidual, LaneResidual<Out, kOutputs>, NoResidual> residual_;
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

Ending ending_of(const GroupedConv& c) {
  return c.predictors.weight ? Ending::kPredictors : c.residual ? Ending::kResidual : Ending::kPlain;
}

FloatResult result_of(const GroupedConv& c) {
  const GroupedPredictors& p = c.predictors;
  return {.y = c.y,
          .bias = c.bias,
          .residual = c.residual,
          .predictors = static_cast<const uint2*>(p.weight),
          .predictor_bias = p.bias,
          .first = p.y[0],
          .second = p.y[1],
          .predicted = {p.outputs[0], p.outputs[1]},
          .residual_scale = c.residual_scale,
          .activation = c.activation};
}

template <class T, class Out, Ending kEnding = Ending::kPlain>
void launch_as(std::span<const GroupedConv> convs, DType type, int multiprocessors, cudaStream_t stream) {
  using Kind = FloatKind<T, Out, kEnding>;
  std::vector<Member<FloatResult>> members;
  for (const GroupedConv& c : convs)
    members.push_back({.shape = shape_of(c),
                       .x = c.x,
                       .weight = c.weight,
                       .live = nullptr,
                       .packed = packed_outputs(c.outputs, packed_group(c.f32_out)),
                       .stored = sizeof(Out),
                       .result = result_of(c)});
  const std::span<const Tiles> tiles(kTiles.data(), kEnding == Ending::kPredictors ? 1 : kTiles.size());
  const auto plan = plan_of<FloatResult>(members, type, Kind::kWidths, tiles, multiprocessors);
  if constexpr (kEnding != Ending::kPredictors)
    if (plan.tiles.widest == 128) return launch<Kind, 128, 1>(plan, stream);
  launch<Kind, 256, 1>(plan, stream);
}

}  // namespace

bool can_group(const GroupedConv& c) { return shape_of(c).fits(c.channels * 2); }

bool can_add_residual(const GroupedConv& c) {
  const ConvShape shape = shape_of(c);
  return !c.f32_out && c.outputs % 8 == 0 && c.residual_scale > 0 &&
         shape.out_height() % c.residual_scale == 0 && shape.out_width() % c.residual_scale == 0;
}

bool can_predict(const GroupedConv& c) {
  const auto& [first, second] = c.predictors.outputs;
  return !c.f32_out && c.outputs == kPredictedChannels && first > 0 && first % 4 == 0 && second >= 0 &&
         first + second <= kMostPredicted;
}

Tensor grouped_conv_weight(const Tensor& weight, bool f32_out) {
  return packed_conv_weight<float>(weight, DType::kF32, packed_group(f32_out));
}

Tensor grouped_predictor_weight(const Tensor& first, const Tensor& second) {
  const std::int64_t channels = first.dim(1);
  Tensor both = Tensor::zeros(DType::kF32, {kMostPredicted, channels});
  const auto rows = both.mutable_values<float>();
  const auto behind = std::ranges::copy(first.values<float>(), rows.begin()).out;
  if (!second.empty()) std::ranges::copy(second.values<float>(), behind);
  Tensor out = Tensor::zeros(DType::kF32, {kMostPredicted, channels});
  auto to = out.mutable_values<float>().begin();
  // As lane 4 g + t holds the right operand of 16 channels and 8 outputs: of output g, channels 2 t, 2 t + 1
  // and those 8 further. Outputs stand where a lane finds four neighbours in both products of 8, channels
  // where the map's own product leaves them.
  for (std::int64_t k = 0; k < channels / 16; ++k)
    for (std::int64_t j = 0; j < kMostPredicted / 8; ++j)
      for (std::int64_t lane = 0; lane < 32; ++lane)
        for (std::int64_t i = 0; i < 4; ++i) {
          const std::int64_t output = packed_output(8 * j + lane / 4, packed_group(true));
          const std::int64_t column = 16 * k + lane % 4 * 2 + i % 2 + i / 2 * 8;
          *to++ =
              rows[static_cast<std::size_t>(output * channels + packed_output(column, packed_group(false)))];
        }
  return out;
}

void launch_conv_group(std::span<const GroupedConv> convs, DType type, int multiprocessors,
                       cudaStream_t stream) {
  check(!convs.empty(), "a group of no convolutions");
  const bool f32_out = convs.front().f32_out;
  check(std::all_of(convs.begin(), convs.end(), [&](const GroupedConv& c) { return c.f32_out == f32_out; }),
        "a group of several types");
  const Ending ending = ending_of(convs.front());
  check(std::all_of(convs.begin(), convs.end(),
                    [&](const GroupedConv& c) {
                      return ending_of(c) == ending && (ending != Ending::kResidual || can_add_residual(c)) &&
                             (ending != Ending::kPredictors || can_predict(c));
                    }),
        "a group of several endings");
  const auto launch_to = [&]<class T>(T) {
    if (ending == Ending::kPredictors)
      launch_as<T, T, Ending::kPredictors>(convs, type, multiprocessors, stream);
    else if (ending == Ending::kResidual)
      launch_as<T, T, Ending::kResidual>(convs, type, multiprocessors, stream);
    else if (f32_out)
      launch_as<T, float>(convs, type, multiprocessors, stream);
    else
      launch_as<T, T>(convs, type, multiprocessors, stream);
  };
  type == DType::kF16 ? launch_to(__half{}) : launch_to(__nv_bfloat16{});
}

}  // namespace osprey

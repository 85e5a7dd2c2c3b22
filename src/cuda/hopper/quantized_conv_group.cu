#include <fmt/format.h>

#include "cuda/activations.cuh"
#include "cuda/hopper/conv_tiles.cuh"
#include "cuda/hopper/quantized_conv_group.h"
#include "cuda/hopper/quantized_resident.h"
#include "cuda/hopper/quantized_results.cuh"
#include "cuda/numbers.cuh"

namespace osprey {
namespace {

using namespace hopper;

static_assert(kMostQuantizedGrouped <= kMostProblems);

constexpr std::array<Tiles, 3> kTiles{Tiles{256, 1}, Tiles{128, 2}, Tiles{128, 1}};
constexpr std::array<std::string_view, kTiles.size()> kTileNames{"256", "2x128", "128"};

// --- Results
// ---------------------------------------------------------------------------------------------------

// Where the residual of a pixel lies, in pixels.
__device__ inline std::int64_t residual_pixel(const Problem<QuantizedResult>& p, int pixel) {
  if (p.result.upsampling == 1) return pixel;
  const int row = pixel / p.width, x = pixel - row * p.width, n = row / p.height, y = row - n * p.height;
  return (static_cast<std::int64_t>(n) * (p.height / 2) + y / 2) * (p.width / 2) + x / 2;
}

// kCount neighbours, `there` of which exist; as many bytes at once as every pixel has a multiple of.
template <class T, int kCount>
__device__ void load_neighbours(const T* from, T (&to)[kCount], int there, bool whole) {
  static_assert(kCount * sizeof(T) == 16);
  if (whole) {
    *reinterpret_cast<uint4*>(to) = __ldg(reinterpret_cast<const uint4*>(from));
    return;
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k)
    if (k < there) to[k] = from[k];
}
// Else, in rows that begin at odd multiples of 8 bytes, in two pieces.
template <class T, int kCount>
__device__ void store_neighbours(T* to, const T (&from)[kCount], int there, bool whole) {
  static_assert(kCount * sizeof(T) == 16);
  const auto place = reinterpret_cast<std::uintptr_t>(to);
  if (whole || (there >= kCount && place % 16 == 0)) {
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    return;
  }
  if (there >= kCount && place % 8 == 0) {
#pragma unroll
    for (int i = 0; i < 2; ++i) reinterpret_cast<uint2*>(to)[i] = reinterpret_cast<const uint2*>(from)[i];
    return;
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k)
    if (k < there) to[k] = from[k];
}

// Integers, signed or not, are stored as Out = std::uint8_t. kMore: of those, they may have activations that
// are no bounds; of floats, they may be there in part. Others would fetch the instructions of that again for
// every tile: p2's 1x1 took a fifth longer.
template <class T, class Out, bool kMore>
struct QuantizedKind {
  using Operand = T;
  using Sum = int;
  using Result = QuantizedResult;
  static constexpr int kOperand = 1;
  static constexpr bool kMayBeginEarly = true;
  static constexpr std::array kWidths{256, 128, 64};

  // Of two rows of a tile, 8 apart: a lane has kLane neighbours of each of kGroups groups.
  template <int kOutputs, bool kEarly>
  class Finish {
   public:
    __device__ Finish(const Tile<Result>& tile, int row) : problem_(*tile.problem) {
      const int lane = static_cast<int>(threadIdx.x % 4);
      output_ = tile.output + lane * kLane;
      column_ = tile.output / 2 + lane;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int pixel = tile.pixel + row + half * 8;
        if (pixel < problem_.pixels) pixels_[half] = pixel;
      }
      if constexpr (kIntegers && kEarly)
        if (problem_.result.residual)
#pragma unroll
          for (int g = 0; g < kGroups; ++g) load_residual(g, residual_[g]);
    }

    __device__ void store(const int (&sums)[kOutputs / 2]) const {
      if constexpr (kIntegers) {
        if constexpr (kMore)
          if (problem_.result.activation != Activation::kNone) return store_integers<false, true>(sums);
        problem_.result.residual ? store_integers<true, false>(sums) : store_integers<false, false>(sums);
      } else {
        if constexpr (kMore)
          if (problem_.result.scores.flags) return store_scores(sums);
        const bool plain = problem_.result.activation == Activation::kNone && !problem_.result.residual;
        plain ? store_floats<true>(sums) : store_floats<false>(sums);
      }
    }

   private:
    static constexpr bool kIntegers = sizeof(Out) == 1;
    static constexpr int kLane = 16 / sizeof(Out), kGroup = 4 * kLane, kGroups = kOutputs / kGroup;

    __device__ bool stored(int half, int g) const {
      return pixels_[half] >= 0 && output_ + g * kGroup < problem_.outputs;
    }
    __device__ Out* to(int half) const {
      return static_cast<Out*>(problem_.result.y) +
             static_cast<std::int64_t>(pixels_[half]) * problem_.outputs + output_;
    }
    __device__ const Out* residual(int half) const {
      return static_cast<const Out*>(problem_.result.residual) +
             residual_pixel(problem_, pixels_[half]) * problem_.outputs + output_;
    }

    __device__ void load_residual(int g, uint4 (&into)[2]) const {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        if (stored(half, g)) into[half] = __ldg(reinterpret_cast<const uint4*>(residual(half) + g * kGroup));
    }

    // Neighbours 2 i and 2 i + 1 of group g of both rows, with their terms.
    __device__ static void scale(const int (&sums)[kOutputs / 2], const float4* terms, int g, int i,
                                 float (&v)[2][2]) {
      const int j = g * (kGroup / 8) + i;  // of the tile's columns by 8
      const float4 of = __ldg(terms + 4 * j);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        v[half][0] = __fmaf_rn(__int2float_rn(sums[4 * j + 2 * half]), of.x, of.y);
        v[half][1] = __fmaf_rn(__int2float_rn(sums[4 * j + 2 * half + 1]), of.z, of.w);
      }
    }

    template <bool kResidual, bool kActivated>
    __device__ void store_integers(const int (&sums)[kOutputs / 2]) const {
      const Result r = problem_.result;
      const float4* const terms = r.terms + column_;
      Out* const rows[]{to(0), to(1)};
      const bool swish = r.activation == Activation::kSwish;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        uint4 residual[2];
        if constexpr (kResidual && kEarly)
          residual[0] = residual_[g][0], residual[1] = residual_[g][1];
        else if constexpr (kResidual)
          load_residual(g, residual);
        std::uint32_t words[2][kLane / kQuad];
#pragma unroll
        for (int q = 0; q < kLane / kQuad; ++q) {
          float v[2][kQuad];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float two[2][2];
            scale(sums, terms, g, 2 * q + i, two);
#pragma unroll
            for (int half = 0; half < 2; ++half)
              v[half][2 * i] = two[half][0], v[half][2 * i + 1] = two[half][1];
          }
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            if constexpr (kResidual) add_residual(r, word_of(residual[half], q), v[half]);
            if constexpr (kActivated) {
#pragma unroll
              for (int k = 0; k < kQuad; ++k) {
                const float s = sigmoid_as<__half>(v[half][k]);
                v[half][k] = __fmaf_rn(swish ? s * v[half][k] : s, r.place_factor, r.place_addend);
              }
            }
            words[half][q] = integers_of(r, v[half]);
          }
        }
#pragma unroll
        for (int half = 0; half < 2; ++half)
          if (stored(half, g))
            *reinterpret_cast<uint4*>(rows[half] + g * kGroup) = {words[half][0], words[half][1],
                                                                  words[half][2], words[half][3]};
      }
    }

    template <bool kPlain>
    __device__ void store_floats(const int (&sums)[kOutputs / 2]) const {
      const Result r = problem_.result;
      const float4* const terms = r.terms + column_;
      const bool whole = problem_.outputs % kLane == 0;
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        float v[2][kLane];
#pragma unroll
        for (int i = 0; i < kLane / 2; ++i) {
          float two[2][2];
          scale(sums, terms, g, i, two);
#pragma unroll
          for (int half = 0; half < 2; ++half)
            v[half][2 * i] = two[half][0], v[half][2 * i + 1] = two[half][1];
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (!stored(half, g)) continue;
          const int there = problem_.outputs - output_ - g * kGroup;
          alignas(16) Out all[kLane] = {};
          if constexpr (!kPlain) {
            if (r.residual) load_neighbours(residual(half) + g * kGroup, all, there, whole);
#pragma unroll
            for (int k = 0; k < kLane; ++k) v[half][k] += widen(all[k]);
            activate_all<Out>(r.activation, v[half]);
          }
#pragma unroll
          for (int k = 0; k < kLane; ++k) all[k] = narrow<Out>(v[half][k]);
          store_neighbours(to(half) + g * kGroup, all, there, whole);
        }
      }
    }

    // Of four neighbours, where one may matter, and says which those are.
    __device__ void store_scores(const int (&sums)[kOutputs / 2]) const {
      static_assert(kLane == kFlaggedTogether && kOutputs % kByteScores == 0);
      const Result r = problem_.result;
      const float4* const terms = r.terms + column_;
      const float least = __ldg(r.scores.least);
      Out* const rows[]{to(0), to(1)};
      std::uint32_t flags[2]{};
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        float first[2][2], last[2][2];
        scale(sums, terms, g, 0, first);
        scale(sums, terms, g, 1, last);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float4 v{first[half][0], first[half][1], last[half][0], last[half][1]};
          if (!(fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)) >= least) || !stored(half, g)) continue;
          flags[half] |= 1u << (g / 4 * 8 + g % 4);
          *reinterpret_cast<float4*>(rows[half] + g * kGroup) = v;
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half)
        if (pixels_[half] >= 0) store_flags(half, flags[half]);
    }

    __device__ void store_flags(int half, std::uint32_t flags) const {
      constexpr int kBytes = kOutputs / kByteScores;
      using Word = std::conditional_t<kBytes == 4, std::uint32_t,
                                      std::conditional_t<kBytes == 2, std::uint16_t, std::uint8_t>>;
      const int lane = static_cast<int>(threadIdx.x % 4),
                words = (problem_.outputs + kWordScores - 1) / kWordScores;
      std::uint8_t* const row = problem_.result.scores.flags +
                                (static_cast<std::int64_t>(pixels_[half]) * kFlagLanes + lane) * words * 4;
      *reinterpret_cast<Word*>(row + (output_ - lane * kLane) / kByteScores) = static_cast<Word>(flags);
    }

    const Problem<Result>& problem_;
    int output_, column_, pixels_[2]{-1, -1};  // column: of the terms; pixels: -1: none
    uint4 residual_[kEarly ? kGroups : 1][2];
  };
};

// --- Host
// -----------------------------------------------------------------------------------------------------

// What a result takes, in bytes an output of plain stores that take as long.
double stored_of(const QuantizedGroupedConv& c) {
  if (c.scores.flags) return 2;
  return static_cast<double>(size_of(dtype_of(c.to))) + (c.residual_data ? 3 : 2);
}

template <class T, class Out, bool kMore = false>
void launch_as(std::span<const QuantizedGroupedConv> convs, DType type, std::size_t way, int multiprocessors,
               cudaStream_t stream) {
  using Kind = QuantizedKind<T, Out, kMore>;
  std::vector<Member<QuantizedResult>> members;
  for (const QuantizedGroupedConv& c : convs)
    members.push_back({.shape = c.shape,
                       .x = c.x,
                       .weight = c.weight,
                       .live = c.live,
                       .packed = packed_outputs(c.shape.outputs, packed_group(c.to)),
                       .stored = stored_of(c),
                       .result = result_of(c)});
  const auto plan =
      plan_of<QuantizedResult>(members, type, Kind::kWidths, std::span(&kTiles.at(way), 1), multiprocessors);
  switch (way) {
    case 0:
      return launch<Kind, kTiles[0].widest, kTiles[0].resident>(plan, stream);
    case 1:
      return launch<Kind, kTiles[1].widest, kTiles[1].resident>(plan, stream);
    default:
      return launch<Kind, kTiles[2].widest, kTiles[2].resident>(plan, stream);
  }
}

}  // namespace

bool can_group(const QuantizedGroupedConv& c) {
  return c.shape.fits(c.shape.channels) &&
         (is_integer(c.to) ? c.shape.outputs % 16 == 0 && (is_bound(c.activation) || !c.residual_data)
                           : c.to != StoredType::kBF16);
}

Tensor quantized_grouped_weight(const Tensor& weight, StoredType to) {
  return packed_conv_weight<std::int8_t>(weight, DType::kI8, packed_group(to));
}

Tensor quantized_grouped_terms(const QuantizedGroupedConv& c, const Tensor& scale, const Tensor& bias,
                               float x_scale) {
  return packed_terms(c, scale, bias, x_scale, packed_group(c.to));
}

// Of one convolution, also those whose weight stays in shared memory.
std::vector<std::string> quantized_group_ways(std::span<const QuantizedGroupedConv> convs) {
  std::vector<std::string> out(kTileNames.begin(), kTileNames.end());
  if (convs.size() == 1)
    for (const int width : resident_widths(convs.front())) out.push_back(fmt::format("64x{}", width));
  return out;
}

void launch_quantized_conv_group(std::span<const QuantizedGroupedConv> convs, DType type, std::size_t way,
                                 int multiprocessors, cudaStream_t stream) {
  check(!convs.empty(), "a group of no convolutions");
  const StoredType to = convs.front().to;
  check(std::all_of(
            convs.begin(), convs.end(),
            [&](const QuantizedGroupedConv& c) { return is_integer(to) ? is_integer(c.to) : c.to == to; }),
        "a group of several types");
  if (way >= kTiles.size())
    return launch_quantized_resident(
        convs.front(), type, resident_widths(convs.front()).at(way - kTiles.size()), multiprocessors, stream);
  const auto launch_from = [&]<class T>(T) {
    if (is_integer(to)) {
      const bool bounds = std::ranges::all_of(convs, [](const auto& c) { return is_bound(c.activation); });
      const auto launch = bounds ? launch_as<T, std::uint8_t> : launch_as<T, std::uint8_t, true>;
      return launch(convs, type, way, multiprocessors, stream);
    }
    if (to == StoredType::kF16) return launch_as<T, __half>(convs, type, way, multiprocessors, stream);
    const bool flagged = std::ranges::any_of(convs, [](const auto& c) { return c.scores.flags != nullptr; });
    const auto launch = flagged ? launch_as<T, float, true> : launch_as<T, float>;
    launch(convs, type, way, multiprocessors, stream);
  };
  type == DType::kU8 ? launch_from(std::uint8_t{}) : launch_from(std::int8_t{});
}

}  // namespace osprey

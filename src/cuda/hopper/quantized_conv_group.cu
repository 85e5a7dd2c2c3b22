#include "cuda/activations.cuh"
#include "cuda/hopper/conv_tiles.cuh"
#include "cuda/hopper/quantized_conv_group.h"
#include "cuda/numbers.cuh"

namespace osprey {
namespace {

using namespace hopper;

static_assert(kMostQuantizedGrouped <= kMostProblems);

constexpr std::array<Tiles, 3> kTiles{Tiles{256, 1}, Tiles{128, 2}, Tiles{128, 1}};
constexpr std::array<std::string_view, kTiles.size()> kTileNames{"256", "2x128", "128"};

// Outputs whose order the packed weight changes together, so that a lane has 16 neighbouring bytes.
int packed_group(StoredType to) { return 64 / static_cast<int>(size_of(dtype_of(to))); }
constexpr int kPackedTerms = 256;  // what terms are padded to: the widest tile reads its own
constexpr int kQuad = 4;           // bytes of a word

// An integer is kept as its place in a range of 256 from `low` on, so that an addition saturates it.
constexpr float kRange = 256;

struct QuantizedResult {
  void* y;
  const float4* terms;  // of two columns each: factor, addend, factor, addend
  const void* residual;
  int upsampling;
  // Of integers. The residual's bytes b are those of numbers b ^ flip - zero, where b lies in the last places
  // of 2^23; `high` is the greatest place, and `rounder` makes integers of places.
  std::uint32_t residual_flip;
  float residual_zero, residual_factor, high, rounder;
  Activation activation;             // of floats, and of integers where it is no bound
  float place_factor, place_addend;  // of what such an activation gives
};

// --- 8-bit integers in words
// -----------------------------------------------------------------------------------

__device__ inline float widened(std::uint32_t word, int byte, float zero) {
  constexpr std::uint32_t kExponent = 0x4b000000;  // of 2^23
  return __uint_as_float(__byte_perm(word, kExponent, 0x7440 + byte)) - zero;
}

// The last bytes of four floats.
__device__ inline std::uint32_t packed_bytes(const float (&v)[kQuad]) {
  std::uint32_t bits[kQuad];
#pragma unroll
  for (int k = 0; k < kQuad; ++k) bits[k] = __float_as_uint(v[k]);
  return __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040), 0x5410);
}

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

// Integers, signed or not, are stored as Out = std::uint8_t.
template <class T, class Out>
struct QuantizedKind {
  using Operand = T;
  using Sum = int;
  using Result = QuantizedResult;
  static constexpr int kOperand = 1;
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
        if (problem_.result.activation != Activation::kNone)
          store_integers<false, true>(sums);
        else if (problem_.result.residual)
          store_integers<true, false>(sums);
        else
          store_integers<false, false>(sums);
      } else {
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

    template <bool kResidual, bool kSmooth>
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
            if constexpr (kResidual) {
              const std::uint32_t of[]{residual[half].x, residual[half].y, residual[half].z,
                                       residual[half].w};
              const std::uint32_t word = of[q] ^ r.residual_flip;
#pragma unroll
              for (int k = 0; k < kQuad; ++k)
                v[half][k] = __fmaf_rn(widened(word, k, r.residual_zero), r.residual_factor, v[half][k]);
            }
            if constexpr (kSmooth) {
#pragma unroll
              for (int k = 0; k < kQuad; ++k) {
                const float s = sigmoid_as<__half>(v[half][k]);
                v[half][k] = __fmaf_rn(swish ? s * v[half][k] : s, r.place_factor, r.place_addend);
              }
            }
#pragma unroll
            for (int k = 0; k < kQuad; ++k)
              v[half][k] = __fmaf_rn(fminf(__saturatef(v[half][k]), r.high), kRange, r.rounder);
            words[half][q] = packed_bytes(v[half]);
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

    const Problem<Result>& problem_;
    int output_, column_, pixels_[2]{-1, -1};  // column: of the terms; pixels: -1: none
    uint4 residual_[kEarly ? kGroups : 1][2];
  };
};

// --- Host
// -----------------------------------------------------------------------------------------------------

// With activations that are bounds an integer's scale goes into the terms.
bool is_bound(Activation activation) {
  return activation == Activation::kNone || activation == Activation::kRelu ||
         activation == Activation::kRelu6;
}
float inverse_of(const QuantizedGroupedConv& c) { return 1 / c.y_scale; }
// The least integer of the result.
float low_of(const QuantizedGroupedConv& c) {
  const bool bounded = c.activation == Activation::kRelu || c.activation == Activation::kRelu6;
  return c.to == StoredType::kI8 && !bounded ? -128.f : 0.f;
}

QuantizedResult result_of(const QuantizedGroupedConv& c) {
  QuantizedResult out{.y = c.y,
                      .terms = static_cast<const float4*>(c.terms),
                      .residual = c.residual_data,
                      .upsampling = c.residual.upsampling,
                      .activation = c.activation};
  if (!is_integer(c.to)) return out;
  if (is_bound(c.activation)) out.activation = Activation::kNone;
  out.place_factor = inverse_of(c) / kRange;
  out.place_addend = -low_of(c) / kRange;
  constexpr float kTwo23 = 8388608, kRounder = 1.5f * kTwo23;  // has an integer in its last places
  const bool is_signed = c.residual.type == DType::kI8;
  out.residual_flip = is_signed ? 0x80808080u : 0;  // b + 128
  out.residual_zero = is_signed ? kTwo23 + 128 : kTwo23;
  out.residual_factor = c.residual.scale * inverse_of(c) / kRange;
  float high = c.to == StoredType::kI8 ? 127.f : 255.f;
  if (c.activation == Activation::kRelu6) high = std::min(high, 6 * inverse_of(c));
  out.high = (high - low_of(c)) / kRange;
  out.rounder = kRounder + low_of(c);
  return out;
}

// What a result takes, in bytes an output of plain stores that take as long.
double stored_of(const QuantizedGroupedConv& c) {
  return static_cast<double>(size_of(dtype_of(c.to))) + (c.residual_data ? 3 : 2);
}

template <class T, class Out>
void launch_as(std::span<const QuantizedGroupedConv> convs, DType type, std::size_t way, int multiprocessors,
               cudaStream_t stream) {
  using Kind = QuantizedKind<T, Out>;
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
  const int group = packed_group(c.to);
  const std::int64_t outputs = scale.dim(0);
  Tensor out = Tensor::zeros(DType::kF32, {packed_outputs(outputs, kPackedTerms), 2});
  const auto to = out.mutable_values<float>();
  for (std::int64_t column = 0; column < out.dim(0); ++column) {
    const std::int64_t output = packed_output(column, group);
    if (output >= outputs) continue;
    const auto at = static_cast<std::size_t>(output), place = static_cast<std::size_t>(column) * 2;
    to[place] = x_scale * scale.values<float>()[at];
    to[place + 1] = bias.empty() ? 0 : bias.values<float>()[at];
    if (!is_integer(c.to) || !is_bound(c.activation)) continue;
    to[place] *= inverse_of(c) / kRange;
    to[place + 1] = (to[place + 1] * inverse_of(c) - low_of(c)) / kRange;
  }
  return out;
}

std::span<const std::string_view> quantized_group_ways() { return kTileNames; }

void launch_quantized_conv_group(std::span<const QuantizedGroupedConv> convs, DType type, std::size_t way,
                                 int multiprocessors, cudaStream_t stream) {
  check(!convs.empty(), "a group of no convolutions");
  const StoredType to = convs.front().to;
  check(std::all_of(
            convs.begin(), convs.end(),
            [&](const QuantizedGroupedConv& c) { return is_integer(to) ? is_integer(c.to) : c.to == to; }),
        "a group of several types");
  const auto launch_from = [&]<class T>(T) {
    if (is_integer(to)) return launch_as<T, std::uint8_t>(convs, type, way, multiprocessors, stream);
    if (to == StoredType::kF16) return launch_as<T, __half>(convs, type, way, multiprocessors, stream);
    launch_as<T, float>(convs, type, way, multiprocessors, stream);
  };
  type == DType::kU8 ? launch_from(std::uint8_t{}) : launch_from(std::int8_t{});
}

}  // namespace osprey

// A thread makes 16 bytes of channels of one pixel, or one channel where their number allows no more; of
// several pixels, one below the other, where windows are 3x3 with stride 2, so that the rows they share are
// read once.
#include <algorithm>
#include <cmath>

#include "cuda/integers.cuh"
#include "ops/max_pool.h"

namespace osprey {
namespace {

constexpr int kRowsEach = 4;

template <class T, int kLanes>
struct alignas(sizeof(T) * kLanes) Lanes {
  T v[kLanes];

  static __device__ Lanes least() {
    Lanes out;
#pragma unroll
    for (int k = 0; k < kLanes; ++k) {
      if constexpr (sizeof(T) == 1)
        out.v[k] = std::numeric_limits<T>::min();
      else
        out.v[k] = narrow<T>(-INFINITY);
    }
    return out;
  }
  // NaN gives way to numbers.
  __device__ void raise(const Lanes& other) {
    if constexpr (sizeof(T) == 1 && kLanes % 4 == 0) {
      auto* const to = reinterpret_cast<unsigned*>(v);
      const auto* const from = reinterpret_cast<const unsigned*>(other.v);
#pragma unroll
      for (int k = 0; k < kLanes / 4; ++k)
        to[k] = std::is_signed_v<T> ? __vmaxs4(to[k], from[k]) : __vmaxu4(to[k], from[k]);
    } else if constexpr (sizeof(T) == 1) {
#pragma unroll
      for (int k = 0; k < kLanes; ++k) v[k] = max(v[k], other.v[k]);
    } else if constexpr (sizeof(T) == 2 && kLanes % 2 == 0) {
      using Pair = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;
      auto* const to = reinterpret_cast<Pair*>(v);
      const auto* const from = reinterpret_cast<const Pair*>(other.v);
#pragma unroll
      for (int k = 0; k < kLanes / 2; ++k) to[k] = __hmax2(to[k], from[k]);
    } else {
#pragma unroll
      for (int k = 0; k < kLanes; ++k) v[k] = narrow<T>(fmaxf(widen(v[k]), widen(other.v[k])));
    }
  }
};

// Maps in units of Lanes: of the input, and the result's height and width.
struct Maps {
  int height, width, out_height, out_width, channels;

  __device__ std::int64_t pixels() const { return static_cast<std::int64_t>(height) * width; }
  __device__ std::int64_t out_pixels() const { return static_cast<std::int64_t>(out_height) * out_width; }
};

struct Window {
  int kernel[2], stride[2], pads[2];

  Window(const MaxPool& op, const std::array<int, 4>& around)
      : kernel{op.kernel[0], op.kernel[1]}, stride{op.stride[0], op.stride[1]}, pads{around[0], around[1]} {}
};

// A row of the result for each blockIdx.x.
template <class Value>
__global__ void pool(Window window, Maps maps, const Value* x, Value* y, const int* live) {
  const int n = static_cast<int>(blockIdx.x) / maps.out_height,
            row = static_cast<int>(blockIdx.x) % maps.out_height;
  if (live && n >= *live) return;
  const int i = static_cast<int>(blockIdx.y) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= maps.out_width * maps.channels) return;
  x += n * maps.pixels() * maps.channels + i % maps.channels;
  const int top = row * window.stride[0] - window.pads[0];
  const int left = i / maps.channels * window.stride[1] - window.pads[1];
  Value best = Value::least();
  for (int r = max(top, 0); r < min(top + window.kernel[0], maps.height); ++r)
    for (int q = max(left, 0); q < min(left + window.kernel[1], maps.width); ++q)
      best.raise(x[(static_cast<std::int64_t>(r) * maps.width + q) * maps.channels]);
  y[static_cast<std::int64_t>(blockIdx.x) * maps.out_width * maps.channels + i] = best;
}

// kRowsEach rows of the result for each blockIdx.x. Coordinates outside the map are moved to its edge, which
// is in the same window.
template <class Value>
__global__ void pool_3x3(Window window, Maps maps, const Value* x, Value* y, const int* live) {
  const int strips = (maps.out_height + kRowsEach - 1) / kRowsEach;
  const int n = static_cast<int>(blockIdx.x) / strips;
  if (live && n >= *live) return;
  const int i = static_cast<int>(blockIdx.y) * kBlock + static_cast<int>(threadIdx.x);
  if (i >= maps.out_width * maps.channels) return;
  const int first = static_cast<int>(blockIdx.x) % strips * kRowsEach, column = i / maps.channels;
  x += n * maps.pixels() * maps.channels + i % maps.channels;
  y += (n * maps.out_pixels() + static_cast<std::int64_t>(first) * maps.out_width) * maps.channels + i;
  std::int64_t at[3];
#pragma unroll
  for (int q = 0; q < 3; ++q)
    at[q] = std::int64_t{min(max(2 * column - window.pads[1] + q, 0), maps.width - 1)} * maps.channels;
  const auto row_best = [&](int r) {
    const Value* const row = x + std::int64_t{min(max(2 * first - window.pads[0] + r, 0), maps.height - 1)} *
                                     maps.width * maps.channels;
    Value best = row[at[0]];
    best.raise(row[at[1]]);
    best.raise(row[at[2]]);
    return best;
  };
  Value rows[2 * kRowsEach + 1];
#pragma unroll
  for (int r = 0; r < 2 * kRowsEach + 1; ++r) rows[r] = row_best(r);
#pragma unroll
  for (int k = 0; k < kRowsEach; ++k) {
    if (first + k >= maps.out_height) break;
    Value best = rows[2 * k];
    best.raise(rows[2 * k + 1]);
    best.raise(rows[2 * k + 2]);
    y[static_cast<std::int64_t>(k) * maps.out_width * maps.channels] = best;
  }
}

template <class T, int kLanes>
void launch(const MaxPool& op, CudaRun& run) {
  using Value = Lanes<T, kLanes>;
  const CudaValue &x = run.in(0), &y = run.out(0);
  const auto size = [](std::int64_t v) { return static_cast<int>(v); };
  const Maps maps{size(x.dims[2]), size(x.dims[3]), size(y.dims[2]), size(y.dims[3]),
                  size(y.dims[1] / kLanes)};
  const bool strips = op.kernel == std::vector<int>{3, 3} && op.stride == std::vector<int>{2, 2};
  const std::int64_t each = strips ? kRowsEach : 1, rows = y.dims[0] * ((maps.out_height + each - 1) / each);
  if (rows == 0) return;
  const dim3 grid(static_cast<unsigned>(rows), blocks_for(std::int64_t{maps.out_width} * maps.channels));
  const auto kernel = strips ? pool_3x3<Value> : pool<Value>;
  kernel<<<grid, kBlock, 0, run.stream()>>>(Window(op, op.window().pads_of(maps.height, maps.width)), maps,
                                            x.as<const Value>(), y.as<Value>(), y.rows);
  cuda_check_launch("max_pool");
}

}  // namespace

CudaKernel max_pool_cuda() {
  return {.op = &kOpInfo<MaxPool>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kU8},
          .prepare = [](CudaPrepare& p) {
            return cuda_step([op = p.op<MaxPool>()](CudaRun& run) {
              with_stored_type(run.in(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                constexpr int kLanes = 16 / static_cast<int>(sizeof(T));
                run.in(0).dims[1] % kLanes == 0 ? launch<T, kLanes>(op, run) : launch<T, 1>(op, run);
              });
            });
          }};
}

}  // namespace osprey

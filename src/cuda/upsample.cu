#include "cuda/integers.cuh"
#include "cuda/packs.cuh"
#include "ops/upsample.h"

namespace osprey {
namespace {

struct Sample {
  int low, high;
  float weight;  // of the second
};

// How an axis is sampled.
struct Axis {
  int in;
  float factor;  // in / out of a size, between corners: of the distances; else the whole number out / in

  Axis(const Upsample& op, std::int64_t from, std::int64_t to)
      : in(static_cast<int>(from)), factor(static_cast<float>(op.scale)) {
    if (op.sized()) factor = static_cast<float>(from) / static_cast<float>(to);
    if (op.mode == Interpolation::kBilinearCorners)
      factor = to > 1 ? static_cast<float>(from - 1) / static_cast<float>(to - 1) : 0;
  }
};

template <class T, int N>
struct Enlarged {
  const T* x;
  T* y;
  int channels;
  Axis rows, columns;
  int scale;  // 0: to a size
  Interpolation mode;

  __device__ int nearest(const Axis& axis, int index) const {
    if (scale != 0) return index / scale;
    return min(static_cast<int>(static_cast<float>(index) * axis.factor), axis.in - 1);
  }
  __device__ Sample sample(const Axis& axis, int index) const {
    const float at = static_cast<float>(index), centre = at + 0.5f;
    float source = at * axis.factor;
    if (mode == Interpolation::kBilinear)
      source = fmaxf(0.f, (scale != 0 ? centre / axis.factor : centre * axis.factor) - 0.5f);
    const int low = min(static_cast<int>(source), axis.in - 1);
    return {low, min(low + 1, axis.in - 1), source - static_cast<float>(low)};
  }
  __device__ Pack<T, N> pixel(const PackPlace& p, int row, int column) const {
    const std::int64_t at = (static_cast<std::int64_t>(p.n) * rows.in + row) * columns.in + column;
    return *reinterpret_cast<const Pack<T, N>*>(x + at * channels + p.channel);
  }

  __device__ void operator()(const PackPlace& p) const {
    auto& to = *reinterpret_cast<Pack<T, N>*>(y + p.at);
    if (mode == Interpolation::kNearest) {
      to = pixel(p, nearest(rows, p.row), nearest(columns, p.column));
      return;
    }
    if constexpr (sizeof(T) > 1) to = blended(p);
  }

 private:
  __device__ Pack<T, N> blended(const PackPlace& p) const {
    const Sample v = sample(rows, p.row), h = sample(columns, p.column);
    const Pack<T, N> a = pixel(p, v.low, h.low), b = pixel(p, v.low, h.high);
    const Pack<T, N> d = pixel(p, v.high, h.low), e = pixel(p, v.high, h.high);
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float left = widen(a.values[k]), below = widen(d.values[k]);
      const float top = left + (widen(b.values[k]) - left) * h.weight,
                  bottom = below + (widen(e.values[k]) - below) * h.weight;
      out.values[k] = narrow<T>(top + (bottom - top) * v.weight);
    }
    return out;
  }
};

void launch(const Upsample& op, CudaRun& run) {
  const CudaValue &x = run.in(0), &y = run.out(0);
  const bool corners = op.mode == Interpolation::kBilinearCorners;
  with_stored_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    with_pack<T>(x.dims[1], [&]<int N>() {
      launch_packs<N>(
          y, run.stream(),
          Enlarged<T, N>{x.as<T>(), y.as<T>(), static_cast<int>(x.dims[1]), Axis(op, x.dims[2], y.dims[2]),
                         Axis(op, x.dims[3], y.dims[3]), op.sized() || corners ? 0 : op.scale, op.mode});
    });
  });
  cuda_check_launch("upsample");
}

}  // namespace

CudaKernel upsample_cuda() {
  return {.op = &kOpInfo<Upsample>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kU8},
          .prepare = [](CudaPrepare& p) {
            const bool moves = p.op<Upsample>().mode == Interpolation::kNearest;
            require(moves || size_of(p.input(0).dtype) > 1, "{}: integers are not blended", p.node().name);
            return cuda_step([op = p.op<Upsample>()](CudaRun& run) { launch(op, run); });
          }};
}

}  // namespace osprey

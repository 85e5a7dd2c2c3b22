// One warp a row. Rows that fit into registers are read once; others three times.
#include "cuda/packed_weights.h"
#include "cuda/packs.cuh"
#include "ops/layer_norm.h"

namespace osprey {
namespace {

constexpr unsigned kLanes = 0xffffffffu;
constexpr int kWarps = 4;      // of a block
constexpr int kMostPacks = 4;  // of a lane, of 16 bytes each

__device__ float warp_sum_of(float v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(kLanes, v, step);
  return v;
}

template <class T>
struct Rows {
  const T *x, *residual;  // residual may be null
  const float *scale, *bias;
  T* y;
  int rows, width;
  float epsilon;
  const int* live;

  // The row of this warp; -1: none.
  __device__ std::int64_t row() const {
    const int r = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
    return r < (live ? min(rows, *live) : rows) ? r : -1;
  }
  __device__ float factor(float squares) const {
    return 1.0f / sqrtf(warp_sum_of(squares) / static_cast<float>(width) + epsilon);
  }
};

// kPacks of N columns for each lane hold a row.
template <class T, int N, int kPacks>
__global__ void __launch_bounds__(32 * kWarps) normalise_packs(Rows<T> job) {
  const std::int64_t row = job.row();
  if (row < 0) return;
  const int packs = job.width / N, lane = static_cast<int>(threadIdx.x % 32);
  const auto* const x = reinterpret_cast<const Pack<T, N>*>(job.x + row * job.width);
  const auto* const residual = reinterpret_cast<const Pack<T, N>*>(job.residual + row * job.width);
  float values[kPacks][N] = {};
  float sum = 0, squares = 0;
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    const int at = lane + 32 * i;
    if (at >= packs) continue;
    const Pack<T, N> own = x[at];
    Pack<T, N> other;
    if (job.residual) other = residual[at];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      values[i][k] = widen(own.values[k]);
      if (job.residual) values[i][k] += widen(other.values[k]);
      sum += values[i][k];
    }
  }
  const float mean = warp_sum_of(sum) / static_cast<float>(job.width);
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    if (lane + 32 * i >= packs) continue;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      values[i][k] -= mean;
      squares += values[i][k] * values[i][k];
    }
  }
  const float factor = job.factor(squares);
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
    const int at = lane + 32 * i;
    if (at >= packs) continue;
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k)
      out.values[k] =
          narrow<T>(values[i][k] * factor * __ldg(job.scale + at * N + k) + __ldg(job.bias + at * N + k));
    reinterpret_cast<Pack<T, N>*>(job.y + row * job.width)[at] = out;
  }
}

// A lane reads what it writes last, so that the result may take the place of an input.
template <class T>
__global__ void __launch_bounds__(32 * kWarps) normalise_any(Rows<T> job) {
  const std::int64_t row = job.row();
  if (row < 0) return;
  const std::int64_t first = row * job.width;
  const auto value = [&](int i) {
    const float own = widen(job.x[first + i]);
    return job.residual ? own + widen(job.residual[first + i]) : own;
  };
  const int lane = static_cast<int>(threadIdx.x % 32);
  float sum = 0, squares = 0;
  for (int i = lane; i < job.width; i += 32) sum += value(i);
  const float mean = warp_sum_of(sum) / static_cast<float>(job.width);
  for (int i = lane; i < job.width; i += 32) {
    const float apart = value(i) - mean;
    squares += apart * apart;
  }
  const float factor = job.factor(squares);
  for (int i = lane; i < job.width; i += 32)
    job.y[first + i] = narrow<T>((value(i) - mean) * factor * job.scale[i] + job.bias[i]);
}

template <class T>
void launch_rows(const Rows<T>& job, cudaStream_t stream) {
  if (job.rows == 0) return;
  constexpr int kEach = 16 / static_cast<int>(sizeof(T));
  const unsigned blocks = blocks_for(job.rows, kWarps), threads = 32 * kWarps;
  const int packs = job.width / kEach;
  if (job.width % kEach != 0 || packs > 32 * kMostPacks)
    normalise_any<T><<<blocks, threads, 0, stream>>>(job);
  else if (packs <= 32)
    normalise_packs<T, kEach, 1><<<blocks, threads, 0, stream>>>(job);
  else if (packs <= 64)
    normalise_packs<T, kEach, 2><<<blocks, threads, 0, stream>>>(job);
  else
    normalise_packs<T, kEach, kMostPacks><<<blocks, threads, 0, stream>>>(job);
  cuda_check_launch("layer_norm");
}

class LayerNormStep final : public CudaStep {
 public:
  explicit LayerNormStep(CudaPrepare& p)
      : epsilon_(p.op<LayerNorm>().epsilon),
        has_residual_(p.has_input(3)),
        scale_(packed_vector(p, 1, DType::kF32)),
        bias_(packed_vector(p, 2, DType::kF32)) {}

  void launch(CudaRun& run) override {
    const CudaValue& x = run.in(0);
    with_float_type(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      launch_rows(Rows<T>{x.as<T>(), has_residual_ ? run.in(3).as<T>() : nullptr, scale_->as<float>(),
                          bias_->as<float>(), run.out(0).as<T>(), static_cast<int>(x.dims[0]),
                          static_cast<int>(x.dims[1]), epsilon_, x.rows},
                  run.stream());
    });
  }

 private:
  const float epsilon_;
  const bool has_residual_;
  const std::shared_ptr<const DeviceBuffer> scale_, bias_;
};

}  // namespace

CudaKernel layer_norm_cuda() {
  return {.op = &kOpInfo<LayerNorm>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<LayerNormStep>(p);
          },
          .in_place = {0, 3}};
}

}  // namespace osprey

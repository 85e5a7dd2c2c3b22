// One pass: a thread reads a pack of channels of every map, where the map has that pixel, and stores their
// sum.
#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/conversions.cuh"
#include "cuda/packs.cuh"
#include "cuda/weighted_sum.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

constexpr int kMost = static_cast<int>(WeightedSum::kMostMaps);

struct Shares {
  float of[kMost];
};

template <class T, int N>
struct Sum {
  const T* maps[kMost];
  int scales[kMost];
  Shares shares;
  int count, height, width, channels;  // of y
  void* y;
  Activation activation;
  Storing storing;

  __device__ void operator()(const PackPlace& p) const {
    float sum[N] = {};
#pragma unroll
    for (int i = 0; i < kMost; ++i) {
      if (i == count) break;
      const int s = scales[i];
      std::int64_t at = p.at;
      if (s != 1) {
        const std::int64_t line = static_cast<std::int64_t>(p.n) * (height / s) + p.row / s;
        at = (line * (width / s) + p.column / s) * channels + p.channel;
      }
      const auto x = *reinterpret_cast<const Pack<T, N>*>(maps[i] + at);
#pragma unroll
      for (int k = 0; k < N; ++k) sum[k] += widen(x.values[k]) * shares.of[i];
    }
    activate_all<T>(activation, sum);
    store_pack<T>(storing, sum, y, p.at);
  }
};

template <class T, int N>
void launch(const WeightedSum& op, const std::vector<float>& shares, const Storing& storing, CudaRun& run) {
  const CudaValue& y = run.out(0);
  Sum<T, N> f{.maps = {},
              .scales = {},
              .shares = {},
              .count = static_cast<int>(shares.size()),
              .height = static_cast<int>(y.dims[2]),
              .width = static_cast<int>(y.dims[3]),
              .channels = static_cast<int>(y.dims[1]),
              .y = y.data,
              .activation = op.activation,
              .storing = storing};
  for (std::size_t i = 0; i < shares.size(); ++i)
    f.maps[i] = run.in(i).as<T>(), f.scales[i] = op.scale(i), f.shares.of[i] = shares[i];
  launch_packs<N>(y, run.stream(), f);
  cuda_check_launch("weighted_sum");
}

}  // namespace

std::vector<float> shares_of(const CudaPrepare& p) {
  const WeightedSum& op = p.op<WeightedSum>();
  const std::size_t n = op.maps(p.node().inputs.size());
  std::vector<float> out(n, 1.f);
  if (!op.normalize) return out;
  float sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float w = p.weight(n + i).to_f32().values<float>()[0];
    out[i] = w < 0 ? 0 : w;  // NaN stays NaN
    sum += out[i];
  }
  for (float& share : out) share /= sum + op.epsilon;
  return out;
}

CudaKernel weighted_sum_cuda() {
  return {.op = &kOpInfo<WeightedSum>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) {
            const WeightedSum& op = p.op<WeightedSum>();
            const Storing storing(quantization_of(p));
            return cuda_step([op, shares = shares_of(p), storing](CudaRun& run) {
              with_float_type(run.in(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                with_pack<T>(run.out(0).dims[1], [&]<int N>() { launch<T, N>(op, shares, storing, run); });
              });
            });
          }};
}

}  // namespace osprey

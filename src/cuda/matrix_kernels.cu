#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/check.h"
#include "cuda/matrix_kernels.h"
#include "cuda/numbers.cuh"

namespace osprey {
namespace {

constexpr unsigned kMostBlocks = 132 * 16;

// Blocks that stride over `items`.
unsigned striding_blocks(std::int64_t items) {
  return static_cast<unsigned>(std::min<std::int64_t>((items + kBlock - 1) / kBlock, kMostBlocks));
}

// 16 bytes, read and written at once.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

template <class T>
__global__ void random_kernel(T* data, std::int64_t count) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    std::uint64_t bits = static_cast<std::uint64_t>(i) + 0x9e3779b97f4a7c15u;  // splitmix64
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
    data[i] = narrow<T>(static_cast<float>(static_cast<std::int32_t>(bits >> 32)) * 0x1p-31f);
  }
}

// A thread does N neighbouring channels of a pixel.
template <class T, int N>
__global__ void epilogue_kernel(Epilogue e, T* y, const float* bias, const T* residual) {
  const std::int64_t packs = e.channels / N, count = e.rows * e.height * e.width * packs;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const std::int64_t channel = i % packs * N, pixel = i / packs;
    auto& place = *reinterpret_cast<Pack<T, N>*>(y + pixel * e.channels + channel);
    Pack<T, N> out = place, add{};
    if (residual) {
      std::int64_t from = pixel;
      if (e.scale != 1) {
        const std::int64_t u = pixel % e.width / e.scale, line = pixel / e.width;
        const std::int64_t v = line % e.height / e.scale, n = line / e.height;
        from = (n * (e.height / e.scale) + v) * (e.width / e.scale) + u;
      }
      add = *reinterpret_cast<const Pack<T, N>*>(residual + from * e.channels + channel);
    }
#pragma unroll
    for (int k = 0; k < N; ++k) {
      float v = widen(out.values[k]);
      if (bias) v += bias[channel + k];
      if (residual) v += widen(add.values[k]);
      out.values[k] = narrow<T>(activate(e.activation, v));
    }
    place = out;
  }
}

// A thread does N neighbouring channels of a pixel of the result.
template <class From, class To, int N>
__global__ void tap_sum_kernel(TapSum s, const From* taps, To* y, const float* bias) {
  const std::int64_t packs = s.channels / N;
  const std::int64_t count = s.rows * s.out_height * s.out_width * packs;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; t < count;
       t += step) {
    const std::int64_t channel = t % packs * N, pixel = t / packs, line = pixel / s.out_width;
    const int u = static_cast<int>(pixel % s.out_width) + s.pads[1];
    const int v = static_cast<int>(line % s.out_height) + s.pads[0];
    const std::int64_t n = line / s.out_height;
    float sum[N]{};
    for (int a = v % s.stride[0]; a < s.kernel[0]; a += s.stride[0]) {
      const int i = (v - a) / s.stride[0];
      if (v < a || i >= s.height) continue;
      for (int b = u % s.stride[1]; b < s.kernel[1]; b += s.stride[1]) {
        const int j = (u - b) / s.stride[1];
        if (u < b || j >= s.width) continue;
        const std::int64_t tap = (((n * s.height + i) * s.width + j) * s.kernel[0] + a) * s.kernel[1] + b;
        const auto add = *reinterpret_cast<const Pack<From, N>*>(taps + tap * s.channels + channel);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] += widen(add.values[k]);
      }
    }
    Pack<To, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k)
      out.values[k] = narrow<To>(activate(s.activation, sum[k] + (bias ? bias[channel + k] : 0.f)));
    *reinterpret_cast<Pack<To, N>*>(y + pixel * s.channels + channel) = out;
  }
}

}  // namespace

void fill_random(void* data, DType type, std::int64_t count, cudaStream_t stream) {
  if (count == 0) return;
  with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    random_kernel<<<striding_blocks(count), kBlock, 0, stream>>>(static_cast<T*>(data), count);
  });
  cuda_check_launch("random operands");
}

void launch_epilogue(const Epilogue& epilogue, DType type, void* y, const float* bias, const void* residual,
                     cudaStream_t stream) {
  const std::int64_t count = epilogue.rows * epilogue.height * epilogue.width * epilogue.channels;
  if (count == 0) return;
  with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kPack = 16 / sizeof(T);
    T* to = static_cast<T*>(y);
    const T* add = static_cast<const T*>(residual);
    if (epilogue.channels % kPack == 0)
      epilogue_kernel<T, kPack>
          <<<striding_blocks(count / kPack), kBlock, 0, stream>>>(epilogue, to, bias, add);
    else
      epilogue_kernel<T, 1><<<striding_blocks(count), kBlock, 0, stream>>>(epilogue, to, bias, add);
  });
  cuda_check_launch("epilogue");
}

void launch_tap_sum(const TapSum& sum, DType taps_type, const void* taps, DType y_type, void* y,
                    const float* bias, cudaStream_t stream) {
  const std::int64_t count = sum.rows * sum.out_height * sum.out_width * sum.channels;
  if (count == 0) return;
  with_float_type(taps_type, [&](auto from_zero) {
    with_float_type(y_type, [&](auto to_zero) {
      using From = decltype(from_zero);
      using To = decltype(to_zero);
      constexpr int kPack = 16 / (sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));
      const From* from = static_cast<const From*>(taps);
      To* to = static_cast<To*>(y);
      if (sum.channels % kPack == 0)
        tap_sum_kernel<From, To, kPack>
            <<<striding_blocks(count / kPack), kBlock, 0, stream>>>(sum, from, to, bias);
      else
        tap_sum_kernel<From, To, 1><<<striding_blocks(count), kBlock, 0, stream>>>(sum, from, to, bias);
    });
  });
  cuda_check_launch("transposed convolution");
}

}  // namespace osprey

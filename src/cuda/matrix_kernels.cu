#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/check.h"
#include "cuda/device_buffer.h"
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

__global__ void differs_kernel(const std::uint16_t* a, const std::uint16_t* b, std::int64_t count,
                               int* differs) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step)
    if (a[i] != b[i]) *differs = 1;
}

// Blocks go over lines of pixels, a part of one each, from the last to the first: what a library's call has
// just stored last is still in L2.
struct Lines {
  std::uint32_t lines = 0, packs = 0, parts = 0;  // packs: of a line
};
constexpr std::uint32_t kPartPacks = 2 * kBlock;

Lines lines_of(std::int64_t lines, std::int64_t packs) {
  check(lines < (std::int64_t{1} << 31) && packs < (std::int64_t{1} << 31), "{} lines of {} packs", lines,
        packs);
  return {static_cast<std::uint32_t>(lines), static_cast<std::uint32_t>(packs),
          static_cast<std::uint32_t>((packs + kPartPacks - 1) / kPartPacks)};
}

unsigned blocks_of(const Lines& lines) {
  const std::uint64_t blocks = std::uint64_t{lines.lines} * lines.parts;
  check(blocks < (std::uint64_t{1} << 31), "{} blocks", blocks);
  return static_cast<unsigned>(blocks);
}

// Calls f(line, pack) for the block's packs.
template <class F>
__device__ void for_each_pack(const Lines& l, F f) {
  const std::uint32_t block = gridDim.x - 1 - blockIdx.x, line = block / l.parts;
  const std::uint32_t begin = (block - line * l.parts) * kPartPacks;
  const std::uint32_t end = min(begin + kPartPacks, l.packs);
  for (std::uint32_t pack = begin + threadIdx.x; pack < end; pack += kBlock) f(line, pack);
}

// Of packs of N channels.
template <class T, int N>
struct EpilogueOfPack {
  Epilogue e;
  T* y;
  const float* bias;
  const T* residual;

  __device__ void operator()(std::uint32_t line, std::uint32_t pack) const {
    const std::uint32_t channels = static_cast<std::uint32_t>(e.channels), packs = channels / N;
    const std::uint32_t width = static_cast<std::uint32_t>(e.width), u = pack / packs;
    const std::uint32_t channel = (pack - u * packs) * N;
    auto& place = *reinterpret_cast<Pack<T, N>*>(y + (std::uint64_t{line} * width + u) * channels + channel);
    Pack<T, N> out = place, add{};
    if (residual) {
      const std::uint32_t scale = static_cast<std::uint32_t>(e.scale);
      const std::uint32_t height = static_cast<std::uint32_t>(e.height), n = line / height;
      const std::uint64_t from_line = n * (height / scale) + (line - n * height) / scale;
      const std::uint64_t from = from_line * (width / scale) + u / scale;
      add = *reinterpret_cast<const Pack<T, N>*>(residual + from * channels + channel);
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
};

template <class T, int N>
__global__ void __launch_bounds__(kBlock) epilogue_kernel(Lines lines, EpilogueOfPack<T, N> of_pack) {
  for_each_pack(lines, of_pack);
}

// Of packs of N channels of a pixel of the result.
template <class From, class To, int N>
struct TapSumOfPack {
  TapSum s;
  const From* taps;
  To* y;
  const float* bias;

  __device__ void operator()(std::uint32_t line, std::uint32_t pack) const {
    const std::uint32_t channels = static_cast<std::uint32_t>(s.channels), packs = channels / N;
    const std::uint32_t column = pack / packs, channel = (pack - column * packs) * N;
    const std::uint32_t n = line / static_cast<std::uint32_t>(s.out_height);
    const int v = static_cast<int>(line - n * static_cast<std::uint32_t>(s.out_height)) + s.pads[0];
    const int u = static_cast<int>(column) + s.pads[1];
    float sum[N]{};
    for (int a = v % s.stride[0]; a < s.kernel[0]; a += s.stride[0]) {
      const int i = (v - a) / s.stride[0];
      if (v < a || i >= s.height) continue;
      for (int b = u % s.stride[1]; b < s.kernel[1]; b += s.stride[1]) {
        const int j = (u - b) / s.stride[1];
        if (u < b || j >= s.width) continue;
        const std::uint64_t pixel = (std::uint64_t{n} * s.height + i) * s.width + j;
        const std::uint64_t tap = (pixel * s.kernel[0] + a) * s.kernel[1] + b;
        const auto add = *reinterpret_cast<const Pack<From, N>*>(taps + tap * channels + channel);
#pragma unroll
        for (int k = 0; k < N; ++k) sum[k] += widen(add.values[k]);
      }
    }
    Pack<To, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k)
      out.values[k] = narrow<To>(activate(s.activation, sum[k] + (bias ? bias[channel + k] : 0.f)));
    const std::uint64_t pixel = std::uint64_t{line} * s.out_width + column;
    *reinterpret_cast<Pack<To, N>*>(y + pixel * channels + channel) = out;
  }
};

template <class From, class To, int N>
__global__ void __launch_bounds__(kBlock) tap_sum_kernel(Lines lines, TapSumOfPack<From, To, N> of_pack) {
  for_each_pack(lines, of_pack);
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    part_sum_kernel(int count, std::int64_t packs, int packs_each, Activation activation,
                    const float4* __restrict__ parts, const float4* __restrict__ bias, T* __restrict__ y) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kBlock + threadIdx.x;
  if (i >= packs) return;
  float4 sum = bias ? bias[i % packs_each] : float4{};
#pragma unroll 4
  for (int k = 0; k < count; ++k) {
    const float4 part = parts[k * packs + i];
    sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
  }
  float v[4]{sum.x, sum.y, sum.z, sum.w};
  activate_all<T>(activation, v);
  Pack<T, 4> out;
#pragma unroll
  for (int k = 0; k < 4; ++k) out.values[k] = narrow<T>(v[k]);
  reinterpret_cast<Pack<T, 4>*>(y)[i] = out;
}

template <class T, int N>
void start_epilogue(const Epilogue& e, void* y, const float* bias, const void* residual,
                    cudaStream_t stream) {
  const Lines lines = lines_of(e.rows * e.height, e.width * e.channels / N);
  epilogue_kernel<T, N><<<blocks_of(lines), kBlock, 0, stream>>>(
      lines, {e, static_cast<T*>(y), bias, static_cast<const T*>(residual)});
}

template <class From, class To, int N>
void start_tap_sum(const TapSum& s, const void* taps, void* y, const float* bias, cudaStream_t stream) {
  const Lines lines = lines_of(s.rows * s.out_height, s.out_width * s.channels / N);
  tap_sum_kernel<From, To, N><<<blocks_of(lines), kBlock, 0, stream>>>(
      lines, {s, static_cast<const From*>(taps), static_cast<To*>(y), bias});
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

bool same_bytes(const void* a, const void* b, std::size_t bytes, cudaStream_t stream) {
  const auto count = static_cast<std::int64_t>(bytes / 2);
  if (count == 0) return true;
  const DeviceBuffer differs(sizeof(int));
  cuda_check(cudaMemsetAsync(differs.data(), 0, sizeof(int), stream), "comparing");
  differs_kernel<<<striding_blocks(count), kBlock, 0, stream>>>(
      static_cast<const std::uint16_t*>(a), static_cast<const std::uint16_t*>(b), count, differs.as<int>());
  cuda_check_launch("comparing");
  int found = 0;
  cuda_check(cudaMemcpyAsync(&found, differs.data(), sizeof found, cudaMemcpyDeviceToHost, stream),
             "comparing");
  cuda_check(cudaStreamSynchronize(stream), "comparing");
  return found == 0;
}

void launch_epilogue(const Epilogue& epilogue, DType type, void* y, const float* bias, const void* residual,
                     cudaStream_t stream) {
  Epilogue e = epilogue;
  if (e.rows * e.height * e.width * e.channels == 0) return;
  if (!residual || e.scale == 1) {  // pixels need not know where they are
    e.scale = 1;
    e.width *= e.height * e.rows;
    e.height = e.rows = 1;
  }
  with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    constexpr int kPack = 16 / sizeof(T);
    if (e.channels % kPack == 0)
      start_epilogue<T, kPack>(e, y, bias, residual, stream);
    else
      start_epilogue<T, 1>(e, y, bias, residual, stream);
  });
  cuda_check_launch("epilogue");
}

void launch_part_sum(int count, std::int64_t pixels, std::int64_t channels, Activation activation,
                     const float* parts, DType type, void* y, const float* bias, cudaStream_t stream) {
  const std::int64_t packs = pixels * channels / 4;
  if (packs == 0) return;
  with_float_type(type, [&](auto zero) {
    using T = decltype(zero);
    part_sum_kernel<T><<<blocks_for(packs), kBlock, 0, stream>>>(
        count, packs, static_cast<int>(channels / 4), activation, reinterpret_cast<const float4*>(parts),
        reinterpret_cast<const float4*>(bias), static_cast<T*>(y));
  });
  cuda_check_launch("sum of parts");
}

void launch_tap_sum(const TapSum& sum, DType taps_type, const void* taps, DType y_type, void* y,
                    const float* bias, cudaStream_t stream) {
  if (sum.rows * sum.out_height * sum.out_width * sum.channels == 0) return;
  with_float_type(taps_type, [&](auto from_zero) {
    with_float_type(y_type, [&](auto to_zero) {
      using From = decltype(from_zero);
      using To = decltype(to_zero);
      constexpr int kPack = 16 / (sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));
      if (sum.channels % kPack == 0)
        start_tap_sum<From, To, kPack>(sum, taps, y, bias, stream);
      else
        start_tap_sum<From, To, 1>(sum, taps, y, bias, stream);
    });
  });
  cuda_check_launch("transposed convolution");
}

}  // namespace osprey

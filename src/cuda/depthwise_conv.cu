// A thread makes a few neighbouring columns of four channels, row after row: every row of x that it needs is
// read once and added to all rows of the result whose windows hold it, whose sums stand in registers, as all
// weights do. Neighbouring threads have neighbouring channels. Sums are f32, in the order of the window.
#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/depthwise_conv.h"
#include "cuda/packed_weights.h"
#include "cuda/packs.cuh"
#include "ops/conv.h"

namespace osprey {
namespace {

constexpr int kThreads = 128, kLanes = 4;

struct Maps {
  int height, width, out_height, out_width, channels;
  int top, left;              // pads
  int strips, strip_columns;  // of the result: strips of rows below each other, and of columns side by side
  int rows_each;              // of a strip
  unsigned threads;
  Activation activation;
};

template <class T>
__device__ void load(float (&to)[kLanes], const T* from) {
  const auto pack = *reinterpret_cast<const Pack<T, kLanes>*>(from);
#pragma unroll
  for (int k = 0; k < kLanes; ++k) to[k] = widen(pack.values[k]);
}

template <class T, int kSize, int kStride, int kColumns>
__global__ void __launch_bounds__(kThreads)
    convolve(Maps maps, const T* __restrict__ x, const T* __restrict__ weights,
             const float* __restrict__ bias, T* __restrict__ y, const int* live) {
  // Rows of the result that a row of x belongs to, and columns of x under those of the thread.
  constexpr int kDepth = (kSize + kStride - 1) / kStride, kIn = (kColumns - 1) * kStride + kSize;
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= maps.threads) return;
  const unsigned packs = static_cast<unsigned>(maps.channels) / kLanes;
  const unsigned pixels = i / packs, channel = (i - pixels * packs) * kLanes;
  const unsigned lines = pixels / static_cast<unsigned>(maps.strip_columns);
  const int column = static_cast<int>(pixels - lines * maps.strip_columns) * kColumns;
  const int n = static_cast<int>(lines / maps.strips);
  const int first = static_cast<int>(lines - static_cast<unsigned>(n) * maps.strips) * maps.rows_each;
  if (live && n >= *live) return;
  const int rows = min(maps.rows_each, maps.out_height - first), left = column * kStride - maps.left;
  x += static_cast<std::int64_t>(n) * maps.height * maps.width * maps.channels + channel;
  y += (static_cast<std::int64_t>(n) * maps.out_height + first) * maps.out_width * maps.channels + channel;

  float w[kSize * kSize][kLanes], start[kLanes] = {};
#pragma unroll
  for (int tap = 0; tap < kSize * kSize; ++tap) load(w[tap], weights + tap * maps.channels + channel);
  if (bias) load(start, bias + channel);
  float sums[kDepth][kColumns][kLanes];
#pragma unroll
  for (int d = 0; d < kDepth; ++d)
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
#pragma unroll
      for (int k = 0; k < kLanes; ++k) sums[d][c][k] = start[k];

  // A step takes the last kStride rows under row `step` of the result, which is then complete. The sums of
  // row step + d stand at (phase + d) % kDepth.
  for (int base = 1 - kDepth; base < rows; base += kDepth) {
#pragma unroll
    for (int phase = 0; phase < kDepth; ++phase) {
      const int step = base + phase;
      if (step >= rows) break;
#pragma unroll
      for (int s = 0; s < kStride; ++s) {
        constexpr int kBelow = kSize - kStride;
        const int row = (first + step) * kStride + kBelow + s - maps.top;
        const bool in_rows = static_cast<unsigned>(row) < static_cast<unsigned>(maps.height);
        const T* line = x + static_cast<std::int64_t>(row) * maps.width * maps.channels;
        float v[kIn][kLanes] = {};
#pragma unroll
        for (int c = 0; c < kIn; ++c)
          if (in_rows && static_cast<unsigned>(left + c) < static_cast<unsigned>(maps.width))
            load(v[c], line + static_cast<std::int64_t>(left + c) * maps.channels);
#pragma unroll
        for (int d = 0; d < kDepth; ++d) {
          const int a = kBelow + s - d * kStride;  // of the window
          if (a < 0) continue;
          if (static_cast<unsigned>(step + d) >= static_cast<unsigned>(rows)) continue;
          auto& sum = sums[(phase + d) % kDepth];
#pragma unroll
          for (int b = 0; b < kSize; ++b)
#pragma unroll
            for (int c = 0; c < kColumns; ++c)
#pragma unroll
              for (int k = 0; k < kLanes; ++k)
                sum[c][k] = __fmaf_rn(v[c * kStride + b][k], w[a * kSize + b][k], sum[c][k]);
        }
      }
      auto& done = sums[phase];
      if (step >= 0) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          activate_all<T>(maps.activation, done[c]);
          Pack<T, kLanes> out;
#pragma unroll
          for (int k = 0; k < kLanes; ++k) out.values[k] = narrow<T>(done[c][k]);
          if (column + c < maps.out_width)
            *reinterpret_cast<Pack<T, kLanes>*>(
                y + (static_cast<std::int64_t>(step) * maps.out_width + column + c) * maps.channels) = out;
        }
      }
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
#pragma unroll
        for (int k = 0; k < kLanes; ++k) done[c][k] = start[k];
    }
  }
}

constexpr int columns_of(int kernel) { return kernel == 3 ? 4 : 2; }

class DepthwiseConvStep final : public CudaStep {
 public:
  explicit DepthwiseConvStep(CudaPrepare& p)
      : kernel_(static_cast<int>(p.input(1).dims[2])), stride_(p.op<Conv>().stride[0]) {
    const Conv& op = p.op<Conv>();
    const Shape &x = p.input(0).dims, &y = p.output(0).dims;
    const auto size = [](std::int64_t v) { return static_cast<int>(v); };
    const auto pads = op.window(kernel_, kernel_).pads_of(x[2], x[3]);
    maps_ = {.height = size(x[2]),
             .width = size(x[3]),
             .out_height = size(y[2]),
             .out_width = size(y[3]),
             .channels = size(y[1]),
             .top = pads[0],
             .left = pads[1],
             .strips = 1,
             .strip_columns = (size(y[3]) + columns_of(kernel_) - 1) / columns_of(kernel_),
             .rows_each = 1,
             .threads = 0,
             .activation = op.activation};
    divide_rows(y[0], p.device().multiprocessors);
    flops_ = 2.0 * kernel_ * kernel_ * static_cast<double>(element_count(y));
    const DType type = p.input(0).dtype;
    weights_ = packed_weight(p, 1, fmt::format("taps first {}", name_of(type)), [&](const Tensor& f32) {
      return as_type(permuted(f32, {2, 3, 1, 0}), type);
    });
    if (p.has_input(2)) bias_ = packed_vector(p, 2, DType::kF32);
  }

  void launch(CudaRun& run) override {
    if (maps_.threads == 0) return;
    with_float_type(run.in(0).dtype, [&](auto zero) {
      using T = decltype(zero);
      if (kernel_ == 3)
        stride_ == 1 ? launch_as<T, 3, 1>(run) : launch_as<T, 3, 2>(run);
      else
        stride_ == 1 ? launch_as<T, 5, 1>(run) : launch_as<T, 5, 2>(run);
    });
    cuda_check_launch("depthwise convolution");
  }
  std::string detail() const override { return "own depthwise"; }
  double flops() const override { return flops_; }

 private:
  // As many rows for a thread as leave the device full: the fewer strips, the fewer rows of x are read twice.
  void divide_rows(std::int64_t images, int multiprocessors) {
    constexpr std::int64_t kMostRows = 16, kThreadsEach = 768;
    const std::int64_t a_row = images * maps_.strip_columns * (maps_.channels / kLanes);
    const std::int64_t wanted = std::int64_t{multiprocessors} * kThreadsEach;
    const std::int64_t rows = std::clamp<std::int64_t>(a_row * maps_.out_height / wanted, 1, kMostRows);
    maps_.strips = static_cast<int>((maps_.out_height + rows - 1) / rows);
    maps_.rows_each = static_cast<int>((maps_.out_height + maps_.strips - 1) / maps_.strips);
    check(a_row * maps_.strips < (std::int64_t{1} << 32), "depthwise convolution: {} threads",
          a_row * maps_.strips);
    maps_.threads = static_cast<unsigned>(a_row * maps_.strips);
  }

  template <class T, int kSize, int kStride>
  void launch_as(CudaRun& run) const {
    convolve<T, kSize, kStride, columns_of(kSize)>
        <<<blocks_for(maps_.threads, kThreads), kThreads, 0, run.stream()>>>(
            maps_, run.in(0).as<T>(), weights_->as<T>(), bias_ ? bias_->as<float>() : nullptr,
            run.out(0).as<T>(), run.out(0).rows);
  }

  const int kernel_, stride_;
  Maps maps_;
  double flops_ = 0;
  std::shared_ptr<const DeviceBuffer> weights_, bias_;
};

bool applies(const CudaPrepare& p) {
  const Conv& op = p.op<Conv>();
  const Shape &weight = p.input(1).dims, &x = p.input(0).dims;
  const bool window = weight[2] == weight[3] && (weight[2] == 3 || weight[2] == 5) &&
                      op.stride[0] == op.stride[1] && op.stride[0] <= 2 &&
                      op.dilation == std::vector<int>{1, 1};
  return window && op.groups == x[1] && weight[0] == x[1] && x[1] % kLanes == 0 && !p.has_input(3) &&
         p.input(0).dtype == p.output(0).dtype;
}

}  // namespace

std::unique_ptr<CudaStep> depthwise_conv_step(CudaPrepare& prepare) {
  return applies(prepare) ? std::make_unique<DepthwiseConvStep>(prepare) : nullptr;
}

}  // namespace osprey

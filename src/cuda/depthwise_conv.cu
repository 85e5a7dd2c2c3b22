// A thread makes a few neighbouring columns of four channels, row after row: every row of x that it needs is
// read once and added to all rows of the result whose windows hold it, whose sums stand in registers, as all
// weights do. Neighbouring threads have neighbouring channels. Sums are f32, in the order of the window, so
// that they depend on neither the photos nor the convolutions of the same launch.
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

template <class T>
struct Problem {
  Maps maps;
  const T *x, *weights;
  const float* bias;
  T* y;
  const int* live;
  unsigned first_block;
};

template <class T>
struct Group {
  Problem<T> problems[kMostDepthwise];
  int count = 0;
  unsigned blocks = 0;
};

template <class T, int kSize, int kStride, int kColumns>
__global__ void __launch_bounds__(kThreads) convolve(const __grid_constant__ Group<T> group) {
  // Rows of the result that a row of x belongs to, and columns of x under those of the thread.
  constexpr int kDepth = (kSize + kStride - 1) / kStride, kIn = (kColumns - 1) * kStride + kSize;
  int which = 0;
  while (which + 1 < group.count && group.problems[which + 1].first_block <= blockIdx.x) ++which;
  const Problem<T>& problem = group.problems[which];
  const Maps maps = problem.maps;
  const unsigned i = (blockIdx.x - problem.first_block) * kThreads + threadIdx.x;
  if (i >= maps.threads) return;
  const unsigned packs = static_cast<unsigned>(maps.channels) / kLanes;
  const unsigned pixels = i / packs, channel = (i - pixels * packs) * kLanes;
  const unsigned lines = pixels / static_cast<unsigned>(maps.strip_columns);
  const int column = static_cast<int>(pixels - lines * maps.strip_columns) * kColumns;
  const int n = static_cast<int>(lines / maps.strips);
  const int first = static_cast<int>(lines - static_cast<unsigned>(n) * maps.strips) * maps.rows_each;
  if (problem.live && n >= *problem.live) return;
  const int rows = min(maps.rows_each, maps.out_height - first), left = column * kStride - maps.left;
  const T* const __restrict__ x =
      problem.x + static_cast<std::int64_t>(n) * maps.height * maps.width * maps.channels + channel;
  T* const __restrict__ y =
      problem.y + (static_cast<std::int64_t>(n) * maps.out_height + first) * maps.out_width * maps.channels +
      channel;

  float w[kSize * kSize][kLanes], start[kLanes] = {};
#pragma unroll
  for (int tap = 0; tap < kSize * kSize; ++tap) load(w[tap], problem.weights + tap * maps.channels + channel);
  if (problem.bias) load(start, problem.bias + channel);
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

// A convolution of a step.
class Member {
 public:
  explicit Member(CudaPrepare& p) {
    const Conv& op = p.op<Conv>();
    const Shape &x = p.input(0).dims, &y = p.output(0).dims, &weight = p.input(1).dims;
    const auto size = [](std::int64_t v) { return static_cast<int>(v); };
    const auto pads = op.window(weight[2], weight[3]).pads_of(x[2], x[3]);
    const int columns = columns_of(size(weight[2]));
    maps_ = {.height = size(x[2]),
             .width = size(x[3]),
             .out_height = size(y[2]),
             .out_width = size(y[3]),
             .channels = size(y[1]),
             .top = pads[0],
             .left = pads[1],
             .strips = 1,
             .strip_columns = (size(y[3]) + columns - 1) / columns,
             .rows_each = 1,
             .threads = 0,
             .activation = op.activation};
    divide_rows(y[0], p.device().multiprocessors);
    flops_ = 2.0 * static_cast<double>(weight[2] * weight[3]) * static_cast<double>(element_count(y));
    const DType type = p.input(0).dtype;
    weights_ = packed_weight(p, 1, fmt::format("taps first {}", name_of(type)), [&](const Tensor& f32) {
      return as_type(permuted(f32, {2, 3, 1, 0}), type);
    });
    if (p.has_input(2)) bias_ = packed_vector(p, 2, DType::kF32);
  }

  template <class T>
  void add_to(Group<T>& group, const CudaValue& x, const CudaValue& y) const {
    if (maps_.threads == 0) return;
    group.problems[group.count++] = {.maps = maps_,
                                     .x = x.as<T>(),
                                     .weights = weights_->template as<T>(),
                                     .bias = bias_ ? bias_->template as<float>() : nullptr,
                                     .y = y.as<T>(),
                                     .live = y.rows,
                                     .first_block = group.blocks};
    group.blocks += blocks_for(maps_.threads, kThreads);
  }
  double flops() const { return flops_; }

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

  Maps maps_;
  double flops_ = 0;
  std::shared_ptr<const DeviceBuffer> weights_, bias_;
};

class DepthwiseConvStep final : public CudaStep {
 public:
  explicit DepthwiseConvStep(std::span<CudaPrepare* const> members)
      : kernel_(static_cast<int>(members.front()->input(1).dims[2])),
        stride_(members.front()->op<Conv>().stride[0]) {
    check(members.size() <= kMostDepthwise, "{} depthwise convolutions in a launch", members.size());
    std::size_t inputs = 0;
    for (CudaPrepare* p : members) {
      first_inputs_.push_back(inputs);
      inputs += p->node().inputs.size();
      members_.emplace_back(*p);
    }
  }

  void launch(CudaRun& run) override {
    with_float_type(run.in(0).dtype, [&](auto zero) {
      using T = decltype(zero);
      Group<T> group{};
      for (std::size_t i = 0; i < members_.size(); ++i)
        members_[i].add_to(group, run.in(first_inputs_[i]), run.out(i));
      if (group.count == 0) return;
      if (kernel_ == 3)
        stride_ == 1 ? launch_as<T, 3, 1>(group, run) : launch_as<T, 3, 2>(group, run);
      else
        stride_ == 1 ? launch_as<T, 5, 1>(group, run) : launch_as<T, 5, 2>(group, run);
    });
    cuda_check_launch("depthwise convolution");
  }
  std::string detail() const override {
    return members_.size() == 1 ? "own depthwise"
                                : fmt::format("own depthwise, {} in one launch", members_.size());
  }
  double flops() const override {
    double sum = 0;
    for (const Member& m : members_) sum += m.flops();
    return sum;
  }

 private:
  template <class T, int kSize, int kStride>
  static void launch_as(const Group<T>& group, CudaRun& run) {
    convolve<T, kSize, kStride, columns_of(kSize)><<<group.blocks, kThreads, 0, run.stream()>>>(group);
  }

  const int kernel_, stride_;
  std::vector<Member> members_;
  std::vector<std::size_t> first_inputs_;
};

}  // namespace

bool is_depthwise_step(const Conv& op, const Shape& weight, std::int64_t channels) {
  const bool window = weight[2] == weight[3] && (weight[2] == 3 || weight[2] == 5) &&
                      op.stride[0] == op.stride[1] && op.stride[0] <= 2 &&
                      op.dilation == std::vector<int>{1, 1};
  return window && op.groups == channels && weight[0] == channels && channels % kLanes == 0 && !op.f32_out;
}

std::unique_ptr<CudaStep> depthwise_conv_step(std::span<CudaPrepare* const> members) {
  return std::make_unique<DepthwiseConvStep>(members);
}

std::unique_ptr<CudaStep> depthwise_conv_step(CudaPrepare& p) {
  if (p.has_input(3) || p.input(0).dtype != p.output(0).dtype ||
      !is_depthwise_step(p.op<Conv>(), p.input(1).dims, p.input(0).dims[1]))
    return nullptr;
  CudaPrepare* const one[]{&p};
  return depthwise_conv_step(one);
}

}  // namespace osprey

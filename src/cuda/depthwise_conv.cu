// Sums are f32, in the order of the window, so that they depend on neither the photos nor the convolutions of
// the same launch (cuda/depthwise_tiles.cuh has the division of the work).
#include "cuda/depthwise_conv.h"

#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/channel_sums.cuh"
#include "cuda/depthwise_tiles.cuh"
#include "cuda/early_launch.cuh"
#include "cuda/packed_weights.h"
#include "ops/conv.h"

namespace osprey {
namespace {

using namespace cuda;
using namespace depthwise;

constexpr int kChunkBytes = 128;  // of channels, in a tile

template <class T>
__device__ void load(float (&to)[kLanes], const T* from) {
  const auto pack = *reinterpret_cast<const Pack<T, kLanes>*>(from);
#pragma unroll
  for (int k = 0; k < kLanes; ++k) to[k] = widen(pack.values[k]);
}

template <class T>
struct Problem {
  Maps maps;
  Activation activation;
  const T *x, *weights;
  const float* bias;
  T* y;
  const int* live;
  unsigned first_block;
  long long* sums;     // summed_depthwise_step()
  float largest_part;  // of a sum
};

template <class T>
struct Group {
  Problem<T> problems[kMostDepthwise];
  int count = 0;
  unsigned blocks = 0;
  int shared_bytes = 0;
};

// What the threads of a block have of a tile's channels is added to the sums of the photo. With barriers.
__device__ void add_sums(const Maps& maps, const Tile& tile, const Share& share,
                         const long long (&of_thread)[kLanes], long long* shared, long long* sums) {
  __syncthreads();
  if (share.any(tile))
#pragma unroll
    for (int k = 0; k < kLanes; ++k)
      shared[(share.first * maps.packs + share.pack) * kLanes + k] = of_thread[k];
  __syncthreads();
  const int c = static_cast<int>(threadIdx.x);
  if (c >= tile.packs * kLanes) return;
  long long sum = 0;
  for (int s = 0; s < share.step; ++s) sum += shared[s * maps.packs * kLanes + c];
  const std::int64_t at = static_cast<std::int64_t>(tile.n) * maps.channels + tile.pack * kLanes + c;
  atomicAdd(reinterpret_cast<unsigned long long*>(sums) + at, static_cast<unsigned long long>(sum));
}

template <class T, int kSize, int kStride, bool kSums>
__global__ void __launch_bounds__(kThreads) convolve(const __grid_constant__ Group<T> group) {
  constexpr int kIn = (kColumns - 1) * kStride + kSize;  // columns of x under a thread's
  extern __shared__ uint4 memory[];
  int which = 0;
  while (which + 1 < group.count && group.problems[which + 1].first_block <= blockIdx.x) ++which;
  const Problem<T>& problem = group.problems[which];
  const Maps& maps = problem.maps;
  const Tile tile(maps, blockIdx.x - problem.first_block);
  if (problem.live && tile.n >= *problem.live) return;
  const Under under(maps, kSize, kStride);
  auto* const pixels = reinterpret_cast<Lanes<T>*>(memory);
  auto* const weights = reinterpret_cast<Lanes<T>*>(reinterpret_cast<std::byte*>(memory) +
                                                    pixel_bytes(maps, kSize, kStride, sizeof(Lanes<T>)));
  const T* const image =
      problem.x + static_cast<std::int64_t>(tile.n) * maps.height * maps.width * maps.channels;
  copy_pixels<T, kSize, kStride>(maps, tile, image, pixels);
  commit_copies();
  const Share share(maps);
  const int lanes = share.pack;
  for (int tap = share.first; tap < kSize * kSize && share.any(tile); tap += share.step)
    weights[tap * maps.packs + lanes] = *reinterpret_cast<const Lanes<T>*>(
        problem.weights + tap * maps.channels + (tile.pack + lanes) * kLanes);
  await_copies<0>();
  if constexpr (kSums) begin_next_launch();
  __syncthreads();
  if (!kSums && !share.any(tile)) return;

  const int channel = (tile.pack + lanes) * kLanes;
  float start[kLanes] = {};
  long long totals[kLanes] = {};
  if (problem.bias && share.any(tile)) load(start, problem.bias + channel);
  T* const y = problem.y +
               static_cast<std::int64_t>(tile.n) * maps.out_height * maps.out_width * maps.channels + channel;
  const int strips = share.any(tile) ? maps.tile_rows * maps.tile_strips : 0;
  for (int i = share.first; i < strips; i += share.step) {
    const int row = i / maps.tile_strips, column = (i - row * maps.tile_strips) * kColumns;
    if (tile.row + row >= maps.out_height || tile.column + column >= maps.out_width) continue;
    float sums[kColumns][kLanes];
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
#pragma unroll
      for (int k = 0; k < kLanes; ++k) sums[c][k] = start[k];
    const Lanes<T>* line = pixels + (row * kStride * under.columns + column * kStride) * maps.packs + lanes;
#pragma unroll
    for (int a = 0; a < kSize; ++a, line += under.columns * maps.packs) {
      float v[kIn][kLanes];
#pragma unroll
      for (int c = 0; c < kIn; ++c) load(v[c], line[c * maps.packs].values);
#pragma unroll
      for (int b = 0; b < kSize; ++b) {
        float w[kLanes];
        load(w, weights[(a * kSize + b) * maps.packs + lanes].values);
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
#pragma unroll
          for (int k = 0; k < kLanes; ++k) sums[c][k] = __fmaf_rn(v[c * kStride + b][k], w[k], sums[c][k]);
      }
    }
    float parts[kLanes] = {};
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (tile.column + column + c >= maps.out_width) break;
      activate_all<T>(problem.activation, sums[c]);
      Lanes<T> out;
#pragma unroll
      for (int k = 0; k < kLanes; ++k) out.values[k] = narrow<T>(sums[c][k]);
      *reinterpret_cast<Lanes<T>*>(
          y + (static_cast<std::int64_t>(tile.row + row) * maps.out_width + tile.column + column + c) *
                  maps.channels) = out;
      if constexpr (kSums)
#pragma unroll
        for (int k = 0; k < kLanes; ++k) parts[k] += sums[c][k];
    }
    if constexpr (kSums)
#pragma unroll
      for (int k = 0; k < kLanes; ++k) totals[k] += channel_sums::units_of(parts[k], problem.largest_part);
  }
  if constexpr (kSums)
    add_sums(maps, tile, share, totals, reinterpret_cast<long long*>(memory), problem.sums);
}

// A convolution of a step.
class Member {
 public:
  explicit Member(CudaPrepare& p, long long* sums = nullptr) : sums_(sums) {
    const Conv& op = p.op<Conv>();
    const Shape &x = p.input(0).dims, &y = p.output(0).dims, &weight = p.input(1).dims;
    sums_of_lane_ = y[0] * y[1];
    maps_ = maps_of(op, x, y, weight);
    activation_ = op.activation;
    const int kernel = static_cast<int>(weight[2]), bytes = static_cast<int>(size_of(p.input(0).dtype));
    const Division division{.kernel = kernel,
                            .stride = op.stride[0],
                            .chunk_packs = kChunkBytes / (kLanes * bytes),
                            .packs_together = 2,
                            .weight_bytes = kernel * kernel * kLanes * bytes,
                            .pixel_pack_bytes = kLanes * bytes};
    blocks_ = divide(maps_, y[0], division, p.device().multiprocessors);
    shared_bytes_ = shared_bytes(maps_, division);
    if (sums) shared_bytes_ = std::max<int>(shared_bytes_, kThreads * kLanes * sizeof(long long));
    const std::int64_t strips = (y[3] + kColumns - 1) / kColumns;
    largest_part_ = channel_sums::largest_part(std::max<std::int64_t>(y[2] * strips, 1));
    flops_ = 2.0 * static_cast<double>(weight[2] * weight[3]) * static_cast<double>(element_count(y));
    const DType type = p.input(0).dtype;
    weights_ = packed_weight(p, 1, fmt::format("taps first {}", name_of(type)), [&](const Tensor& f32) {
      return as_type(permuted(f32, {2, 3, 1, 0}), type);
    });
    if (p.has_input(2)) bias_ = packed_vector(p, 2, DType::kF32);
  }

  template <class T>
  void add_to(Group<T>& group, const CudaValue& x, const CudaValue& y, int lane) const {
    if (blocks_ == 0) return;
    group.shared_bytes = std::max(group.shared_bytes, shared_bytes_);
    group.problems[group.count++] = {.maps = maps_,
                                     .activation = activation_,
                                     .x = x.as<T>(),
                                     .weights = weights_->template as<T>(),
                                     .bias = bias_ ? bias_->template as<float>() : nullptr,
                                     .y = y.as<T>(),
                                     .live = y.rows,
                                     .first_block = group.blocks,
                                     .sums = sums_ ? sums_ + lane * sums_of_lane_ : nullptr,
                                     .largest_part = largest_part_};
    group.blocks += blocks_;
  }
  double flops() const { return flops_; }
  bool sums() const { return sums_ != nullptr; }

 private:
  long long* sums_;
  std::int64_t sums_of_lane_ = 0;
  float largest_part_ = 0;
  Maps maps_;
  Activation activation_;
  unsigned blocks_ = 0;
  int shared_bytes_ = 0;
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
  DepthwiseConvStep(CudaPrepare& p, long long* sums)
      : kernel_(static_cast<int>(p.input(1).dims[2])), stride_(p.op<Conv>().stride[0]), first_inputs_{0} {
    members_.emplace_back(p, sums);
  }

  void launch(CudaRun& run) override {
    with_float_type(run.in(0).dtype, [&](auto zero) {
      using T = decltype(zero);
      with_window(kernel_, stride_, [&]<int kSize, int kStride>() { launch_as<T, kSize, kStride>(run); });
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
  void launch_as(CudaRun& run) const {
    Group<T> group{};
    for (std::size_t i = 0; i < members_.size(); ++i)
      members_[i].add_to(group, run.in(first_inputs_[i]), run.out(i), run.lane());
    if (group.count == 0) return;
    const auto kernel =
        members_.front().sums() ? convolve<T, kSize, kStride, true> : convolve<T, kSize, kStride, false>;
    kernel<<<group.blocks, kThreads, static_cast<std::size_t>(group.shared_bytes), run.stream()>>>(group);
  }

  const int kernel_, stride_;
  std::vector<Member> members_;
  std::vector<std::size_t> first_inputs_;
};

}  // namespace

bool is_depthwise_step(const Conv& op, const Shape& weight, std::int64_t channels) {
  return depthwise::is_depthwise(op, weight, channels) && !op.f32_out;
}

std::unique_ptr<CudaStep> depthwise_conv_step(std::span<CudaPrepare* const> members) {
  return std::make_unique<DepthwiseConvStep>(members);
}

std::unique_ptr<CudaStep> summed_depthwise_step(CudaPrepare& p, long long* sums) {
  return std::make_unique<DepthwiseConvStep>(p, sums);
}

std::unique_ptr<CudaStep> depthwise_conv_step(CudaPrepare& p) {
  if (p.has_input(3) || p.input(0).dtype != p.output(0).dtype ||
      !is_depthwise_step(p.op<Conv>(), p.input(1).dims, p.input(0).dims[1]))
    return nullptr;
  CudaPrepare* const one[]{&p};
  return depthwise_conv_step(one);
}

}  // namespace osprey

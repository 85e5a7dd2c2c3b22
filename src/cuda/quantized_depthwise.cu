// Four neighbouring pixels of one channel are a word, whose products with four taps are one instruction
// (dp4a): a line of the window is one such product, or two. In memory the four channels of a pixel are a
// word, so that a thread transposes what it reads, and keeps words that begin at every other pixel; where a
// window begins at an odd one, its taps are moved up by one instead.
#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/conversions.cuh"
#include "cuda/depthwise_tiles.cuh"
#include "cuda/early_launch.cuh"
#include "cuda/packed_weights.h"
#include "cuda/quantized_depthwise.h"

namespace osprey {
namespace {

using namespace cuda;
using namespace depthwise;

constexpr int kChunkPacks = 16;  // of channels, in a tile

// Words of taps of a line of the window, of one channel.
constexpr int words_of(int size) { return (size + 3) / 4; }

// A word for each of four channels.
struct alignas(16) Words {
  unsigned of[kLanes];
};

struct Problem {
  Maps maps;
  Activation activation;
  StoredType to;
  Rounding rounding;  // of an integer result
  float x_scale;
  const std::byte* x;
  const Words* weights;  // [line][word of taps][pack of channels]
  const float *scales, *bias;
  std::byte* y;
  const int* live;
  unsigned first_block;
};

struct Group {
  Problem problems[kMostDepthwise];
  int count = 0;
  unsigned blocks = 0;
  int shared_bytes = 0;
};

// To shared memory; a tile without all of maps.packs leaves the rest as it is.
template <int kSize>
__device__ void copy_weights(const Problem& problem, const Tile& tile, const Share& share, Words* to) {
  const int packs = problem.maps.packs, all_packs = problem.maps.channels / kLanes;
  for (int i = share.first; i < kSize * words_of(kSize) && share.any(tile); i += share.step)
    copy_async(to + i * packs + share.pack, problem.weights + i * all_packs + tile.pack + share.pack, true);
}

// Adds the products of a line of pixels, from the first that a thread needs on, with a line of taps.
template <class T, int kSize, int kStride>
__device__ void add_line(const unsigned* pixels, const Words* weights, int packs,
                         int (&sums)[kColumns][kLanes]) {
  constexpr int kIn = (kColumns - 1) * kStride + kSize, kPairs = (kIn + 1) / 2, kWords = words_of(kSize);
  // What a byte behind the last pixel is does not matter: its tap is 0.
  unsigned low[kPairs], high[kPairs];  // of pixels 2j and 2j + 1: channels 0 and 1, channels 2 and 3
#pragma unroll
  for (int j = 0; j < kPairs; ++j) {
    const unsigned even = pixels[2 * j * packs], odd = 2 * j + 1 < kIn ? pixels[(2 * j + 1) * packs] : even;
    low[j] = __byte_perm(even, odd, 0x5140);
    high[j] = __byte_perm(even, odd, 0x7362);
  }
  Words words[kPairs];  // pixels from 2j on, of each channel
#pragma unroll
  for (int j = 0; j < kPairs; ++j) {
    const int next = j + 1 < kPairs ? j + 1 : j;
    words[j].of[0] = __byte_perm(low[j], low[next], 0x5410);
    words[j].of[1] = __byte_perm(low[j], low[next], 0x7632);
    words[j].of[2] = __byte_perm(high[j], high[next], 0x5410);
    words[j].of[3] = __byte_perm(high[j], high[next], 0x7632);
  }
  Words taps[kWords], moved[kWords];
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    taps[w] = weights[w * packs];
#pragma unroll
    for (int k = 0; k < kLanes; ++k)
      moved[w].of[k] = w == 0 ? taps[0].of[k] << 8 : __funnelshift_l(taps[w - 1].of[k], taps[w].of[k], 8);
  }
#pragma unroll
  for (int c = 0; c < kColumns; ++c)
#pragma unroll
    for (int w = 0; w < kWords; ++w)
#pragma unroll
      for (int k = 0; k < kLanes; ++k)
        sums[c][k] = dot<T>(words[c * kStride / 2 + 2 * w].of[k],
                            c * kStride % 2 == 0 ? taps[w].of[k] : moved[w].of[k], sums[c][k]);
}

template <class T>
__device__ void store_floats(const float (&v)[kLanes], std::byte* y, std::int64_t at) {
  Lanes<T> out;
#pragma unroll
  for (int k = 0; k < kLanes; ++k) out.values[k] = narrow<T>(v[k]);
  *reinterpret_cast<Lanes<T>*>(reinterpret_cast<T*>(y) + at) = out;
}

__device__ void store(const Problem& problem, const float (&v)[kLanes], std::int64_t at) {
  switch (problem.to) {
    case StoredType::kF32:
      return store_floats<float>(v, problem.y, at);
    case StoredType::kBF16:
      return store_floats<__nv_bfloat16>(v, problem.y, at);
    case StoredType::kF16:
      return store_floats<__half>(v, problem.y, at);
    default:
      *reinterpret_cast<unsigned*>(problem.y + at) = rounded(problem.rounding, v);
  }
}

template <class T, int kSize, int kStride>
__global__ void __launch_bounds__(kThreads) convolve(const __grid_constant__ Group group) {
  extern __shared__ Words memory[];
  begin_next_launch();
  int which = 0;
  while (which + 1 < group.count && group.problems[which + 1].first_block <= blockIdx.x) ++which;
  const Problem& problem = group.problems[which];
  const Maps& maps = problem.maps;
  const Tile tile(maps, blockIdx.x - problem.first_block);
  const Under under(maps, kSize, kStride);
  auto* const pixels = reinterpret_cast<unsigned*>(memory);
  Words* const weights = memory + pixel_bytes(maps, kSize, kStride, kLanes) / 16;
  const std::int64_t image = static_cast<std::int64_t>(tile.n) * maps.height * maps.width * maps.channels;
  const Share share(maps);
  copy_weights<kSize>(problem, tile, share, weights);
  const int channel = (tile.pack + share.pack) * kLanes;
  float factors[kLanes] = {}, start[kLanes] = {};
  if (share.any(tile)) {
    const auto scales = *reinterpret_cast<const Lanes<float>*>(problem.scales + channel);
    const auto bias =
        problem.bias ? *reinterpret_cast<const Lanes<float>*>(problem.bias + channel) : Lanes<float>{};
#pragma unroll
    for (int k = 0; k < kLanes; ++k) {
      factors[k] = problem.x_scale * scales.values[k];
      start[k] = bias.values[k];
    }
  }
  await_launch_before();
  if (problem.live && tile.n >= *problem.live) return;
  copy_pixels<T, kSize, kStride>(maps, tile, reinterpret_cast<const T*>(problem.x) + image,
                                 reinterpret_cast<Lanes<T>*>(pixels));
  commit_copies();
  await_copies<0>();
  __syncthreads();
  if (!share.any(tile)) return;

  const std::int64_t map = static_cast<std::int64_t>(tile.n) * maps.out_height * maps.out_width;
  for (int i = share.first; i < maps.tile_rows * maps.tile_strips; i += share.step) {
    const int row = i / maps.tile_strips, column = (i - row * maps.tile_strips) * kColumns;
    if (tile.row + row >= maps.out_height || tile.column + column >= maps.out_width) continue;
    int sums[kColumns][kLanes];
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
#pragma unroll
      for (int k = 0; k < kLanes; ++k) sums[c][k] = kRounderBits;
    const unsigned* line =
        pixels + (row * kStride * under.columns + column * kStride) * maps.packs + share.pack;
#pragma unroll
    for (int a = 0; a < kSize; ++a, line += under.columns * maps.packs)
      add_line<T, kSize, kStride>(line, weights + a * words_of(kSize) * maps.packs + share.pack, maps.packs,
                                  sums);
    const std::int64_t first =
        map + static_cast<std::int64_t>(tile.row + row) * maps.out_width + tile.column + column;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (tile.column + column + c >= maps.out_width) break;
      float v[kLanes];
#pragma unroll
      for (int k = 0; k < kLanes; ++k)
        v[k] = __fmaf_rn(integer_above_rounder(sums[c][k]), factors[k], start[k]);
      activate_all<__half>(problem.activation, v);
      store(problem, v, (first + c) * maps.channels + channel);
    }
  }
}

// [channels,1,size,size] as [line][word of taps][channel][4 taps], zeros behind the last tap.
Tensor packed_taps(const Tensor& weight) {
  const std::int64_t channels = weight.dim(0), size = weight.dim(2),
                     row = words_of(static_cast<int>(size)) * 4;
  Tensor out = Tensor::zeros(DType::kI8, {size, row / 4, channels, 4});
  const auto from = weight.values<std::int8_t>();
  const auto to = out.mutable_values<std::int8_t>();
  for (std::int64_t o = 0; o < channels; ++o)
    for (std::int64_t a = 0; a < size; ++a)
      for (std::int64_t b = 0; b < size; ++b)
        to[static_cast<std::size_t>(((a * row / 4 + b / 4) * channels + o) * 4 + b % 4)] =
            from[static_cast<std::size_t>((o * size + a) * size + b)];
  return out;
}

// A convolution of a step.
class Member {
 public:
  explicit Member(CudaPrepare& p) : op_(p.op<QuantizedConv>()) {
    const Shape &x = p.input(0).dims, &y = p.output(0).dims, &weight = p.input(1).dims;
    maps_ = maps_of(op_, x, y, weight);
    const int kernel = static_cast<int>(weight[2]);
    const Division division{.kernel = kernel,
                            .stride = op_.stride[0],
                            .chunk_packs = kChunkPacks,
                            .packs_together = kTogether<std::int8_t>,
                            .weight_bytes = kernel * words_of(kernel) * static_cast<int>(sizeof(Words)),
                            .pixel_pack_bytes = kLanes};
    blocks_ = divide(maps_, y[0], division, p.device().multiprocessors);
    shared_bytes_ = shared_bytes(maps_, division);
    flops_ = 2.0 * static_cast<double>(weight[2] * weight[3]) * static_cast<double>(element_count(y));
    weights_ = p.shared(fmt::format("depthwise taps:{}", p.node().inputs[1]),
                        [&] { return DeviceBuffer::holding(packed_taps(p.weight(1)).bytes()); });
    scales_ = packed_vector(p, 2, DType::kF32);
    if (p.has_input(3)) bias_ = packed_vector(p, 3, DType::kF32);
  }

  void add_to(Group& group, const CudaValue& x, const CudaValue& y) const {
    if (blocks_ == 0) return;
    const IntegerType to = op_.to == StoredType::kU8 ? IntegerType::kU8 : IntegerType::kI8;
    group.shared_bytes = std::max(group.shared_bytes, shared_bytes_);
    group.problems[group.count++] = {.maps = maps_,
                                     .activation = op_.activation,
                                     .to = op_.to,
                                     .rounding = rounding_to(to, op_.y_scale),
                                     .x_scale = op_.x_scale,
                                     .x = x.data,
                                     .weights = weights_->as<Words>(),
                                     .scales = scales_->as<float>(),
                                     .bias = bias_ ? bias_->as<float>() : nullptr,
                                     .y = y.data,
                                     .live = y.rows,
                                     .first_block = group.blocks};
    group.blocks += blocks_;
  }
  double flops() const { return flops_; }

 private:
  QuantizedConv op_;
  Maps maps_;
  unsigned blocks_ = 0;
  int shared_bytes_ = 0;
  double flops_ = 0;
  std::shared_ptr<const DeviceBuffer> weights_, scales_, bias_;
};

class QuantizedDepthwiseStep final : public CudaStep {
 public:
  explicit QuantizedDepthwiseStep(std::span<CudaPrepare* const> members)
      : early_(may_launch_early(members.front()->device())),
        kernel_(static_cast<int>(members.front()->input(1).dims[2])),
        stride_(members.front()->op<QuantizedConv>().stride[0]) {
    check(members.size() <= kMostDepthwise, "{} depthwise convolutions in a launch", members.size());
    std::size_t inputs = 0;
    for (CudaPrepare* p : members) {
      first_inputs_.push_back(inputs);
      inputs += p->node().inputs.size();
      members_.emplace_back(*p);
    }
  }

  void launch(CudaRun& run) override {
    Group group{};
    for (std::size_t i = 0; i < members_.size(); ++i)
      members_[i].add_to(group, run.in(first_inputs_[i]), run.out(i));
    if (group.count == 0) return;
    with_window(kernel_, stride_, [&]<int kSize, int kStride>() {
      if (run.in(0).dtype == DType::kI8)
        launch_as<std::int8_t, kSize, kStride>(group, run.stream());
      else
        launch_as<std::uint8_t, kSize, kStride>(group, run.stream());
    });
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
  void launch_as(const Group& group, cudaStream_t stream) const {
    launch_early(convolve<T, kSize, kStride>,
                 {.blocks = group.blocks,
                  .threads = kThreads,
                  .shared_bytes = group.shared_bytes,
                  .early = early_,
                  .stream = stream},
                 group);
  }

  const bool early_;
  const int kernel_, stride_;
  std::vector<Member> members_;
  std::vector<std::size_t> first_inputs_;
};

}  // namespace

bool is_quantized_depthwise(const QuantizedConv& op, const Shape& weight, std::int64_t channels) {
  return is_depthwise(op, weight, channels);
}

std::unique_ptr<CudaStep> quantized_depthwise_step(std::span<CudaPrepare* const> members) {
  return std::make_unique<QuantizedDepthwiseStep>(members);
}

std::unique_ptr<CudaStep> quantized_depthwise_step(CudaPrepare& p) {
  if (p.has_input(4) || !is_quantized_depthwise(p.op<QuantizedConv>(), p.input(1).dims, p.input(0).dims[1]))
    return nullptr;
  CudaPrepare* const one[]{&p};
  return quantized_depthwise_step(one);
}

}  // namespace osprey

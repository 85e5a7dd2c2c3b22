// A block makes a tile of the result, of some channels: it copies what lies under the tile into shared
// memory, all copies at once, since a single thread's loads would wait for each other. A thread then makes a
// few neighbouring columns of four channels at a time; neighbouring threads have neighbouring channels. Sums
// are f32, in the order of the window, so that they depend on neither the photos nor the convolutions of the
// same launch.
#include <algorithm>

#include "cuda/activations.cuh"
#include "cuda/depthwise_conv.h"
#include "cuda/packed_weights.h"
#include "cuda/packs.cuh"
#include "cuda/tensor_core.cuh"
#include "ops/conv.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kThreads = 128, kLanes = 4, kColumns = 4;  // channels and columns that a thread makes at a time
constexpr int kMostShared = 48 << 10;

template <class T>
using Lanes = Pack<T, kLanes>;

struct Maps {
  int height, width, out_height, out_width, channels;
  int top, left;                         // pads
  int tile_rows, tile_strips;            // of the result: rows, and strips of kColumns pixels
  int packs;                             // of kLanes channels, of a tile at most
  int tiles_down, tiles_across, chunks;  // chunks: of channels
  Activation activation;
};

// The pixels of x under a tile.
struct Under {
  int rows, columns;
  __host__ __device__ Under(const Maps& m, int size, int stride)
      : rows((m.tile_rows - 1) * stride + size), columns((m.tile_strips * kColumns - 1) * stride + size) {}
};

// Of a tile: its pixels and weights.
int shared_bytes(const Maps& m, int size, int stride, int number_bytes) {
  const Under under(m, size, stride);
  return (under.rows * under.columns + size * size) * m.packs * kLanes * number_bytes;
}

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
  int shared_bytes = 0;
};

// A block's part of a result.
struct Tile {
  int n, row, column, pack, packs;  // the first ones; packs: how many

  __device__ Tile(const Maps& m, unsigned i) {
    const auto take = [&](int count) {
      const unsigned rest = i / static_cast<unsigned>(count);
      const int at = static_cast<int>(i - rest * static_cast<unsigned>(count));
      i = rest;
      return at;
    };
    pack = take(m.chunks) * m.packs;
    column = take(m.tiles_across) * m.tile_strips * kColumns;
    row = take(m.tiles_down) * m.tile_rows;
    n = static_cast<int>(i);
    packs = min(m.packs, m.channels / kLanes - pack);
  }
};

// The pixels under a tile, zeros where the map ends, each kPacks packs at a time: two are 16 bytes of a half
// type, which are copied while the thread goes on.
template <class T, int kPacks, int kSize, int kStride>
__device__ void copy_pixels(const Maps& maps, const Tile& tile, const T* image, Lanes<T>* to) {
  constexpr int kBytes = kPacks * static_cast<int>(sizeof(Lanes<T>));
  const Under under(maps, kSize, kStride);
  const int pieces = tile.packs / kPacks, top = tile.row * kStride - maps.top,
            left = tile.column * kStride - maps.left;
  const int columns_each = kThreads / pieces, rows_each = columns_each / under.columns;
  const int pieces_step = kThreads % pieces, columns_step = columns_each % under.columns;
  const int pixel = static_cast<int>(threadIdx.x) / pieces;
  int piece = static_cast<int>(threadIdx.x) - pixel * pieces;
  int row = pixel / under.columns, column = pixel - row * under.columns;
  while (row < under.rows) {
    const int y = top + row, x = left + column;
    const bool there = static_cast<unsigned>(y) < static_cast<unsigned>(maps.height) &&
                       static_cast<unsigned>(x) < static_cast<unsigned>(maps.width);
    const T* const from = image + (static_cast<std::int64_t>(y) * maps.width + x) * maps.channels +
                          (tile.pack + piece * kPacks) * kLanes;
    Lanes<T>* const at = to + (row * under.columns + column) * maps.packs + piece * kPacks;
    if constexpr (kBytes == 16)
      copy_async(at, there ? from : image, there);
    else
      *at = there ? *reinterpret_cast<const Lanes<T>*>(from) : Lanes<T>{};
    piece += pieces_step;
    column += columns_step;
    row += rows_each;
    if (piece >= pieces) piece -= pieces, ++column;
    if (column >= under.columns) column -= under.columns, ++row;
  }
}

template <class T, int kSize, int kStride>
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
  Lanes<T>* const weights = pixels + under.rows * under.columns * maps.packs;
  const T* const image =
      problem.x + static_cast<std::int64_t>(tile.n) * maps.height * maps.width * maps.channels;
  if (sizeof(Lanes<T>) < 16 && maps.channels % (2 * kLanes) == 0)
    copy_pixels<T, 16 / sizeof(Lanes<T>), kSize, kStride>(maps, tile, image, pixels);
  else
    copy_pixels<T, 1, kSize, kStride>(maps, tile, image, pixels);
  commit_copies();
  const int lanes = static_cast<int>(threadIdx.x) % maps.packs,
            first = static_cast<int>(threadIdx.x) / maps.packs, step = kThreads / maps.packs;
  for (int tap = first; tap < kSize * kSize && first < step && lanes < tile.packs; tap += step)
    weights[tap * maps.packs + lanes] = *reinterpret_cast<const Lanes<T>*>(
        problem.weights + tap * maps.channels + (tile.pack + lanes) * kLanes);
  await_copies<0>();
  __syncthreads();
  if (first >= step || lanes >= tile.packs) return;

  const int channel = (tile.pack + lanes) * kLanes;
  float start[kLanes] = {};
  if (problem.bias) load(start, problem.bias + channel);
  T* const y = problem.y +
               static_cast<std::int64_t>(tile.n) * maps.out_height * maps.out_width * maps.channels + channel;
  for (int i = first; i < maps.tile_rows * maps.tile_strips; i += step) {
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
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (tile.column + column + c >= maps.out_width) break;
      activate_all<T>(maps.activation, sums[c]);
      Lanes<T> out;
#pragma unroll
      for (int k = 0; k < kLanes; ++k) out.values[k] = narrow<T>(sums[c][k]);
      *reinterpret_cast<Lanes<T>*>(
          y + (static_cast<std::int64_t>(tile.row + row) * maps.out_width + tile.column + column + c) *
                  maps.channels) = out;
    }
  }
}

// A convolution of a step.
class Member {
 public:
  explicit Member(CudaPrepare& p) {
    const Conv& op = p.op<Conv>();
    const Shape &x = p.input(0).dims, &y = p.output(0).dims, &weight = p.input(1).dims;
    const auto size = [](std::int64_t v) { return static_cast<int>(v); };
    const auto pads = op.window(weight[2], weight[3]).pads_of(x[2], x[3]);
    maps_ = {.height = size(x[2]),
             .width = size(x[3]),
             .out_height = size(y[2]),
             .out_width = size(y[3]),
             .channels = size(y[1]),
             .top = pads[0],
             .left = pads[1],
             .tile_rows = 1,
             .tile_strips = 1,
             .packs = 1,
             .tiles_down = 1,
             .tiles_across = 1,
             .chunks = 1,
             .activation = op.activation};
    divide(y[0], size(weight[2]), op.stride[0], static_cast<int>(size_of(p.input(0).dtype)),
           p.device().multiprocessors);
    flops_ = 2.0 * static_cast<double>(weight[2] * weight[3]) * static_cast<double>(element_count(y));
    const DType type = p.input(0).dtype;
    weights_ = packed_weight(p, 1, fmt::format("taps first {}", name_of(type)), [&](const Tensor& f32) {
      return as_type(permuted(f32, {2, 3, 1, 0}), type);
    });
    if (p.has_input(2)) bias_ = packed_vector(p, 2, DType::kF32);
  }

  template <class T, int kSize, int kStride>
  void add_to(Group<T>& group, const CudaValue& x, const CudaValue& y) const {
    if (blocks_ == 0) return;
    const int bytes = shared_bytes(maps_, kSize, kStride, static_cast<int>(sizeof(T)));
    group.shared_bytes = std::max(group.shared_bytes, bytes);
    group.problems[group.count++] = {.maps = maps_,
                                     .x = x.as<T>(),
                                     .weights = weights_->template as<T>(),
                                     .bias = bias_ ? bias_->template as<float>() : nullptr,
                                     .y = y.as<T>(),
                                     .live = y.rows,
                                     .first_block = group.blocks};
    group.blocks += blocks_;
  }
  double flops() const { return flops_; }

 private:
  // The larger a tile, the fewer pixels are read for two; but there should be enough for all of the device.
  void divide(std::int64_t images, int kernel, int stride, int number_bytes, int multiprocessors) {
    constexpr int kChannelBytes = 128, kMostRows = 8;
    const auto parts = [](int all, int each) { return (all + each - 1) / each; };
    const int packs = maps_.channels / kLanes;
    maps_.chunks = parts(packs, kChannelBytes / (kLanes * number_bytes));
    maps_.packs = parts(packs, maps_.chunks);
    if (packs % 2 == 0) maps_.packs += maps_.packs % 2;  // copied by twos
    maps_.chunks = parts(packs, maps_.packs);
    maps_.tile_strips = std::clamp(parts(maps_.out_width, kColumns), 1, stride == 1 ? 4 : 2);
    maps_.tiles_across = parts(maps_.out_width, maps_.tile_strips * kColumns);
    maps_.tile_rows = std::clamp(maps_.out_height, 1, kMostRows);
    const auto blocks = [&] {
      maps_.tiles_down = parts(maps_.out_height, maps_.tile_rows);
      return images * maps_.tiles_down * maps_.tiles_across * maps_.chunks;
    };
    while (shared_bytes(maps_, kernel, stride, number_bytes) > kMostShared) --maps_.tile_rows;
    while (maps_.tile_rows > 1 && blocks() < 2 * multiprocessors) maps_.tile_rows = parts(maps_.tile_rows, 2);
    check(blocks() < (std::int64_t{1} << 31), "depthwise convolution: {} tiles", blocks());
    blocks_ = static_cast<unsigned>(blocks());
  }

  Maps maps_;
  unsigned blocks_ = 0;
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
      if (kernel_ == 3)
        stride_ == 1 ? launch_as<T, 3, 1>(run) : launch_as<T, 3, 2>(run);
      else
        stride_ == 1 ? launch_as<T, 5, 1>(run) : launch_as<T, 5, 2>(run);
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
      members_[i].template add_to<T, kSize, kStride>(group, run.in(first_inputs_[i]), run.out(i));
    if (group.count == 0) return;
    convolve<T, kSize, kStride>
        <<<group.blocks, kThreads, static_cast<std::size_t>(group.shared_bytes), run.stream()>>>(group);
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

// In f16 and bf16 with 16, 32, 64 or 128 prototypes: a warp takes 32 rows, whose embeddings it keeps in
// registers, and multiplies them on the tensor cores with 8 pixels at a time. What comes out is far more than
// what goes in, so nothing is staged: which prototype an index of the product's depth means is free as long
// as both operands agree, and each lane takes some that lie together.
//
// Everything else, and f32: a thread a pixel, for some rows at a time.
#include <algorithm>

#include "cuda/boxes.cuh"
#include "cuda/packs.cuh"
#include "cuda/tensor_core.cuh"
#include "ops/mask_logits.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr unsigned kLanes = 0xffffffffu;
constexpr int kRows = 32;  // of a block

template <class T>
struct Job {
  const T *embeddings, *prototypes;
  const RoiRow* boxes;  // null: rows_per_image of each image
  float* y;
  int rows, pixels, depth, rows_per_image;
  const int* live;

  __device__ int count() const { return live_rows(live, rows); }
  __device__ int image_of(int row) const {
    return boxes ? static_cast<int>(boxes[row].image) : row / rows_per_image;
  }
  __device__ const T* pixel(int image, int p) const {
    return prototypes + (static_cast<std::int64_t>(image) * pixels + p) * depth;
  }
  __device__ float* out(int row, int p) const { return y + static_cast<std::int64_t>(row) * pixels + p; }
};

// Calls f(image, begin, end) for each run of rows of the block, from `first` on, that are of one image.
template <class T, class F>
__device__ void each_image(const Job<T>& job, int first, int count, F&& f) {
  const int lane = static_cast<int>(threadIdx.x % 32), rows = min(kRows, count - first);
  const int image = job.image_of(first + min(lane, rows - 1));
  const int before = __shfl_up_sync(kLanes, image, 1);
  unsigned starts = __ballot_sync(kLanes, lane == 0 || image != before);
  while (starts != 0) {
    const int begin = __ffs(static_cast<int>(starts)) - 1;
    starts &= starts - 1;
    const int end = starts != 0 ? __ffs(static_cast<int>(starts)) - 1 : rows;
    f(__shfl_sync(kLanes, image, begin), first + begin, first + end);
  }
}

namespace tensor_cores {

constexpr int kWarps = 8;
constexpr int kPixels = 8, kTiles = 4;  // of a product; products of a warp side by side

// kCount elements as words, read at once.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Words {
  unsigned v[kCount / 2];
};

// Lane t has, of each part of 32 prototypes (or 16), the 8 (or 4) from 8t on: two steps of the depth (or
// one).
template <class T, int P>
struct Depth {
  static constexpr int kEach = P < 32 ? P / 4 : 8, kParts = P / (4 * kEach), kSteps = kEach / 4;
  using Part = Words<T, kEach>;
  Part parts[kParts];

  __device__ void read(const T* from) {
    const int t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < kParts; ++i) parts[i] = *reinterpret_cast<const Part*>(from + (4 * i + t) * kEach);
  }
};

template <class T, int P>
__global__ void __launch_bounds__(32 * kWarps) multiply(const __grid_constant__ Job<T> job) {
  using Channels = Depth<T, P>;
  const int first = static_cast<int>(blockIdx.y) * kRows, count = job.count();
  if (first >= count) return;
  const int lane = static_cast<int>(threadIdx.x % 32), g = lane / 4, t = lane % 4;
  Channels rows[4];  // first + g, + 8, + 16, + 24
#pragma unroll
  for (int r = 0; r < 4; ++r)
    rows[r].read(job.embeddings + static_cast<std::int64_t>(min(first + g + 8 * r, count - 1)) * P);
  const int warp = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x / 32);
  const int begin = warp * kTiles * kPixels;
  each_image(job, first, count, [&](int image, int row_begin, int row_end) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int pixel = begin + tile * kPixels;
      Channels channels;
      channels.read(job.pixel(image, min(pixel + g, job.pixels - 1)));
      float sums[2][4] = {};
#pragma unroll
      for (int i = 0; i < Channels::kParts; ++i)
#pragma unroll
        for (int s = 0; s < Channels::kSteps; ++s)
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            const auto &low = rows[2 * m].parts[i], &high = rows[2 * m + 1].parts[i];
            const unsigned a[4] = {low.v[2 * s], high.v[2 * s], low.v[2 * s + 1], high.v[2 * s + 1]};
            multiply_add<T>(sums[m], a, {channels.parts[i].v[2 * s], channels.parts[i].v[2 * s + 1]});
          }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int row = first + g + 8 * r, p = pixel + 2 * t;
        if (row < row_begin || row >= row_end || p >= job.pixels) continue;
        const float low = sums[r / 2][r % 2 * 2], high = sums[r / 2][r % 2 * 2 + 1];
        if (job.pixels % 2 == 0) {
          *reinterpret_cast<float2*>(job.out(row, p)) = {low, high};
        } else {
          *job.out(row, p) = low;
          if (p + 1 < job.pixels) *job.out(row, p + 1) = high;
        }
      }
    }
  });
}

}  // namespace tensor_cores

constexpr int kAtOnce = 16;  // rows that a thread sums side by side

template <class T>
__global__ void __launch_bounds__(kBlock) multiply_plainly(const __grid_constant__ Job<T> job) {
  extern __shared__ float embeddings[];  // [kRows, depth]
  const int first = static_cast<int>(blockIdx.y) * kRows, count = job.count();
  if (first >= count) return;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * job.depth; i += kBlock)
    embeddings[i] =
        widen(job.embeddings[static_cast<std::int64_t>(min(first + i / job.depth, count - 1)) * job.depth +
                             i % job.depth]);
  __syncthreads();
  const int pixel = static_cast<int>(blockIdx.x) * kBlock + static_cast<int>(threadIdx.x);
  each_image(job, first, count, [&](int image, int row_begin, int row_end) {
    const T* const channels = job.pixel(image, min(pixel, job.pixels - 1));
    for (int begin = first; begin < row_end; begin += kAtOnce) {
      if (begin + kAtOnce <= row_begin) continue;
      float sums[kAtOnce] = {};
      for (int c = 0; c < job.depth; ++c) {
        const float v = widen(channels[c]);
#pragma unroll
        for (int r = 0; r < kAtOnce; ++r)
          sums[r] = __fmaf_rn(embeddings[(begin - first + r) * job.depth + c], v, sums[r]);
      }
#pragma unroll
      for (int r = 0; r < kAtOnce; ++r)
        if (begin + r >= row_begin && begin + r < row_end && pixel < job.pixels)
          *job.out(begin + r, pixel) = sums[r];
    }
  });
}

class MaskLogitsStep final : public CudaStep {
 public:
  explicit MaskLogitsStep(CudaPrepare& p)
      : has_boxes_(p.has_input(2)), rows_(p.input(0).dims[0]), depth_(static_cast<int>(p.input(0).dims[1])) {
    const Shape& maps = p.input(1).dims;
    images_ = maps[0];
    pixels_ = maps[2] * maps[3];
    require(rows_ <= INT_MAX / 2 && pixels_ <= INT_MAX / 2 && (rows_ + kRows - 1) / kRows <= 65535,
            "{}: {} masks of {} pixels are more than the GPU takes", p.node().name, rows_, pixels_);
    fast_ =
        p.input(0).dtype != DType::kF32 && (depth_ == 16 || depth_ == 32 || depth_ == 64 || depth_ == 128);
    if (fast_) return;
    shared_ = static_cast<std::size_t>(kRows) * static_cast<std::size_t>(depth_) * sizeof(float);
    require(shared_ <= 49152, "{}: the GPU takes up to 384 prototypes", p.node().name);
  }

  void launch(CudaRun& run) override {
    if (rows_ == 0 || images_ == 0) return;
    with_float_type(run.in(0).dtype, [&](auto zero) {
      using T = decltype(zero);
      const Job<T> job{.embeddings = run.in(0).as<T>(),
                       .prototypes = run.in(1).as<T>(),
                       .boxes = has_boxes_ ? run.in(2).as<RoiRow>() : nullptr,
                       .y = run.out(0).as<float>(),
                       .rows = static_cast<int>(rows_),
                       .pixels = static_cast<int>(pixels_),
                       .depth = depth_,
                       .rows_per_image = static_cast<int>(std::max<std::int64_t>(rows_ / images_, 1)),
                       .live = run.in(0).rows};
      const unsigned row_blocks = blocks_for(rows_, kRows);
      if constexpr (sizeof(T) == 2) {
        using namespace tensor_cores;
        if (fast_) {
          const dim3 grid(blocks_for(pixels_, kWarps * kTiles * kPixels), row_blocks);
          const auto kernel = depth_ == 16   ? multiply<T, 16>
                              : depth_ == 32 ? multiply<T, 32>
                              : depth_ == 64 ? multiply<T, 64>
                                             : multiply<T, 128>;
          kernel<<<grid, 32 * kWarps, 0, run.stream()>>>(job);
          return;
        }
      }
      multiply_plainly<T><<<dim3(blocks_for(pixels_), row_blocks), kBlock, shared_, run.stream()>>>(job);
    });
    cuda_check_launch("mask_logits");
  }

  std::string detail() const override { return fast_ ? "own, tensor cores" : "own"; }
  double flops() const override {
    return 2.0 * static_cast<double>(rows_ * pixels_) * static_cast<double>(depth_);
  }

 private:
  const bool has_boxes_;
  const std::int64_t rows_;
  const int depth_;
  std::int64_t images_ = 0, pixels_ = 0;
  bool fast_ = false;
  std::size_t shared_ = 0;
};

}  // namespace

CudaKernel mask_logits_cuda() {
  return {.op = &kOpInfo<MaskLogits>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<MaskLogitsStep>(p);
          }};
}

}  // namespace osprey

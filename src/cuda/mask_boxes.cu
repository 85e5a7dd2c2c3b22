// A block a mask.
#include <climits>

#include "cuda/block.cuh"
#include "cuda/box_logits.cuh"
#include "cuda/numbers.cuh"
#include "ops/mask_boxes.h"

namespace osprey {
namespace {

using namespace cuda;

// Of the pixels above 0: rows and columns, first and last.
struct Extents {
  int top = INT_MAX, bottom = -1, left = INT_MAX, right = -1;

  __device__ void add(float logit, int y, int x) {
    if (!(logit > 0)) return;
    top = min(top, y), bottom = max(bottom, y), left = min(left, x), right = max(right, x);
  }
  __device__ void join(const Extents& o) {
    top = min(top, o.top), bottom = max(bottom, o.bottom), left = min(left, o.left),
    right = max(right, o.right);
  }
};

__device__ Extents of_warp(Extents e) {
  for (int step = 16; step > 0; step /= 2)
    e.join({__shfl_xor_sync(kAll, e.top, step), __shfl_xor_sync(kAll, e.bottom, step),
            __shfl_xor_sync(kAll, e.left, step), __shfl_xor_sync(kAll, e.right, step)});
  return e;
}

__device__ void write_box(const Extents& e, int height, int width, float* box) {
  const auto h = static_cast<float>(height), w = static_cast<float>(width);
  float x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  if (e.bottom >= 0) {
    x0 = static_cast<float>(e.left) / w, x1 = static_cast<float>(e.right + 1) / w;
    y0 = static_cast<float>(e.top) / h, y1 = static_cast<float>(e.bottom + 1) / h;
  }
  box[0] = box_logit((x0 + x1) / 2);
  box[1] = box_logit((y0 + y1) / 2);
  box[2] = box_logit(x1 - x0);
  box[3] = box_logit(y1 - y0);
}

// kEach pixels of a row at once.
template <int kEach>
__global__ void __launch_bounds__(kBlock)
    enclose(const float* logits, int height, int width, float* boxes, const int* live) {
  struct alignas(4 * kEach) Pixels {
    float v[kEach];
  };
  __shared__ Extents warps[kBlock / 32];
  const auto m = static_cast<std::int64_t>(blockIdx.x);
  if (live && m >= *live) return;
  const auto* const pixels = reinterpret_cast<const Pixels*>(logits + m * height * width);
  const int columns = width / kEach;
  Extents e;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < height * columns; i += kBlock) {
    const Pixels p = pixels[i];
    const int y = i / columns, x = (i - y * columns) * kEach;
#pragma unroll
    for (int k = 0; k < kEach; ++k) e.add(p.v[k], y, x + k);
  }
  e = of_warp(e);
  if (lane_of_thread() == 0) warps[warp_of_thread()] = e;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kBlock / 32; ++w) e.join(warps[w]);
  write_box(e, height, width, boxes + m * 4);
}

}  // namespace

CudaKernel mask_boxes_cuda() {
  return {.op = &kOpInfo<MaskBoxes>, .dtypes = {DType::kF32}, .prepare = [](CudaPrepare&) {
            return cuda_step([](CudaRun& run) {
              const CudaValue& x = run.in(0);
              if (x.dims[0] == 0) return;
              const auto height = static_cast<int>(x.dims[1]), width = static_cast<int>(x.dims[2]);
              const auto kernel = width % 4 == 0 ? enclose<4> : enclose<1>;
              kernel<<<static_cast<unsigned>(x.dims[0]), kBlock, 0, run.stream()>>>(
                  x.as<float>(), height, width, run.out(0).as<float>(), x.rows);
              cuda_check_launch("mask_boxes");
            });
          }};
}

}  // namespace osprey

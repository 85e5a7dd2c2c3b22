// A block a row of the result, 16 bytes a thread.
#include <array>
#include <type_traits>

#include "backends/network_size.h"
#include "cuda/kernel.h"
#include "cuda/numbers.cuh"
#include "ops/normalize_image.h"

namespace osprey {
namespace {

constexpr int kChannels = 3;

struct Channels {
  float mean[kChannels], std[kChannels];
  float border[kChannels];  // right of and below the photo

  // Beginning with that channel. Its elements are chosen, not indexed, so that they stay in registers.
  __device__ Channels from(int first) const {
    const auto turn = [first](const float* in, float* out) {
      out[0] = first == 0 ? in[0] : first == 1 ? in[1] : in[2];
      out[1] = first == 0 ? in[1] : first == 1 ? in[2] : in[0];
      out[2] = first == 0 ? in[2] : first == 1 ? in[0] : in[1];
    };
    Channels out;
    turn(mean, out.mean), turn(std, out.std), turn(border, out.border);
    return out;
  }
};

struct Normalization {
  Channels channels;
  float scale;
  int canvas_height, canvas_width;  // that photos lie in a corner of; 0: they end where boxes are clipped

  Normalization(const NormalizeImage& op, DType pixels)
      : scale(op.scale), canvas_height(op.stretched ? 0 : op.canvas_height), canvas_width(op.canvas_width) {
    const bool filled = op.canvas_height > 0 && pixels == DType::kU8;
    for (std::size_t c = 0; c < kChannels; ++c) {
      channels.mean[c] = op.mean.empty() ? 0 : op.mean[c];
      channels.std[c] = op.std.empty() ? 1 : op.std[c];
      channels.border[c] = filled ? (op.fill[c] * scale - op.mean[c]) / op.std[c] : 0;
    }
  }

  // What of the slot is photo; g: its row of `geometry`.
  __device__ ImageSize photo(const float* g) const {
    if (canvas_height > 0)
      return size_on_canvas(static_cast<int>(g[5]), static_cast<int>(g[4]), canvas_width, canvas_height);
    return {static_cast<int>(g[1]), static_cast<int>(g[0])};
  }
};

// kAligned: rows of the result start at multiples of 16 bytes. Of float pixels the whole slot is the photo.
template <class Pixel, class T, bool kAligned>
__global__ void normalize(Normalization op, const Pixel* pixels, int pixel_height, int pixel_width,
                          const float* geometry, T* out, int height, int width) {
  constexpr int kEach = 16 / static_cast<int>(sizeof(T));
  const int n = static_cast<int>(blockIdx.x) / height, y = static_cast<int>(blockIdx.x) % height;
  __shared__ ImageSize photo;
  if (threadIdx.x == 0)
    photo = std::is_same_v<Pixel, float> ? ImageSize{pixel_width, pixel_height} : op.photo(geometry + 6 * n);
  __syncthreads();
  const int live = y < min(photo.height, pixel_height) ? kChannels * min(photo.width, pixel_width) : 0;
  const int count = kChannels * width;
  const Pixel* const from =
      pixels + (static_cast<std::int64_t>(n) * pixel_height + y) * pixel_width * kChannels;
  T* const to = out + static_cast<std::int64_t>(blockIdx.x) * count;
  for (int begin = static_cast<int>(threadIdx.x) * kEach; begin < count; begin += kBlock * kEach) {
    alignas(16) T values[kEach];
    const Channels rotated = op.channels.from(begin % kChannels);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int c = i % kChannels;
      values[i] =
          narrow<T>(begin + i < live
                        ? (static_cast<float>(from[begin + i]) * op.scale - rotated.mean[c]) / rotated.std[c]
                        : rotated.border[c]);
    }
    if constexpr (kAligned) {
      *reinterpret_cast<uint4*>(to + begin) = *reinterpret_cast<const uint4*>(values);
    } else {
      for (int i = 0; i < kEach && begin + i < count; ++i) to[begin + i] = values[i];
    }
  }
}

template <class Pixel, class T>
void launch(const Normalization& op, CudaRun& run) {
  const CudaValue &in = run.in(0), &out = run.out(0);
  const std::int64_t rows = out.dims[0] * out.dims[2], row_bytes = kChannels * out.dims[3] * sizeof(T);
  const auto kernel = row_bytes % 16 == 0 ? normalize<Pixel, T, true> : normalize<Pixel, T, false>;
  kernel<<<static_cast<unsigned>(rows), kBlock, 0, run.stream()>>>(
      op, in.as<Pixel>(), static_cast<int>(in.dims[1]), static_cast<int>(in.dims[2]), run.in(1).as<float>(),
      out.as<T>(), static_cast<int>(out.dims[2]), static_cast<int>(out.dims[3]));
  cuda_check_launch("normalize_image");
}

}  // namespace

CudaKernel normalize_image_cuda() {
  return {.op = &kOpInfo<NormalizeImage>, .dtypes = {DType::kU8, DType::kF32}, .prepare = [](CudaPrepare& p) {
            const DType pixels = p.input(0).dtype;
            return cuda_step([op = Normalization(p.op<NormalizeImage>(), pixels), pixels](CudaRun& run) {
              with_float_type(run.out(0).dtype, [&](auto zero) {
                using T = decltype(zero);
                pixels == DType::kU8 ? launch<std::uint8_t, T>(op, run) : launch<float, T>(op, run);
              });
            });
          }};
}

}  // namespace osprey

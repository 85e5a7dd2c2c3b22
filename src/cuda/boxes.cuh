// Box arithmetic that the detection kernels share, in the order of operations of the CPU's (cpu/boxes.h): one
// rounding per operation, and no +1 but for inclusive boxes (graph/box_rules.h).
#pragma once

#include <cstdint>

#include "cuda/kernel.h"

namespace osprey::cuda {

struct Corners {
  float x0, y0, x1, y1;
  __device__ float width() const { return x1 - x0; }
  __device__ float height() const { return y1 - y0; }
  __device__ float area() const { return width() * height(); }
};

// A row of boxes f32[R,5].
struct RoiRow {
  float image;
  Corners box;
};
static_assert(sizeof(RoiRow) == 5 * sizeof(float));

// A row of geometry f32[N,6] (ops/resize_image.h).
struct GeometryRow {
  float clip_height, clip_width;  // network pixels
  float scale_y, scale_x;         // network -> original
  float height, width;            // original
};
static_assert(sizeof(GeometryRow) == 6 * sizeof(float));

// What is added to the sides of boxes, and what their clip ends before the extent.
constexpr float inclusive_pixel(bool inclusive) { return inclusive ? 1.0f : 0.0f; }

__device__ inline float area_of(const Corners& b, float pixel) {
  return (b.width() + pixel) * (b.height() + pixel);
}

// exp and log rounded once, as the CPU's libm does but for one number in 1,600 (measured, glibc 2.36):
// through double, since the device's own float functions are off by up to two units in the last place.
__device__ inline float exp_rounded(float v) { return static_cast<float>(exp(static_cast<double>(v))); }
__device__ inline float log_rounded(float v) { return static_cast<float>(log(static_cast<double>(v))); }
__device__ inline float sigmoid_rounded(float v) { return 1.0f / (1.0f + exp_rounded(-v)); }

// NaN stays NaN, as in torch.clamp.
__device__ inline float clamp_keeping_nan(float v, float low, float high) {
  return v < low ? low : v > high ? high : v;
}

__device__ inline Corners clip_box(const Corners& b, float height, float width) {
  return {clamp_keeping_nan(b.x0, 0, width), clamp_keeping_nan(b.y0, 0, height),
          clamp_keeping_nan(b.x1, 0, width), clamp_keeping_nan(b.y1, 0, height)};
}

__device__ inline bool is_finite(const Corners& b) {
  return isfinite(b.x0) && isfinite(b.y0) && isfinite(b.x1) && isfinite(b.y1);
}

__device__ inline bool has_nan(const Corners& b) {
  return isnan(b.x0) || isnan(b.y0) || isnan(b.x1) || isnan(b.y1);
}

// Both sides longer than `least`; false with NaN.
__device__ inline bool has_extent(const Corners& b, float least = 0) {
  return b.width() > least && b.height() > least;
}

// Deltas that may be in TensorFlow's order (y, x, height, width).
__device__ inline float4 in_xywh(float4 d, bool yx_first) {
  return yx_first ? float4{d.y, d.x, d.w, d.z} : d;
}

// Moves boxes by deltas.
struct BoxDecoder {
  float wx, wy, ww, wh;
  float max_log_scale;  // 0: no limit
  float pixel;          // of inclusive boxes: 1

  BoxDecoder(const std::vector<float>& weights, float max_log, bool inclusive = false)
      : wx(weights[0]),
        wy(weights[1]),
        ww(weights[2]),
        wh(weights[3]),
        max_log_scale(max_log),
        pixel(inclusive_pixel(inclusive)) {}

  // delta: x, y, width, height.
  __device__ Corners operator()(const Corners& from, float4 delta) const {
    const float w = from.width() + pixel, h = from.height() + pixel;
    const float center_x = from.x0 + 0.5f * w, center_y = from.y0 + 0.5f * h;
    const float moved_x = delta.x / wx * w + center_x, moved_y = delta.y / wy * h + center_y;
    const float half_w = 0.5f * (exp_clamped(delta.z / ww) * w),
                half_h = 0.5f * (exp_clamped(delta.w / wh) * h);
    return {moved_x - half_w, moved_y - half_h, moved_x + half_w - pixel, moved_y + half_h - pixel};
  }

 private:
  __device__ float exp_clamped(float d) const {
    return exp_rounded(max_log_scale > 0 && d > max_log_scale ? max_log_scale : d);
  }
};

__device__ inline int live_rows(const int* rows, int bound) {
  return rows ? min(max(*rows, 0), bound) : bound;
}

// The counts of the outputs of a kernel that selects rows.
struct RowCounts {
  int* of[4] = {};

  RowCounts() = default;
  RowCounts(CudaRun& run, std::size_t outputs) {
    for (std::size_t i = 0; i < outputs; ++i) of[i] = run.out(i).rows;
  }
  __device__ void set(int rows) const {
    for (int* count : of)
      if (count) *count = rows;
  }
};

}  // namespace osprey::cuda

// Box arithmetic that the detection kernels share, in float32 and in Detectron2's order of operations
// (Box2BoxTransform.apply_deltas, Boxes.clip, torchvision's box_iou): one rounding per operation, and no +1
// but for inclusive boxes (graph/box_rules.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "graph/box_rules.h"
#include "osprey/detections.h"

namespace osprey {

// A row of boxes f32[R,5].
struct Roi {
  float image = 0;
  Box box;
};
static_assert(sizeof(Roi) == 5 * sizeof(float));

// A row of geometry f32[N,6] (ops/resize_image.h).
struct Geometry {
  float clip_height, clip_width;  // network pixels
  float scale_y, scale_x;         // network -> original
  float height, width;            // original
};
static_assert(sizeof(Geometry) == 6 * sizeof(float));

// Rows of an input or output as what they are.
template <class Row>
const Row* rows_of(const CpuValue& value) {
  return reinterpret_cast<const Row*>(value.data);
}
template <class Row>
Row* mutable_rows_of(const CpuValue& value) {
  return reinterpret_cast<Row*>(value.data);
}

// NaN stays NaN, as in torch.clamp.
inline float clamp_keeping_nan(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

inline Box clip_box(const Box& b, float height, float width) {
  return {clamp_keeping_nan(b.x0, 0, width), clamp_keeping_nan(b.y0, 0, height),
          clamp_keeping_nan(b.x1, 0, width), clamp_keeping_nan(b.y1, 0, height)};
}

inline bool is_finite(const Box& b) {
  return std::isfinite(b.x0) && std::isfinite(b.y0) && std::isfinite(b.x1) && std::isfinite(b.y1);
}

inline bool has_nan(const Box& b) {
  return std::isnan(b.x0) || std::isnan(b.y0) || std::isnan(b.x1) || std::isnan(b.y1);
}

// What is added to the sides of boxes, and what their clip ends before the extent.
constexpr float inclusive_pixel(bool inclusive) { return inclusive ? 1.0f : 0.0f; }

inline float area_of(const Box& b, bool inclusive) {
  const float pixel = inclusive_pixel(inclusive);
  return (b.width() + pixel) * (b.height() + pixel);
}

// Both sides longer than `least`; false with NaN.
inline bool has_extent(const Box& b, float least = 0) { return b.width() > least && b.height() > least; }

// Moves boxes by deltas (dx, dy, dw, dh), or in TensorFlow's order.
struct BoxDecoder {
  float wx = 1, wy = 1, ww = 1, wh = 1;
  float max_log_scale = 0;         // 0: no limit
  int x = 0, y = 1, w = 2, h = 3;  // places of the deltas
  float pixel = 0;                 // of inclusive boxes: 1

  BoxDecoder(const std::vector<float>& weights, float max_log, DeltaOrder order = DeltaOrder::kXywh,
             bool inclusive = false)
      : wx(weights[0]),
        wy(weights[1]),
        ww(weights[2]),
        wh(weights[3]),
        max_log_scale(max_log),
        pixel(inclusive_pixel(inclusive)) {
    if (order == DeltaOrder::kYxhw) x = 1, y = 0, w = 3, h = 2;
  }

  Box operator()(const Box& from, const float* delta) const {
    const float width = from.width() + pixel, height = from.height() + pixel;
    const float center_x = from.x0 + 0.5f * width, center_y = from.y0 + 0.5f * height;
    const float moved_x = delta[x] / wx * width + center_x, moved_y = delta[y] / wy * height + center_y;
    const float half_w = 0.5f * (exp_clamped(delta[w] / ww) * width),
                half_h = 0.5f * (exp_clamped(delta[h] / wh) * height);
    return {moved_x - half_w, moved_y - half_h, moved_x + half_w - pixel, moved_y + half_h - pixel};
  }

 private:
  float exp_clamped(float d) const {
    return std::exp(max_log_scale > 0 && d > max_log_scale ? max_log_scale : d);
  }
};

}  // namespace osprey

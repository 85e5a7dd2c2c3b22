#include "ops/center_queries.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/boxes.h"

namespace osprey {
namespace {

using Maps = View<const float, 4>;

// The score of a pixel: none outside of the clip extents.
float score_at(float logit, const Geometry& g, std::int64_t y, std::int64_t x) {
  const bool inside = static_cast<float>(y) < g.clip_height && static_cast<float>(x) < g.clip_width;
  return inside ? sigmoid(logit) : 0;
}

// Highest of the window of `size` values that begins `before` values in front of values[i].
float window_max(const float* values, std::int64_t step, std::int64_t count, std::int64_t i,
                 const CenterQueries& op) {
  const std::int64_t begin = std::max<std::int64_t>(i - op.before(), 0),
                     end = std::min<std::int64_t>(i - op.before() + op.peak, count);
  float most = values[begin * step];
  for (std::int64_t k = begin + 1; k < end; ++k) most = std::max(most, values[k * step]);
  return most;
}

// A plane of logits into a column of the queries; `scores` and `rows` hold a plane each.
void keep_peaks(const CenterQueries& op, const Maps& logits, std::int64_t plane, const Geometry& g,
                float* scores, float* rows, float* out) {
  const std::int64_t classes = logits.dim(1), height = logits.dim(2), width = logits.dim(3);
  const float* from = logits.data + plane * height * width;
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x) scores[y * width + x] = score_at(from[y * width + x], g, y, x);
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      rows[y * width + x] = window_max(scores + y * width, 1, width, x, op);
  float* column = out + plane / classes * height * width * classes + plane % classes;
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x) {
      const std::int64_t pixel = y * width + x;
      const float most = window_max(rows + x, width, height, y, op), score = scores[pixel];
      const bool kept = score > 0 && std::abs(score - most) < CenterQueries::kPeakEpsilon;
      column[pixel * classes] = kept ? from[pixel] : -std::numeric_limits<float>::infinity();
    }
}

struct Side {
  float low, high;
};

// A box along one axis, in fractions of `extent`.
Side side_of(float centre, float size, std::int64_t pixels, int stride, float extent) {
  const float half = std::max(size, 0.0f) / 2.0f;
  const auto fraction = [&](float at) {
    const float on_map = std::clamp(at, 0.0f, static_cast<float>(pixels));
    return std::clamp(on_map * static_cast<float>(stride) / extent, 0.0f, 1.0f);
  };
  return {fraction(centre - half), fraction(centre + half)};
}

void write_boxes(const CenterQueries& op, const Maps& sizes, const Maps& offsets, std::int64_t image,
                 const Geometry& g, float* out) {
  const std::int64_t height = sizes.dim(2), width = sizes.dim(3), pixels = height * width;
  const float *size = sizes.at(image), *offset = offsets.at(image);
  for (std::int64_t p = 0; p < pixels; ++p) {
    const std::int64_t row = p / width, column = p % width;
    const float cy = static_cast<float>(row) + offset[p],
                cx = static_cast<float>(column) + offset[pixels + p];
    const Side y = side_of(cy, size[p], height, op.stride, g.clip_height),
               x = side_of(cx, size[pixels + p], width, op.stride, g.clip_width);
    float* box = out + (image * pixels + p) * 4;
    box[0] = (x.low + x.high) / 2;
    box[1] = (y.low + y.high) / 2;
    box[2] = x.high - x.low;
    box[3] = y.high - y.low;
  }
}

void center_queries(const CenterQueries& op, CpuRun& run) {
  const Maps logits = run.input<float, 4>(0), sizes = run.input<float, 4>(1),
             offsets = run.input<float, 4>(2);
  const Geometry* geometry = rows_of<Geometry>(run.in(3));
  auto* const queries = run.output<float, 2>(0).data;
  auto* const boxes = run.output<float, 2>(1).data;
  auto* const scratch = reinterpret_cast<float*>(run.scratch().data());
  const std::int64_t planes = logits.dim(0) * logits.dim(1), pixels = logits.dim(2) * logits.dim(3);
  cpu_for(planes, run.threads(), [&](std::int64_t plane) {
    float* own = scratch + plane * 2 * pixels;
    keep_peaks(op, logits, plane, geometry[plane / logits.dim(1)], own, own + pixels, queries);
  });
  cpu_for(logits.dim(0), run.threads(),
          [&](std::int64_t image) { write_boxes(op, sizes, offsets, image, geometry[image], boxes); });
}

}  // namespace

CpuKernel center_queries_cpu() {
  return {.op = &kOpInfo<CenterQueries>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& p) {
            const std::int64_t values = element_count(p.input(0).dims);
            p.request_scratch(static_cast<std::size_t>(2 * values) * sizeof(float));
            return cpu_step([op = p.op<CenterQueries>()](CpuRun& run) { center_queries(op, run); });
          }};
}

}  // namespace osprey

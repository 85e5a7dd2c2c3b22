#include "ops/rescale_boxes.h"

#include <algorithm>

#include "cpu/boxes.h"

namespace osprey {
namespace {

// What boxes are multiplied by, and clipped to.
struct Frame {
  float factor_y, factor_x, height, width;
};

float quotient(float a, float b) {
  return static_cast<float>(static_cast<double>(a) / static_cast<double>(b));
}

Frame frame_of(const RescaleBoxes& op, const Geometry& g) {
  if (!op.to_network) return {g.scale_y, g.scale_x, g.height, g.width};
  if (!op.clip) return {quotient(1, g.scale_y), quotient(1, g.scale_x), g.clip_height, g.clip_width};
  return {quotient(g.clip_height, g.height), quotient(g.clip_width, g.width), g.clip_height, g.clip_width};
}

Box scaled(const Box& b, const Frame& to) {
  return {b.x0 * to.factor_x, b.y0 * to.factor_y, b.x1 * to.factor_x, b.y1 * to.factor_y};
}

Box in_order(const Box& b) {
  return {std::min(b.x0, b.x1), std::min(b.y0, b.y1), std::max(b.x0, b.x1), std::max(b.y0, b.y1)};
}

void rescale(const RescaleBoxes& op, CpuRun& run) {
  const Roi* in = rows_of<Roi>(run.in(0));
  const Geometry* geometry = rows_of<Geometry>(run.in(1));
  Roi* out = mutable_rows_of<Roi>(run.out(0));
  auto* const rows = mutable_rows_of<std::int32_t>(run.out(1));
  std::int64_t kept = 0, of_image = 0;
  for (std::int64_t r = 0; r < run.in(0).dims[0]; ++r) {
    const Roi roi = in[r];
    if (r > 0 && in[r - 1].image != roi.image) of_image = 0;
    if (op.top > 0 && of_image == op.top) continue;
    const Frame frame = frame_of(op, geometry[static_cast<int>(roi.image)]);
    Box box = scaled(roi.box, frame);
    if (op.to_network) box = in_order(box);
    if (op.clip) {
      box = clip_box(box, frame.height, frame.width);
      if (!has_extent(box, op.min_size)) continue;
    }
    out[kept] = {roi.image, box};
    rows[kept++] = static_cast<std::int32_t>(r);
    ++of_image;
  }
  run.set_rows(0, kept);
  run.set_rows(1, kept);
}

}  // namespace

CpuKernel rescale_boxes_cpu() {
  return {.op = &kOpInfo<RescaleBoxes>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& prepare) {
            return cpu_step([op = prepare.op<RescaleBoxes>()](CpuRun& run) { rescale(op, run); });
          }};
}

}  // namespace osprey

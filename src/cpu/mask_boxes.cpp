#include "ops/mask_boxes.h"

#include <algorithm>

#include "cpu/box_logits.h"
#include "cpu/kernel.h"

namespace osprey {
namespace {

// Pixels with a logit above 0: rows and columns [top, bottom) x [left, right); nothing when bottom is 0.
struct Extents {
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;
};

Extents extents_of(const float* logits, std::int64_t height, std::int64_t width) {
  Extents out{.left = width};
  const auto inside = [](float v) { return v > 0; };
  for (std::int64_t y = 0; y < height; ++y) {
    const float *row = logits + y * width, *end = row + width;
    const float* first = std::find_if(row, end, inside);
    if (first == end) continue;
    if (out.bottom == 0) out.top = y;
    out.bottom = y + 1;
    out.left = std::min<std::int64_t>(out.left, first - row);
    const auto last = std::find_if(std::reverse_iterator(end), std::reverse_iterator(row), inside);
    out.right = std::max<std::int64_t>(out.right, last.base() - row);
  }
  return out;
}

void write_box(const float* logits, std::int64_t height, std::int64_t width, float* box) {
  const Extents e = extents_of(logits, height, width);
  const auto h = static_cast<float>(height), w = static_cast<float>(width);
  float x0 = 0, y0 = 0, x1 = 0, y1 = 0;
  if (e.bottom > 0) {
    x0 = static_cast<float>(e.left) / w, x1 = static_cast<float>(e.right) / w;
    y0 = static_cast<float>(e.top) / h, y1 = static_cast<float>(e.bottom) / h;
  }
  box[0] = box_logit((x0 + x1) / 2);
  box[1] = box_logit((y0 + y1) / 2);
  box[2] = box_logit(x1 - x0);
  box[3] = box_logit(y1 - y0);
}

}  // namespace

CpuKernel mask_boxes_cpu() {
  return {.op = &kOpInfo<MaskBoxes>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare&) {
            return cpu_step([](CpuRun& run) {
              const auto logits = run.input<float, 3>(0);
              const auto boxes = run.output<float, 2>(0);
              cpu_for(logits.dim(0), run.threads(), [&](std::int64_t m) {
                write_box(logits.at(m), logits.dim(1), logits.dim(2), boxes.at(m));
              });
            });
          }};
}

}  // namespace osprey

// Rows of one image are multiplied with some of its pixels at a time, so that these stay in the cache.
#include "ops/mask_logits.h"

#include "cpu/boxes.h"
#include "cpu/product.h"

namespace osprey {
namespace {

constexpr std::int64_t kRows = 16, kPixels = 512;  // of a task

std::int64_t image_of(const CpuRun& run, bool boxes, std::int64_t row) {
  if (boxes) return static_cast<std::int64_t>(rows_of<Roi>(run.in(2))[row].image);
  return row / (run.in(0).dims[0] / run.in(1).dims[0]);
}

void mask_logits(CpuRun& run, bool boxes) {
  const auto embeddings = run.input<float, 2>(0);
  const auto prototypes = run.input<float, 4>(1);
  const auto logits = run.output<float, 3>(0);
  const std::int64_t count = embeddings.dim(0), pixels = prototypes.dim(2) * prototypes.dim(3);
  const std::int64_t parts = (pixels + kPixels - 1) / kPixels;
  cpu_for((count + kRows - 1) / kRows * parts, run.threads(), [&](std::int64_t task) {
    const std::int64_t pixel = task % parts * kPixels, last = std::min(count, (task / parts + 1) * kRows);
    for (std::int64_t row = task / parts * kRows; row < last;) {
      const std::int64_t image = image_of(run, boxes, row);
      std::int64_t end = row + 1;
      while (end < last && image_of(run, boxes, end) == image) ++end;
      multiply({.a = embeddings.at(row),
                .b = prototypes.at(image) + pixel,
                .c = logits.at(row) + pixel,
                .rows = end - row,
                .inner = embeddings.dim(1),
                .columns = std::min(kPixels, pixels - pixel),
                .a_row = embeddings.dim(1),
                .b_row = pixels,
                .c_row = pixels});
      row = end;
    }
  });
  run.set_rows(0, count);
}

}  // namespace

CpuKernel mask_logits_cpu() {
  return {.op = &kOpInfo<MaskLogits>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& p) {
            return cpu_step([boxes = p.has_input(2)](CpuRun& run) { mask_logits(run, boxes); });
          }};
}

}  // namespace osprey

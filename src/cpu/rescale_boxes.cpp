#include "ops/rescale_boxes.h"

#include "cpu/boxes.h"

namespace osprey {

CpuKernel rescale_boxes_cpu() {
  return {.op = &kOpInfo<RescaleBoxes>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& prepare) {
            return cpu_step([op = prepare.op<RescaleBoxes>()](CpuRun& run) {
              const Roi* in = rows_of<Roi>(run.in(0));
              const Geometry* geometry = rows_of<Geometry>(run.in(1));
              Roi* out = mutable_rows_of<Roi>(run.out(0));
              auto* const rows = mutable_rows_of<std::int32_t>(run.out(1));
              std::int64_t kept = 0;
              for (std::int64_t r = 0; r < run.in(0).dims[0]; ++r) {
                const Roi roi = in[r];
                const Geometry& g = geometry[static_cast<int>(roi.image)];
                Box box{roi.box.x0 * g.scale_x, roi.box.y0 * g.scale_y, roi.box.x1 * g.scale_x,
                        roi.box.y1 * g.scale_y};
                if (op.clip) {
                  box = clip_box(box, g.height, g.width);
                  if (!has_extent(box)) continue;
                }
                out[kept] = {roi.image, box};
                rows[kept++] = static_cast<std::int32_t>(r);
              }
              run.set_rows(0, kept);
              run.set_rows(1, kept);
            });
          }};
}

}  // namespace osprey

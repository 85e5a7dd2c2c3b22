#include "ops/decode_boxes.h"

#include "cpu/boxes.h"

namespace osprey {

CpuKernel decode_boxes_cpu() {
  return {.op = &kOpInfo<DecodeBoxes>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& prepare) {
            return cpu_step([op = prepare.op<DecodeBoxes>()](CpuRun& run) {
              const Roi* rois = rows_of<Roi>(run.in(0));
              const float* deltas = rows_of<float>(run.in(1));
              const Geometry* geometry = rows_of<Geometry>(run.in(2));
              Roi* out = mutable_rows_of<Roi>(run.out(0));
              const BoxDecoder decode(op.weights, op.max_log_scale);
              for (std::int64_t r = 0; r < run.in(0).dims[0]; ++r) {
                const Roi roi = rois[r];
                const Geometry& g = geometry[static_cast<int>(roi.image)];
                const Box moved = decode(roi.box, deltas + 4 * r);
                out[r] = {roi.image, op.clip ? clip_box(moved, g.clip_height, g.clip_width) : moved};
              }
            });
          }};
}

}  // namespace osprey

#include "ops/rescale_keypoints.h"

#include "cpu/boxes.h"

namespace osprey {

CpuKernel rescale_keypoints_cpu() {
  return {.op = &kOpInfo<RescaleKeypoints>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& prepare) {
            return cpu_step([value = prepare.op<RescaleKeypoints>().logits ? 2 : 3](CpuRun& run) {
              const auto keypoints = run.input<float, 3>(0);
              const Roi* boxes = rows_of<Roi>(run.in(1));
              const auto* const rows = rows_of<std::int32_t>(run.in(2));
              const Geometry* geometry = rows_of<Geometry>(run.in(3));
              const auto out = run.output<float, 3>(0);
              for (std::int64_t e = 0; e < run.in(1).dims[0]; ++e) {
                const Geometry& g = geometry[static_cast<int>(boxes[e].image)];
                for (std::int64_t k = 0; k < keypoints.dim(1); ++k) {
                  out(e, k, 0) = keypoints(rows[e], k, 0) * g.scale_x;
                  out(e, k, 1) = keypoints(rows[e], k, 1) * g.scale_y;
                  out(e, k, 2) = keypoints(rows[e], k, value);
                }
              }
              run.set_rows(0, run.in(1).dims[0]);
            });
          }};
}

}  // namespace osprey

// Masks run in parallel into run lengths of their own, which are then laid one after the other.
#include "ops/paste_masks.h"

#include <algorithm>
#include <limits>

#include <omp.h>

#include "backends/mask_sampling.h"
#include "cpu/mask_runs.h"

namespace osprey {
namespace {

class PasteMasksStep final : public CpuStep {
 public:
  explicit PasteMasksStep(CpuPrepare& prepare)
      : op_(prepare.op<PasteMasks>()),
        workspaces_(static_cast<std::size_t>(prepare.threads())),
        masks_(static_cast<std::size_t>(prepare.input(1).dims[0])) {}

  void run(CpuRun& run) override {
    const auto probabilities = run.input<float, 3>(0);
    const Roi* boxes = rows_of<Roi>(run.in(1));
    const auto* const rows = rows_of<std::int32_t>(run.in(2));
    const Geometry* geometry = rows_of<Geometry>(run.in(3));
    const std::int64_t count = run.in(1).dims[0], side = probabilities.dim(1), area = side * side;
    // At 0 a mask would be the whole photo.
    const float threshold =
        std::max(run.parameters().mask_threshold.value_or(op_.threshold), std::numeric_limits<float>::min());
    cpu_for(count, run.threads(), [&](std::int64_t e) {
      const Geometry& g = geometry[static_cast<int>(boxes[e].image)];
      paste_mask({probabilities.at(rows[e]), static_cast<std::size_t>(area)}, static_cast<int>(side),
                 boxes[e].box, static_cast<int>(g.height), static_cast<int>(g.width), threshold,
                 workspaces_[static_cast<std::size_t>(omp_get_thread_num())],
                 masks_[static_cast<std::size_t>(e)], sampling_of(op_.rule));
    });
    write_masks(run, {masks_.data(), static_cast<std::size_t>(count)});
  }

 private:
  PasteMasks op_;
  std::vector<PasteWorkspace> workspaces_;  // one a thread
  std::vector<Rle> masks_;                  // keep their memory from run to run
};

}  // namespace

CpuKernel paste_masks_cpu() {
  return {.op = &kOpInfo<PasteMasks>,
          .dtypes = {DType::kF32},
          .prepare = [](CpuPrepare& prepare) -> std::unique_ptr<CpuStep> {
            return std::make_unique<PasteMasksStep>(prepare);
          }};
}

}  // namespace osprey

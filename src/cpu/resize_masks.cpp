// Masks run in parallel. Runs go down the columns, so a map is turned first: then a column of pixels is a
// blend of two rows of it, sampled downwards.
#include "ops/resize_masks.h"

#include <algorithm>
#include <cmath>

#include <omp.h>

#include "cpu/mask_runs.h"

namespace osprey {
namespace {

// Where a pixel of the photo samples an axis of the map.
struct Tap {
  int low, high;
  float weight;  // of the second
};

void sample_axis(std::int64_t in, int out, std::vector<Tap>& taps) {
  taps.resize(static_cast<std::size_t>(out));
  const float factor = static_cast<float>(in) / static_cast<float>(out);
  for (int i = 0; i < out; ++i) {
    const float at = std::max(0.0f, (static_cast<float>(i) + 0.5f) * factor - 0.5f);
    const int low = std::min(static_cast<int>(at), static_cast<int>(in) - 1);
    taps[static_cast<std::size_t>(i)] = {low, std::min(low + 1, static_cast<int>(in) - 1),
                                         at - static_cast<float>(low)};
  }
}

// What a thread keeps from mask to mask.
struct Workspace {
  std::vector<Tap> x, y;
  std::vector<float> turned, column;
};

float blend(float low, float high, float weight) { return low * (1 - weight) + high * weight; }

class RunWriter {
 public:
  explicit RunWriter(std::vector<std::uint32_t>& runs) : runs_(runs) { runs_.clear(); }
  void add(bool inside) {
    if (inside != inside_) {
      runs_.push_back(length_);
      length_ = 0;
      inside_ = inside;
    }
    ++length_;
  }
  void finish() { runs_.push_back(length_); }

 private:
  std::vector<std::uint32_t>& runs_;
  std::uint32_t length_ = 0;
  bool inside_ = false;
};

// `logits` of height x width; a pixel is inside above `limit`.
void resize_mask(const float* logits, std::int64_t height, std::int64_t width, float limit, Workspace& w,
                 Rle& out) {
  sample_axis(width, out.width, w.x);
  sample_axis(height, out.height, w.y);
  w.turned.resize(static_cast<std::size_t>(height * width));
  w.column.resize(static_cast<std::size_t>(height));
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      w.turned[static_cast<std::size_t>(x * height + y)] = logits[y * width + x];
  RunWriter writer(out.counts);
  for (const Tap& x : w.x) {
    const float *low = w.turned.data() + x.low * height, *high = w.turned.data() + x.high * height;
    float* const column = w.column.data();
    for (std::int64_t y = 0; y < height; ++y) column[y] = blend(low[y], high[y], x.weight);
    for (const Tap& y : w.y) writer.add(blend(column[y.low], column[y.high], y.weight) > limit);
  }
  writer.finish();
}

class ResizeMasksStep final : public CpuStep {
 public:
  explicit ResizeMasksStep(CpuPrepare& p)
      : op_(p.op<ResizeMasks>()),
        workspaces_(static_cast<std::size_t>(p.threads())),
        masks_(static_cast<std::size_t>(p.input(1).dims[0])) {}

  void run(CpuRun& run) override {
    const auto logits = run.input<float, 3>(0);
    const Roi* boxes = rows_of<Roi>(run.in(1));
    const auto* const rows = rows_of<std::int32_t>(run.in(2));
    const Geometry* geometry = rows_of<Geometry>(run.in(3));
    const std::int64_t count = run.in(1).dims[0];
    const float threshold = run.parameters().mask_threshold.value_or(op_.threshold);
    const float limit = std::log(threshold / (1 - threshold));  // sigmoids rise with their logits
    cpu_for(count, run.threads(), [&](std::int64_t e) {
      const Geometry& g = geometry[static_cast<int>(boxes[e].image)];
      Rle& mask = masks_[static_cast<std::size_t>(e)];
      mask.height = static_cast<int>(g.height), mask.width = static_cast<int>(g.width);
      resize_mask(logits.at(rows[e]), logits.dim(1), logits.dim(2), limit,
                  workspaces_[static_cast<std::size_t>(omp_get_thread_num())], mask);
    });
    write_masks(run, {masks_.data(), static_cast<std::size_t>(count)});
  }

 private:
  ResizeMasks op_;
  std::vector<Workspace> workspaces_;  // one a thread
  std::vector<Rle> masks_;             // keep their memory from run to run
};

}  // namespace

CpuKernel resize_masks_cpu() {
  return {.op = &kOpInfo<ResizeMasks>,
          .dtypes = {DType::kF32},
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            return std::make_unique<ResizeMasksStep>(p);
          }};
}

}  // namespace osprey

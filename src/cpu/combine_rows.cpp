#include "ops/combine_rows.h"

#include <algorithm>

#include "cpu/floats.h"
#include "cpu/kernel.h"

namespace osprey {
namespace {

constexpr std::int64_t kRows = 64;  // a task

class CombineRowsStep final : public CpuStep {
 public:
  explicit CombineRowsStep(CpuPrepare& p)
      : rule_(p.op<CombineRows>().rule), table_(p.weight(1).to_f32()), has_rows_(p.has_input(2)) {}

  void run(CpuRun& run) override {
    with_float(run.in(0).dtype, [&]<class T>() {
      if (rule_ == CombineRule::kAdd) return combine<T>(run, [](float a, float b) { return a + b; });
      combine<T>(run, [](float a, float b) { return a * b; });
    });
  }

 private:
  template <class T, class F>
  void combine(CpuRun& run, F f) const {
    const auto x = run.input<T, 2>(0);
    const auto y = run.output<T, 2>(0);
    const std::int32_t* rows = has_rows_ ? run.input<std::int32_t, 1>(2).data : nullptr;
    const std::int64_t width = table_.dim(1), step = width == 1 ? 0 : 1;
    cpu_for((x.dim(0) + kRows - 1) / kRows, run.threads(), [&](std::int64_t chunk) {
      for (std::int64_t m = chunk * kRows; m < std::min((chunk + 1) * kRows, x.dim(0)); ++m) {
        const std::int64_t token = (rows ? rows[m] : m) % table_.dim(0);
        const float* entry = table_.values<float>().data() + token * width;
        for (std::int64_t c = 0; c < x.dim(1); ++c)
          y.at(m)[c] = store_float<T>(f(load_float(x.at(m)[c]), entry[c * step]));
      }
    });
  }

  const CombineRule rule_;
  const Tensor table_;
  const bool has_rows_;
};

}  // namespace

CpuKernel combine_rows_cpu() {
  return {.op = &kOpInfo<CombineRows>,
          .dtypes = {DType::kF32, DType::kBF16},
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            return std::make_unique<CombineRowsStep>(p);
          },
          .in_place = {0}};
}

}  // namespace osprey

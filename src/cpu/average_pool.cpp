// Mean pooling on any layout: rows of the result in parallel, lanes side by side.
#include "ops/average_pool.h"

#include <algorithm>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/pool_rows.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

template <class T>
struct Row : PoolRow<T> {
  std::int64_t counted;  // pixels of every window; 0: those of it in the map
};

template <class T>
[[gnu::always_inline]] inline void pool_row(const Row<T>* row) {
  constexpr std::int64_t kGroup = 16;
  const std::int64_t lanes = row->lanes;
  for (std::int64_t column = 0; column < row->columns; ++column) {
    const std::int64_t start = column * row->stride - row->pad;
    const std::int64_t left = std::max<std::int64_t>(0, start),
                       right = std::min(row->width, start + row->kernel);
    const auto pixels =
        static_cast<float>(row->counted ? row->counted : (row->bottom - row->top) * (right - left));
    for (std::int64_t lane = 0; lane < lanes; lane += kGroup) {
      const std::int64_t n = std::min(kGroup, lanes - lane);
      float sum[kGroup] = {};
      for (std::int64_t r = row->top; r < row->bottom; ++r)
        for (std::int64_t c = left; c < right; ++c) {
          const T* x = row->plane + (r * row->width + c) * lanes + lane;
          if (n == kGroup) {
            for (std::int64_t k = 0; k < kGroup; ++k) sum[k] += load_float(x[k]);
          } else {
            for (std::int64_t k = 0; k < n; ++k) sum[k] += load_float(x[k]);
          }
        }
      T* y = row->y + column * lanes + lane;
      for (std::int64_t k = 0; k < n; ++k) y[k] = store_float<T>(sum[k] / pixels);
    }
  }
}

template <class T>
void pool(const AveragePool& op, CpuRun& run) {
  const std::int64_t counted = op.count_padding ? std::int64_t{op.kernel[0]} * op.kernel[1] : 0;
  each_pool_row<T>(op, run, [counted](const PoolRow<T>& of) {
    const Row<T> row{of, counted};
    const Row<T>* const job = &row;
    vectorised<pool_row<T>>(job);
  });
}

}  // namespace

CpuKernel average_pool_cpu() {
  return {.op = &kOpInfo<AveragePool>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            return cpu_step([&op = p.op<AveragePool>()](CpuRun& run) {
              with_float(run.in(0).dtype, [&]<class T>() { pool<T>(op, run); });
            });
          }};
}

}  // namespace osprey

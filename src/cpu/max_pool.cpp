// Maximum pooling on any layout: rows of the result in parallel, lanes side by side.
#include "ops/max_pool.h"

#include <algorithm>
#include <limits>

#include "cpu/kernel.h"

namespace osprey {
namespace {

// Floats compare as they are; bf16 compares as integers after turning sign and magnitude into two's
// complement.
struct Float32 {
  using Word = float;
  using Key = float;
  static constexpr Key kLeast = -std::numeric_limits<float>::infinity();
  static Key key(Word v) { return v; }
  static Word word(Key k) { return k; }
};
struct Brain16 {
  using Word = std::int16_t;
  using Key = std::int16_t;
  static Key key(Word v) { return static_cast<Key>(v ^ ((v >> 15) & 0x7fff)); }
  static Word word(Key k) { return key(k); }  // its own inverse
  static constexpr Key kLeast = std::numeric_limits<std::int16_t>::min();
};

template <class F>
void pool_row(const MaxPool& op, const CpuPlanes& from, const CpuPlanes& to, const typename F::Word* plane,
              typename F::Word* y, std::int64_t row) {
  const std::int64_t lanes = from.lanes;
  const std::int64_t top = std::max<std::int64_t>(0, row * op.stride[0] - op.pads[0]);
  const std::int64_t bottom = std::min(from.height, row * op.stride[0] - op.pads[0] + op.kernel[0]);
  for (std::int64_t column = 0; column < to.width; ++column, y += lanes) {
    const std::int64_t left = std::max<std::int64_t>(0, column * op.stride[1] - op.pads[1]);
    const std::int64_t right = std::min(from.width, column * op.stride[1] - op.pads[1] + op.kernel[1]);
    for (std::int64_t lane = 0; lane < lanes; lane += 16) {
      const std::int64_t n = std::min<std::int64_t>(16, lanes - lane);
      typename F::Key best[16];
      std::fill_n(best, 16, F::kLeast);
      for (std::int64_t r = top; r < bottom; ++r)
        for (std::int64_t c = left; c < right; ++c) {
          const auto* x = plane + (r * from.width + c) * lanes + lane;
          if (n == 16) {
            for (int k = 0; k < 16; ++k) best[k] = std::max(best[k], F::key(x[k]));
          } else {
            for (std::int64_t k = 0; k < n; ++k) best[k] = std::max(best[k], F::key(x[k]));
          }
        }
      for (std::int64_t k = 0; k < n; ++k) y[lane + k] = F::word(best[k]);
    }
  }
}

template <class F>
void pool(const MaxPool& op, CpuRun& run) {
  const CpuPlanes from(run.in(0)), to(run.out(0));
  const auto* x = reinterpret_cast<const typename F::Word*>(run.in(0).data);
  auto* y = reinterpret_cast<typename F::Word*>(run.out(0).data);
  cpu_for(to.count * to.height, run.threads(), [&](std::int64_t i) {
    pool_row<F>(op, from, to, x + i / to.height * from.plane_size(), y + i * to.width * to.lanes,
                i % to.height);
  });
}

}  // namespace

CpuKernel max_pool_cpu() {
  return {.op = &kOpInfo<MaxPool>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            const MaxPool& op = p.op<MaxPool>();
            return p.input(0).dtype == DType::kF32 ? cpu_step([&op](CpuRun& run) { pool<Float32>(op, run); })
                                                   : cpu_step([&op](CpuRun& run) { pool<Brain16>(op, run); });
          }};
}

}  // namespace osprey

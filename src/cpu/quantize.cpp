// Floats to 8-bit integers, whole values of any layout.
#include "ops/quantize.h"

#include <bit>
#include <limits>

#include "cpu/elementwise.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

template <class From, class To>
struct Range {
  const From* x;
  To* y;
  std::int64_t count;
  float inverse;
};

// Adding 1.5 * 2^23 leaves an integer of up to 22 bits in a float's last places, rounded to nearest even.
template <class From, class To>
[[gnu::always_inline]] inline void quantize_range(const Range<From, To>* range) {
  constexpr float kRounder = 12582912.f;
  constexpr float kLow = std::numeric_limits<To>::min(), kHigh = std::numeric_limits<To>::max();
  // What a byte is stored to might be anything, as far as the compiler knows.
  const From* const __restrict x = range->x;
  To* const __restrict y = range->y;
  const std::int64_t count = range->count;
  const float inverse = range->inverse;
  for (std::int64_t i = 0; i < count; ++i) {
    float v = load_float(x[i]) * inverse;
    v = v > kLow ? v : kLow;  // NaN, too
    v = v < kHigh ? v : kHigh;
    y[i] = static_cast<To>(std::bit_cast<std::int32_t>(v + kRounder) - std::bit_cast<std::int32_t>(kRounder));
  }
}

template <class From, class To>
void quantize(CpuRun& run, float scale) {
  const From* x = elements_in<From>(run, 0);
  To* y = elements_out<To>(run);
  for_elements(run.in(0), run.threads(), [=](std::int64_t begin, std::int64_t end) {
    const Range<From, To> range{x + begin, y + begin, end - begin, 1 / scale};
    const Range<From, To>* const job = &range;
    vectorised<quantize_range<From, To>>(job);
  });
}

}  // namespace

CpuKernel quantize_cpu() {
  return {.op = &kOpInfo<Quantize>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            return cpu_step([&op = p.op<Quantize>()](CpuRun& run) {
              with_float(run.in(0).dtype, [&]<class From>() {
                op.to == IntegerType::kI8 ? quantize<From, std::int8_t>(run, op.scale)
                                          : quantize<From, std::uint8_t>(run, op.scale);
              });
            });
          }};
}

}  // namespace osprey

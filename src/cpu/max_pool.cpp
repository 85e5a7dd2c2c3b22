// Maximum pooling on any layout: rows of the result in parallel, lanes side by side.
#include "ops/max_pool.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/kernel.h"
#include "cpu/pool_rows.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

// A register of words.
template <class Word>
struct WordsOf {
  typedef Word type __attribute__((vector_size(64), aligned(alignof(Word)), may_alias));
};
template <class Word>
using Words = typename WordsOf<Word>::type;

// Floats compare as integers of their size after turning sign and magnitude into two's complement; this is
// its own inverse. 8-bit words are integers to begin with.
template <class Word>
[[gnu::always_inline]] inline void key(Words<Word>& v) {
  if constexpr (sizeof(Word) > 1) v ^= (v >> (8 * sizeof(Word) - 1)) & std::numeric_limits<Word>::max();
}

template <class Word>
[[gnu::always_inline]] inline void load(Words<Word>& out, const Word* from, std::size_t n) {
  if (n == sizeof out / sizeof(Word)) {
    out = *reinterpret_cast<const Words<Word>*>(from);
  } else {
    std::memcpy(&out, from, n * sizeof(Word));
  }
}

template <class Word>
[[gnu::always_inline]] inline void store(Word* to, const Words<Word>& v, std::size_t n) {
  if (n == sizeof v / sizeof(Word)) {
    *reinterpret_cast<Words<Word>*>(to) = v;
  } else {
    std::memcpy(to, &v, n * sizeof(Word));
  }
}

template <class Word>
[[gnu::always_inline]] inline void pool_row(const PoolRow<Word>* row) {
  constexpr int kGroup = 64 / sizeof(Word);  // lanes in a register
  const std::int64_t lanes = row->lanes;
  for (std::int64_t column = 0; column < row->columns; ++column) {
    const std::int64_t start = column * row->stride - row->pad;
    const std::int64_t left = std::max<std::int64_t>(0, start),
                       right = std::min(row->width, start + row->kernel);
    Word* y = row->y + column * lanes;
    for (std::int64_t lane = 0; lane < lanes; lane += kGroup) {
      const auto n = static_cast<std::size_t>(std::min<std::int64_t>(kGroup, lanes - lane));
      Words<Word> best = Words<Word>{} + std::numeric_limits<Word>::min();
      for (std::int64_t r = row->top; r < row->bottom; ++r)
        for (std::int64_t c = left; c < right; ++c) {
          Words<Word> x{};
          load(x, row->plane + (r * row->width + c) * lanes + lane, n);
          key<Word>(x);
          best = best > x ? best : x;
        }
      key<Word>(best);
      store(y + lane, best, n);
    }
  }
}

template <class Word>
void pool(const MaxPool& op, CpuRun& run) {
  each_pool_row<Word>(op, run, [](const PoolRow<Word>& row) {
    const PoolRow<Word>* const job = &row;
    vectorised<pool_row<Word>>(job);
  });
}

}  // namespace

CpuKernel max_pool_cpu() {
  return {.op = &kOpInfo<MaxPool>,
          .dtypes = {DType::kF32, DType::kBF16, DType::kI8, DType::kU8},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            const MaxPool& op = p.op<MaxPool>();
            switch (p.input(0).dtype) {
              case DType::kF32:
                return cpu_step([&op](CpuRun& run) { pool<std::int32_t>(op, run); });
              case DType::kI8:
                return cpu_step([&op](CpuRun& run) { pool<std::int8_t>(op, run); });
              case DType::kU8:
                return cpu_step([&op](CpuRun& run) { pool<std::uint8_t>(op, run); });
              default:
                return cpu_step([&op](CpuRun& run) { pool<std::int16_t>(op, run); });
            }
          }};
}

}  // namespace osprey

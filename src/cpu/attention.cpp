// A task is a head of an image and some of its queries: their scores of all keys, the softmax of each row,
// and its product with the values. The keys of each head are laid out beforehand with tokens side by side.
#include "ops/attention.h"

#include <algorithm>
#include <cmath>

#include <omp.h>

#include "cpu/kernel.h"
#include "cpu/product.h"
#include "cpu/scratch.h"
#include "cpu/vector_math.h"

namespace osprey {
namespace {

constexpr std::int64_t kQueries = 32;  // a task
constexpr std::int64_t kLanes = 16;

struct Scores {
  float* values;
  std::int64_t rows, width;  // rows lie `stride` apart, a multiple of kLanes
  std::int64_t stride;
  float scale;
};

// softmax(scale * row) of each row.
[[gnu::always_inline]] inline void softmax_rows(const Scores* s) {
  for (std::int64_t r = 0; r < s->rows; ++r) {
    float* row = s->values + r * s->stride;
    float largest = row[0];
    for (std::int64_t i = 1; i < s->width; ++i) largest = std::max(largest, row[i]);
    for (std::int64_t i = 0; i < s->width; i += kLanes) {
      auto& lanes = *reinterpret_cast<Floats<kLanes>*>(row + i);
      lanes = (lanes - largest) * s->scale;
      exp_lanes(lanes);
    }
    float sum = 0;
    for (std::int64_t i = 0; i < s->width; ++i) sum += row[i];
    for (std::int64_t i = 0; i < s->width; ++i) row[i] /= sum;
  }
}

class AttentionStep final : public CpuStep {
 public:
  explicit AttentionStep(CpuPrepare& p)
      : heads_(p.op<Attention>().heads),
        tokens_(p.op<Attention>().tokens),
        width_(p.input(1).dims[1]),
        images_(p.input(1).dims[0] / tokens_),
        stride_((tokens_ + kLanes - 1) / kLanes * kLanes) {
    ScratchLayout layout;
    take(layout, p.threads());
    p.request_scratch(layout.size());
  }

  void run(CpuRun& run) override {
    ScratchLayout layout(run.scratch().data());
    const Memory memory = take(layout, run.threads());
    lay_out_keys(run, memory.keys);
    const std::int64_t chunks = (tokens_ + kQueries - 1) / kQueries;
    cpu_for(images_ * heads_ * chunks, run.threads(), [&](std::int64_t task) {
      float* scores = memory.scores + omp_get_thread_num() * kQueries * stride_;
      attend(run, memory.keys, scores, task / chunks, task % chunks * kQueries);
    });
  }

  double flops() const override { return 4.0 * static_cast<double>(images_ * tokens_ * tokens_ * width_); }

 private:
  struct Memory {
    float *keys, *scores;  // [images * heads, width / heads, stride], [threads, kQueries, stride]
  };

  Memory take(ScratchLayout& layout, int threads) const {
    float* const keys = layout.take<float>(images_ * width_ * stride_);
    return {keys, layout.take<float>(threads * kQueries * stride_)};
  }

  void lay_out_keys(const CpuRun& run, float* keys) const {
    const auto query_key = run.input<float, 2>(0);
    cpu_for(images_ * width_, run.threads(), [&](std::int64_t row) {
      const std::int64_t n = row / width_, c = row % width_;
      float* to = keys + row * stride_;
      for (std::int64_t t = 0; t < tokens_; ++t) to[t] = query_key(n * tokens_ + t, width_ + c);
      std::fill(to + tokens_, to + stride_, 0.0f);
    });
  }

  void attend(const CpuRun& run, const float* keys, float* scores, std::int64_t head,
              std::int64_t first) const {
    const std::int64_t n = head / heads_, size = width_ / heads_, channel = head % heads_ * size;
    const std::int64_t rows = std::min(kQueries, tokens_ - first), token = n * tokens_ + first;
    multiply({.a = run.input<float, 2>(0).at(token) + channel,
              .b = keys + (n * width_ + channel) * stride_,
              .c = scores,
              .rows = rows,
              .inner = size,
              .columns = stride_,
              .a_row = 2 * width_,
              .b_row = stride_,
              .c_row = stride_});
    const Scores job{scores, rows, tokens_, stride_, 1.0f / std::sqrt(static_cast<float>(size))};
    const Scores* const pointer = &job;
    vectorised<softmax_rows>(pointer);
    multiply({.a = scores,
              .b = run.input<float, 2>(1).at(n * tokens_) + channel,
              .c = run.output<float, 2>(0).at(token) + channel,
              .rows = rows,
              .inner = tokens_,
              .columns = size,
              .a_row = stride_,
              .b_row = width_,
              .c_row = width_});
  }

  const std::int64_t heads_, tokens_, width_, images_, stride_;
};

}  // namespace

CpuKernel attention_cpu() {
  return {.op = &kOpInfo<Attention>,
          .dtypes = {DType::kF32},
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            return std::make_unique<AttentionStep>(p);
          }};
}

}  // namespace osprey

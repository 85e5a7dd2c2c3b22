#include "ops/deformable_attention.h"

#include <algorithm>
#include <cmath>

#include <omp.h>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr std::int64_t kQueries = 8;  // a task

// A map of an image: its first row of values, and its extents.
struct Level {
  std::int64_t first;
  int height, width;
};

template <class T>
struct Maps {
  const T* value;  // of one image
  const Level* levels;
  std::int64_t level_count, channels, head_channels, heads, points;
};

// One query.
struct Query {
  const float *offsets, *logits, *reference;
  float *shares, *sums;  // workspaces of `samples` and `head_channels` floats
};

// sums += share * the bilinear sample of a level at (x, y) in pixels, zero outside.
template <class T>
[[gnu::always_inline]] inline void add_sample(const Maps<T>& maps, const Level& level, std::int64_t channel,
                                              float x, float y, float share, float* sums) {
  if (!(x > -1 && y > -1 && x < static_cast<float>(level.width) && y < static_cast<float>(level.height)))
    return;
  const float left = std::floor(x), top = std::floor(y);
  const float across = x - left, down = y - top;
  for (int corner = 0; corner < 4; ++corner) {
    const int column = static_cast<int>(left) + corner % 2, row = static_cast<int>(top) + corner / 2;
    if (column < 0 || row < 0 || column >= level.width || row >= level.height) continue;
    const float weight = share * (corner % 2 ? across : 1 - across) * (corner / 2 ? down : 1 - down);
    const std::int64_t token = level.first + std::int64_t{row} * level.width + column;
    const T* from = maps.value + token * maps.channels + channel;
    for (std::int64_t c = 0; c < maps.head_channels; ++c) sums[c] += weight * load_float(from[c]);
  }
}

inline void softmax(const float* logits, std::int64_t count, float* out) {
  const float largest = *std::max_element(logits, logits + count);
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += out[i] = std::exp(logits[i] - largest);
  for (std::int64_t i = 0; i < count; ++i) out[i] /= sum;
}

template <class T>
[[gnu::always_inline]] inline void attend(const Maps<T>* maps, const Query* q, T* out) {
  const std::int64_t samples = maps->level_count * maps->points;
  const float reach_x = q->reference[2] * 0.5f, reach_y = q->reference[3] * 0.5f;
  for (std::int64_t head = 0; head < maps->heads; ++head) {
    softmax(q->logits + head * samples, samples, q->shares);
    std::fill_n(q->sums, maps->head_channels, 0.0f);
    for (std::int64_t s = 0; s < samples; ++s) {
      const Level& level = maps->levels[s / maps->points];
      const float* offset = q->offsets + (head * samples + s) * 2;
      const float x = q->reference[0] + offset[0] / static_cast<float>(maps->points) * reach_x;
      const float y = q->reference[1] + offset[1] / static_cast<float>(maps->points) * reach_y;
      add_sample(*maps, level, head * maps->head_channels, x * static_cast<float>(level.width) - 0.5f,
                 y * static_cast<float>(level.height) - 0.5f, q->shares[s], q->sums);
    }
    for (std::int64_t c = 0; c < maps->head_channels; ++c)
      out[head * maps->head_channels + c] = store_float<T>(q->sums[c]);
  }
}

class DeformableAttentionStep final : public CpuStep {
 public:
  explicit DeformableAttentionStep(CpuPrepare& p)
      : op_(p.op<DeformableAttention>()), head_channels_(p.input(0).dims[1] / op_.heads) {
    for (std::size_t l = 0; l < op_.sizes.size(); l += 2) {
      levels_.push_back({tokens_, op_.sizes[l], op_.sizes[l + 1]});
      tokens_ += std::int64_t{op_.sizes[l]} * op_.sizes[l + 1];
    }
    p.request_scratch(static_cast<std::size_t>(p.threads() * workspace()) * sizeof(float));
  }

  void run(CpuRun& run) override {
    with_float(run.in(0).dtype, [&]<class T>() { all_queries<T>(run); });
  }

 private:
  template <class T>
  void all_queries(CpuRun& run) const {
    const auto offsets = run.input<float, 2>(1), logits = run.input<float, 2>(2),
               reference = run.input<float, 2>(3);
    const auto out = run.output<T, 2>(0);
    cpu_for((out.dim(0) + kQueries - 1) / kQueries, run.threads(), [&](std::int64_t chunk) {
      float* const shares =
          reinterpret_cast<float*>(run.scratch().data()) + omp_get_thread_num() * workspace();
      for (std::int64_t q = chunk * kQueries; q < std::min((chunk + 1) * kQueries, out.dim(0)); ++q) {
        const Maps<T> maps = maps_of<T>(run, q / op_.queries);
        const Query query{offsets.at(q), logits.at(q), reference.at(q), shares, shares + op_.samples()};
        const Maps<T>* const all = &maps;
        const Query* const one = &query;
        vectorised<attend<T>>(all, one, out.at(q));
      }
    });
  }

  std::int64_t workspace() const { return op_.samples() + head_channels_; }  // floats a thread

  template <class T>
  Maps<T> maps_of(const CpuRun& run, std::int64_t image) const {
    const auto value = run.input<T, 2>(0);
    return {.value = value.at(image * tokens_),
            .levels = levels_.data(),
            .level_count = op_.levels(),
            .channels = value.dim(1),
            .head_channels = head_channels_,
            .heads = op_.heads,
            .points = op_.points};
  }

  const DeformableAttention op_;
  const std::int64_t head_channels_;
  std::vector<Level> levels_;
  std::int64_t tokens_ = 0;  // of an image
};

}  // namespace

CpuKernel deformable_attention_cpu() {
  return {.op = &kOpInfo<DeformableAttention>,
          .dtypes = {DType::kF32, DType::kBF16},
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            return std::make_unique<DeformableAttentionStep>(p);
          }};
}

}  // namespace osprey

#include "ops/select_queries.h"

#include <algorithm>

#include "cpu/kernel.h"
#include "cpu/ranking.h"

namespace osprey {
namespace {

constexpr std::int64_t kTokens = 64;  // a task

void rank_tokens(const CpuRun& run, std::int64_t tokens, Rank* ranks) {
  const auto logits = run.input<float, 2>(0);
  cpu_for((logits.dim(0) + kTokens - 1) / kTokens, run.threads(), [&](std::int64_t chunk) {
    for (std::int64_t r = chunk * kTokens; r < std::min((chunk + 1) * kTokens, logits.dim(0)); ++r)
      ranks[r] = rank_of(*std::max_element(logits.at(r), logits.at(r) + logits.dim(1)),
                         static_cast<std::uint32_t>(r % tokens));
  });
}

}  // namespace

CpuKernel select_queries_cpu() {
  return {.op = &kOpInfo<SelectQueries>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& p) {
            p.request_scratch(static_cast<std::size_t>(p.input(0).dims[0]) * sizeof(Rank));
            return cpu_step([op = p.op<SelectQueries>()](CpuRun& run) {
              auto* const ranks = reinterpret_cast<Rank*>(run.scratch().data());
              rank_tokens(run, op.tokens, ranks);
              std::int32_t* out = run.output<std::int32_t, 1>(0).data;
              for (std::int64_t first = 0; first < run.in(0).dims[0]; first += op.tokens) {
                Rank* const of_image = ranks + first;
                std::partial_sort(of_image, of_image + op.top, of_image + op.tokens, std::greater<>());
                for (int i = 0; i < op.top; ++i)
                  *out++ = static_cast<std::int32_t>(first + index_of(of_image[i]));
              }
            });
          }};
}

}  // namespace osprey

// Two launches: a warp a token finds its best logit, then a block an image finds the best tokens.
#include <algorithm>

#include "cuda/block.cuh"
#include "cuda/kernel.h"
#include "cuda/numbers.cuh"
#include "ops/select_queries.h"

namespace osprey {
namespace {

using namespace cuda;

constexpr int kRankWarps = 8, kSelectThreads = 1024;
constexpr int kSortedInShared = 4096;  // ranks; more are sorted in global memory

// The largest as std::max_element has it: a NaN counts only if it comes first.
__global__ void __launch_bounds__(32 * kRankWarps)
    rank_tokens(const float* logits, int rows, int classes, int tokens, Rank* ranks) {
  const int row = static_cast<int>(blockIdx.x) * kRankWarps + warp_of_thread(), lane = lane_of_thread();
  if (row >= rows) return;
  const float* const of_token = logits + static_cast<std::int64_t>(row) * classes;
  float most = -INFINITY;
  for (int c = lane; c < classes; c += 32) most = fmaxf(most, __ldg(of_token + c));
  for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, step));
  if (lane != 0) return;
  const float first = of_token[0];
  ranks[row] = rank_of(isnan(first) ? first : most, static_cast<std::uint32_t>(row % tokens));
}

struct Job {
  const Rank* ranks;  // [images, tokens]
  Rank* sorted;       // [images, sorted_size]; null where shared memory does
  int tokens, top, sorted_size;
  bool staged;  // an image's ranks fit into shared memory, too
  int* rows;
};

__global__ void __launch_bounds__(kSelectThreads) select(Job job) {
  extern __shared__ Rank memory[];
  __shared__ int histogram[kDigits];
  const int image = static_cast<int>(blockIdx.x);
  const Rank* ranks = job.ranks + static_cast<std::int64_t>(image) * job.tokens;
  Rank* const sorted = job.sorted ? job.sorted + static_cast<std::int64_t>(image) * job.sorted_size : memory;
  if (job.staged) {
    Rank* const staged = job.sorted ? memory : memory + job.sorted_size;
    for (int i = static_cast<int>(threadIdx.x); i < job.tokens; i += kSelectThreads) staged[i] = ranks[i];
    ranks = staged;
    __syncthreads();
  }
  const auto candidates = [&](auto&& f) {
    for (int i = static_cast<int>(threadIdx.x); i < job.tokens; i += kSelectThreads) f(ranks[i]);
  };
  best_of(candidates, job.top, sorted, job.sorted_size, histogram);
  for (int i = static_cast<int>(threadIdx.x); i < job.top; i += kSelectThreads)
    job.rows[image * job.top + i] = image * job.tokens + static_cast<int>(index_of(sorted[i]));
}

class SelectQueriesStep final : public CudaStep {
 public:
  explicit SelectQueriesStep(CudaPrepare& p)
      : op_(p.op<SelectQueries>()),
        rows_(p.input(0).dims[0]),
        images_(rows_ / op_.tokens),
        sorted_size_(sort_size(op_.top)) {
    require(rows_ <= INT_MAX, "{}: {} tokens are more than the GPU takes", p.node().name, rows_);
    sorts_in_shared_ = sorted_size_ <= kSortedInShared;
    shared_ = sorts_in_shared_ ? bytes_of(sorted_size_) : 0;
    const std::size_t room = p.device().shared_bytes_optin - sizeof(int) * (kDigits + 256);
    staged_ = shared_ + bytes_of(op_.tokens) <= room;
    if (staged_) shared_ += bytes_of(op_.tokens);
    cuda_check(
        cudaFuncSetAttribute(select, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(room)),
        "select_queries");
    p.request_scratch(bytes_of(rows_) + (sorts_in_shared_ ? 0 : bytes_of(images_ * sorted_size_)));
  }

  void launch(CudaRun& run) override {
    if (rows_ == 0) return;
    const CudaValue& logits = run.in(0);
    auto* const ranks = reinterpret_cast<Rank*>(run.scratch());
    rank_tokens<<<blocks_for(rows_, kRankWarps), 32 * kRankWarps, 0, run.stream()>>>(
        logits.as<float>(), static_cast<int>(rows_), static_cast<int>(logits.dims[1]), op_.tokens, ranks);
    const Job job{ranks,
                  sorts_in_shared_ ? nullptr : ranks + rows_,
                  op_.tokens,
                  op_.top,
                  sorted_size_,
                  staged_,
                  run.out(0).as<int>()};
    select<<<static_cast<unsigned>(images_), kSelectThreads, shared_, run.stream()>>>(job);
    cuda_check_launch("select_queries");
  }

  std::string detail() const override { return "own"; }

 private:
  static std::size_t bytes_of(std::int64_t ranks) { return static_cast<std::size_t>(ranks) * sizeof(Rank); }

  const SelectQueries op_;
  const std::int64_t rows_, images_;
  const int sorted_size_;
  bool sorts_in_shared_ = true, staged_ = true;
  std::size_t shared_ = 0;
};

}  // namespace

CudaKernel select_queries_cuda() {
  return {.op = &kOpInfo<SelectQueries>,
          .dtypes = {DType::kF32},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<SelectQueriesStep>(p);
          }};
}

}  // namespace osprey

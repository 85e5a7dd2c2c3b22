// The selection of queries and of detections: the same rows, in the same order, as on the CPU.
#include "ops/detect_queries.h"

#include <limits>

#include "cuda/box_cases.h"
#include "ops/select_queries.h"

namespace osprey {
namespace {

// Multiples of a step: many are equal.
Tensor with_ties(Tensor logits, float step) {
  for (float& v : logits.mutable_values<float>()) v = std::round(v / step) * step;
  return logits;
}

void run_selection(const SelectQueries& op, const Tensor& logits, const std::string& what) {
  expect_same_bytes({.op = op, .inputs = {{logits}}},
                    fmt::format("{} of {}, {} classes{}", op.top, op.tokens, logits.dim(1), what));
}

TEST(CudaSelectQueries, TheBestTokensOfEachImage) {
  SKIP_WITHOUT_GPU();
  struct Case {
    int top, tokens;
    std::int64_t images, classes;
  };
  for (const Case& c : {Case{1, 1, 1, 1},
                        {5, 5, 3, 7},
                        {3, 40, 2, 33},
                        {300, 8400, 1, 80},
                        {100, 8400, 3, 80},
                        {5000, 8400, 1, 4},     // sorted in global memory
                        {300, 40000, 1, 2}}) {  // more than shared memory holds
    const SelectQueries op{.top = c.top, .tokens = c.tokens};
    const Tensor logits = random_tensor({c.images * c.tokens, c.classes}, -8, 2, 1);
    run_selection(op, logits, "");
    run_selection(op, with_ties(logits, 0.5f), ", many equal");
    run_selection(op, with_ties(logits, 100.0f), ", all equal");
  }
}

TEST(CudaSelectQueries, InfinitiesComeFirstOrLast) {
  SKIP_WITHOUT_GPU();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  Tensor logits = random_tensor({100, 3}, -1, 1, 1);
  const auto v = logits.mutable_values<float>();
  v[5] = v[50] = kInf;
  for (std::size_t i = 60; i < 63; ++i) v[i] = -kInf;
  run_selection({.top = 100, .tokens = 100}, logits, ", infinities");
}

struct Detection {
  DetectQueries op;
  Tensor logits;
  RunParameters parameters{};
};

void run_detection(const Detection& c, const std::string& what) {
  const std::int64_t rows = c.logits.dim(0), images = rows / c.op.queries;
  // Scores within a unit in the last place: exp is rounded once here, and by the CPU's library nearly always.
  expect_as_on_cpu(
      {.op = c.op,
       .inputs = {{c.logits}, {random_tensor({rows, 4}, 0, 1, 2)}, {rows_tensor(geometry_of(images))}},
       .parameters = c.parameters},
      3e-7,
      fmt::format("{} of {} queries, {} classes, {} images{}", c.op.top, c.op.queries, c.logits.dim(1),
                  images, what));
}

TEST(CudaDetectQueries, TheBestOfAllQueriesAndClasses) {
  SKIP_WITHOUT_GPU();
  struct Case {
    int top, queries;
    std::int64_t images, classes;
  };
  for (const Case& c : {Case{1, 1, 1, 1},
                        {7, 7, 3, 1},
                        {20, 10, 2, 3},
                        {300, 300, 1, 80},
                        {100, 300, 3, 80},
                        {6000, 300, 1, 80},     // sorted in global memory
                        {300, 900, 1, 365}}) {  // more than shared memory holds
    const DetectQueries op{.top = c.top, .queries = c.queries};
    const Shape shape{c.images * c.queries, c.classes};
    run_detection({op, random_tensor(shape, -9, 3, 1)}, "");
    run_detection({op, with_ties(random_tensor(shape, -9, 3, 1), 0.5f)}, ", many equal");
    run_detection({op, random_tensor(shape, 14, 30, 1)}, ", near 1");
    run_detection({op, random_tensor(shape, -200, -80, 1)}, ", near 0");
  }
}

TEST(CudaDetectQueries, ThresholdsAndNumbersOfARun) {
  SKIP_WITHOUT_GPU();
  for (const float threshold : {0.0f, 0.3f, 0.99f, 1.0f})
    for (const int most : {0, 1, 50, 1000}) {
      Detection c{{.top = 100, .queries = 50, .threshold = threshold}, random_tensor({150, 4}, -5, 2, 1)};
      run_detection(c, fmt::format(", above {}", threshold));
      c.parameters = {.score_threshold = threshold, .max_detections = most};
      c.op.threshold = -1;
      run_detection(c, fmt::format(", above {} and {} at most in the run", threshold, most));
    }
}

}  // namespace
}  // namespace osprey

// Heatmaps as queries: the same peaks and boxes as on the CPU.
#include "ops/center_queries.h"

#include "cuda/box_cases.h"

namespace osprey {
namespace {

struct Case {
  std::int64_t images, classes, height, width;
  CenterQueries op{};
};

void run_case(const Case& c, Tensor logits, const std::string& what) {
  const Shape maps{c.images, 2, c.height, c.width};
  // Scores are rounded alike but for the last place, far below what a peak may differ by.
  expect_as_on_cpu({.op = c.op,
                    .inputs = {{std::move(logits)},
                               {random_tensor(maps, -2, 9, 2)},
                               {random_tensor(maps, -1, 2, 3)},
                               {rows_tensor(geometry_of(c.images))}}},
                   3e-7,
                   fmt::format("{} x {} x {} x {}, peaks of {}{}", c.images, c.classes, c.height, c.width,
                               c.op.peak, what));
}

TEST(CudaCenterQueries, PeaksAndBoxes) {
  SKIP_WITHOUT_GPU();
  for (const Case& c : {Case{1, 1, 1, 1},
                        {2, 3, 5, 7},
                        {1, 90, 128, 128},
                        {3, 2, 16, 40, {.peak = 1}},
                        {2, 5, 9, 9, {.peak = 4, .stride = 8}},
                        {1, 4, 30, 17, {.peak = 7}}}) {
    const Shape shape{c.images, c.classes, c.height, c.width};
    // Multiples of a step, so that scores are the same or far apart.
    Tensor logits = random_tensor(shape, -6, 6, 1);
    for (float& v : logits.mutable_values<float>()) v = std::round(v * 4) / 4;
    run_case(c, logits, "");
    run_case(c, Tensor::zeros(DType::kF32, shape), ", all equal");
  }
}

}  // namespace
}  // namespace osprey

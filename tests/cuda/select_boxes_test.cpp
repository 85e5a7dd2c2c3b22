#include "ops/select_boxes.h"

#include <array>
#include <limits>

#include "cuda/box_cases.h"

namespace osprey {
namespace {

void expect_as_on_cpu(const SelectBoxes& op, const std::vector<Roi>& rois, const Tensor& scores,
                      const Tensor& deltas, const std::string& what, RunParameters parameters = {}) {
  const auto count = static_cast<std::int64_t>(rois.size()), bound = count + 3;
  Tensor boxes = Tensor::zeros(DType::kF32, {0, 5});
  if (count > 0) boxes = rows_tensor(rois);
  expect_same_selection({.op = op,
                         .inputs = {counted(boxes, bound),
                                    counted(scores, bound),
                                    counted(deltas, bound),
                                    {rows_tensor(kTwoImages)}},
                         .parameters = parameters},
                        what);
}

TEST(CudaSelectBoxes, ShapesAndThresholds) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t count : {0, 1, 8, 9, 100, 1000})
    for (const std::int64_t classes : {1, 6, 31, 32, 80})
      for (const bool agnostic : {false, true})
        for (const float threshold : agnostic ? std::array{0.7f, 1.0f} : std::array{0.05f, 0.999f}) {
          const std::vector<Roi> rois = random_boxes(count, count > 1 ? 2 : 1, 1);
          expect_as_on_cpu({.threshold = threshold, .weights = {10, 5, 2, 1}}, rois,
                           random_tensor({count, classes + 1}, 0, 1, 2),
                           random_tensor({count, agnostic ? 4 : 4 * classes}, -3, 3, 3),
                           fmt::format("{} rois, {} classes, above {}{}", count, classes, threshold,
                                       agnostic ? ", class-agnostic" : ""));
        }
}

TEST(CudaSelectBoxes, TheThresholdOfARun) {
  SKIP_WITHOUT_GPU();
  const std::vector<Roi> rois = random_boxes(50, 2, 1);
  for (const float p : {0.0f, 0.5f, 1.0f})
    expect_as_on_cpu({}, rois, random_tensor({50, 4}, 0, 1, 2), random_tensor({50, 12}, -3, 3, 3),
                     fmt::format("above {}", p), {.score_threshold = p});
}

TEST(CudaSelectBoxes, AnyNumberThatIsNotFiniteDropsTheRoi) {
  SKIP_WITHOUT_GPU();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  std::vector<Roi> rois(40, {0, {10, 10, 30, 20}});
  Tensor scores = Tensor::zeros(DType::kF32, {40, 38}), deltas = Tensor::zeros(DType::kF32, {40, 148});
  std::ranges::fill(scores.mutable_values<float>(), 0.5f);
  const auto s = scores.mutable_values<float>(), d = deltas.mutable_values<float>();
  s[1 * 38 + 37] = NAN;  // the background's
  s[2 * 38 + 3] = kInf;
  d[3 * 148 + 147] = kInf;  // clamped: still finite
  d[4 * 148 + 145] = kInf;  // moves the last class away
  d[5 * 148 + 2] = NAN;
  d[6 * 148 + 0] = 3e38f;  // overflows
  rois[7].box.x0 = NAN, rois[8].box.x1 = kInf, rois[9].box = {-3e38f, 0, 3e38f, 5};
  for (std::size_t k = 0; k < 37; ++k) s[10 * 38 + k] = 0.01f;
  d[10 * 148] = NAN;  // of a roi that gives no row
  expect_as_on_cpu({}, rois, scores, deltas, "not finite");
}

TEST(CudaSelectBoxes, TensorflowsOrders) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t classes : {1, 6, 90})
    for (const bool agnostic : {false, true}) {
      Tensor deltas = random_tensor({100, agnostic ? 4 : 4 * classes}, -3, 3, 3);
      deltas.mutable_values<float>()[static_cast<std::size_t>(5 * deltas.dim(1))] = NAN;
      for (const float threshold : {0.0f, 0.7f})
        expect_as_on_cpu({.threshold = threshold,
                          .weights = {10, 5, 2, 1},
                          .max_log_scale = 0,
                          .delta_order = DeltaOrder::kYxhw,
                          .background_first = true,
                          .clip = false},
                         random_boxes(100, 2, 1), random_tensor({100, classes + 1}, 0, 1, 2), deltas,
                         fmt::format("{} classes", classes));
    }
}

TEST(CudaSelectBoxes, InclusiveBoxesAndDeltasOfTheBackground) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t classes : {1, 6, 80})
    for (const bool agnostic : {false, true})
      for (const bool background : {false, true}) {
        Tensor deltas = random_tensor({100, (agnostic ? 4 : 4 * classes) + (background ? 4 : 0)}, -3, 3, 3);
        const auto d = deltas.mutable_values<float>();
        d[static_cast<std::size_t>(5 * deltas.dim(1))] = NAN;  // of the background, or of the first class
        expect_as_on_cpu({.threshold = 0.05f,
                          .background_first = true,
                          .background_deltas = background,
                          .inclusive = true},
                         random_boxes(100, 2, 1), random_tensor({100, classes + 1}, 0, 1, 2), deltas,
                         fmt::format("{} classes", classes));
      }
}

}  // namespace
}  // namespace osprey

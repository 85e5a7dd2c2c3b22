#include "ops/nms.h"

#include <cmath>
#include <limits>

#include "cuda/box_cases.h"

namespace osprey {
namespace {

struct Candidates {
  std::vector<Roi> boxes;
  std::vector<float> scores;
  std::vector<std::int32_t> groups;

  void add(const Roi& box, float score, std::int32_t group) {
    boxes.push_back(box), scores.push_back(score), groups.push_back(group);
  }
};

// With ties. `sorted`: group by group by descending score, as select_anchors gives them.
Candidates random_candidates(const std::vector<int>& per_image, int groups, std::uint32_t seed,
                             bool sorted = false) {
  Candidates out;
  for (std::size_t n = 0; n < per_image.size(); ++n) {
    const auto count = static_cast<std::size_t>(per_image[n]);
    const std::vector<float> r =
        random_floats(std::int64_t{per_image[n]} * 6, 0, 1, seed + static_cast<std::uint32_t>(n));
    for (std::size_t i = 0; i < count; ++i) {
      const float* v = &r[6 * i];
      const float x = v[0] * 200 - 10, y = v[1] * 150 - 10;
      const Roi box{static_cast<float>(n), {x, y, x + v[2] * 90, y + v[3] * 90}};
      if (sorted) {
        const std::size_t each =
            (count + static_cast<std::size_t>(groups) - 1) / static_cast<std::size_t>(groups);
        const std::size_t step = i % each / 3;
        out.add(box, 5.0f - static_cast<float>(step) * 0.01f, static_cast<std::int32_t>(i / each));
      } else {
        out.add(box, std::floor(v[4] * 300) / 300,
                static_cast<std::int32_t>(v[5] * static_cast<float>(groups)));
      }
    }
  }
  return out;
}

void expect_as_on_cpu(const Candidates& in, const Nms& op, std::int64_t images, const std::string& what,
                      std::int64_t bound = 0, RunParameters parameters = {}) {
  const auto count = static_cast<std::int64_t>(in.scores.size());
  if (bound == 0) bound = count + 5;
  Tensor boxes = Tensor::zeros(DType::kF32, {count, 5});
  if (count > 0) boxes = rows_tensor(in.boxes);
  expect_same_bytes({.op = op,
                     .inputs = {counted(boxes, bound),
                                counted(tensor_of(in.scores, {count}), bound),
                                counted(tensor_of(in.groups, {count}), bound),
                                {Tensor::zeros(DType::kF32, {images, 6})}},
                     .parameters = parameters},
                    what);
}

TEST(CudaNms, CountsAndImages) {
  SKIP_WITHOUT_GPU();
  const std::vector<std::vector<int>> shapes{{0},        {1},           {2},          {31},
                                             {32},       {33},          {400},        {0, 0},
                                             {5, 0, 70}, {0, 0, 40, 0}, {100, 1, 33}, {1, 1, 1, 1, 1, 1},
                                             {700, 300}};
  for (const auto& per_image : shapes)
    for (const int limit : {0, 50, 1000}) {
      const Candidates in = random_candidates(per_image, 5, 7);
      expect_as_on_cpu(
          in, {.iou = 0.5f, .offset_limit = limit}, static_cast<std::int64_t>(per_image.size()),
          fmt::format("{} candidates in {} images, limit {}", in.scores.size(), per_image.size(), limit));
    }
}

TEST(CudaNms, ThresholdsAndLimits) {
  SKIP_WITHOUT_GPU();
  const Candidates in =
      random_candidates(short_cases() ? std::vector{100, 95, 110} : std::vector{400, 380, 420}, 5, 8);
  for (const int limit : {0, 400, 1000})
    for (const float iou : {0.0f, 0.3f, 0.7f, 1.0f})
      for (const int most : {1, 30, 700})
        expect_as_on_cpu(in, {.iou = iou, .max_detections = most, .offset_limit = limit}, 3,
                         fmt::format("iou {}, most {}, limit {}", iou, most, limit));
}

// As many as a pyramid's proposals.
TEST(CudaNms, Proposals) {
  SKIP_WITHOUT_GPU();
  for (const bool sorted : {true, false}) {
    const Candidates in = random_candidates({short_cases() ? 2500 : 4819}, 5, 9, sorted);
    expect_as_on_cpu(in, {.iou = 0.7f, .max_detections = 1000, .stage = 1}, 1, sorted ? "sorted" : "mixed",
                     5000);
  }
  const auto two_images = short_cases() ? std::vector{1600, 1100} : std::vector{2000, 1500};
  expect_as_on_cpu(random_candidates(two_images, 5, 10, true),
                   {.iou = 0.7f, .max_detections = 3000, .stage = 1}, 2, "two images, many kept", 10000);
}

// One more than there are bits for, and a bound far above the live rows.
TEST(CudaNms, TooManyToCompareAtOnce) {
  SKIP_WITHOUT_GPU();
  take_as_small(60000);
  const Candidates in = random_candidates({8193, 40}, 40, 11);
  for (const int most : short_cases() ? std::vector{1, 100} : std::vector{1, 100, 3000})
    expect_as_on_cpu(in, {.iou = 0.4f, .max_detections = most}, 2, fmt::format("most {}", most), 50000);
  expect_as_on_cpu(in, {.iou = 0.4f, .offset_limit = 20000}, 2, "together", 50000);
  expect_as_on_cpu(random_candidates({300}, 80, 12), {}, 1, "few of many", 80000);
}

// A box that only its neighbour overlaps, again and again: every second one stays, and each waits for the one
// before.
TEST(CudaNms, Chains) {
  SKIP_WITHOUT_GPU();
  const int count = short_cases() ? 150 : 700;
  for (const bool backwards : {false, true}) {
    Candidates in;
    for (int i = 0; i < count; ++i) {
      const float x = static_cast<float>(i) * 6;
      in.add({0, {x, 0, x + 10, 10}}, 1 - static_cast<float>(backwards ? count - i : i) * 1e-3f, 0);
    }
    expect_as_on_cpu(in, {.iou = 0.2f, .max_detections = 1000, .offset_limit = 0}, 1, "chain");
  }
}

TEST(CudaNms, PilesOfTheSameBox) {
  SKIP_WITHOUT_GPU();
  Candidates in;
  for (int i = 0; i < 900; ++i) in.add({0, {10, 10, 50, 50}}, 0.5f, i % 3);
  expect_as_on_cpu(in, {.iou = 0.9f}, 1, "one of each group stays");
  expect_as_on_cpu(in, {.iou = 0.9f, .offset_limit = 0}, 1, "one of each group stays, exact");
  expect_as_on_cpu(in, {.iou = 1.0f}, 1, "nothing is above 1");
}

// With boxes left of the origin, the offsets of torchvision's short cut can make boxes of different groups
// overlap.
TEST(CudaNms, KeepsTheQuirkOfTheSharedPass) {
  SKIP_WITHOUT_GPU();
  Candidates in;
  in.add({0, {0, 0, 10, 10}}, 0.9f, 0);
  in.add({0, {-11, -11, -1, -1}}, 0.8f, 1);
  expect_as_on_cpu(in, {.iou = 0.5f, .offset_limit = 1000}, 1, "together");
  expect_as_on_cpu(in, {.iou = 0.5f, .offset_limit = 1}, 1, "by group");
  // Groups far from the origin, whose offsets round the boxes.
  for (std::int32_t& g : in.groups) g += 1 << 20;
  expect_as_on_cpu(in, {.iou = 0.5f, .offset_limit = 1000}, 1, "rounded");
}

TEST(CudaNms, ThresholdIsStrict) {
  SKIP_WITHOUT_GPU();
  Candidates in;
  in.add({0, {0, 0, 2, 1}}, 0.9f, 0);
  in.add({0, {0, 0, 1, 1}}, 0.8f, 0);  // IoU 0.5
  expect_as_on_cpu(in, {.iou = 0.5f}, 1, "at the threshold");
  expect_as_on_cpu(in, {.iou = 0.49f}, 1, "above it");
}

TEST(CudaNms, RunParametersApplyToTheLastStageOnly) {
  SKIP_WITHOUT_GPU();
  const Candidates in = random_candidates({200, 210}, 2, 9);
  for (const int stage : {1, 2})
    for (const int most : {0, 3, 50}) {
      const RunParameters parameters{.nms_iou = 0.1f, .max_detections = most};
      expect_as_on_cpu(in, {.iou = 0.9f, .max_detections = 40, .stage = stage}, 2,
                       fmt::format("stage {}, most {}", stage, most), 0, parameters);
    }
}

TEST(CudaNms, Nonsense) {
  SKIP_WITHOUT_GPU();
  const float nan = NAN, inf = std::numeric_limits<float>::infinity();
  Candidates in;
  in.add({0, {nan, 0, 1, 1}}, nan, 0);
  in.add({0, {0, 0, inf, inf}}, inf, 1);
  in.add({0, {5, 5, 5, 5}}, -inf, 1);
  in.add({0, {5, 5, 5, 5}}, 0.0f, 1);
  in.add({0, {30, 30, 20, 20}}, -0.0f, 1);
  in.add({0, {0, 0, 3e38f, 3e38f}}, 0.5f, 1);
  in.add({0, {1, 1, 3e38f, 3e38f}}, -0.5f, 1);
  in.add({1, {9, 9, 1, 1}}, -0.0f, 0);
  for (const int limit : {0, 1000}) expect_as_on_cpu(in, {.offset_limit = limit}, 3, "nonsense");
}

TEST(CudaNms, InclusiveBoxes) {
  SKIP_WITHOUT_GPU();
  for (const auto& per_image : std::vector<std::vector<int>>{{0}, {1}, {400}, {5, 0, 70}, {8193, 40}})
    for (const float iou : {0.0f, 0.3f, 0.7f})
      for (const int most : {30, 1000})
        expect_as_on_cpu(random_candidates(per_image, 5, 7),
                         {.iou = iou, .max_detections = most, .offset_limit = 0, .inclusive = true},
                         static_cast<std::int64_t>(per_image.size()),
                         fmt::format("{} candidates, iou {}, most {}", per_image[0], iou, most));
  // 50 of 100 pixels: suppressed at 0.5, and not at the next number.
  Candidates pair;
  pair.add({0, {0, 0, 9, 9}}, 0.9f, 0);
  pair.add({0, {0, 0, 9, 4}}, 0.8f, 0);
  for (const float iou : {0.5f, std::nextafter(0.5f, 1.0f), 0.0f})
    expect_as_on_cpu(pair, {.iou = iou, .offset_limit = 0, .inclusive = true}, 1, "at the threshold");
  expect_as_on_cpu(pair, {.iou = 0.9f, .offset_limit = 0, .inclusive = true}, 1, "a run without suppression",
                   0, {.nms_iou = 0.0f});
}

// Of maskrcnn-benchmark's pyramids: so many proposals of a level, before the best of all.
TEST(CudaNms, InclusiveBoxesOfLimitedGroups) {
  SKIP_WITHOUT_GPU();
  const int many = short_cases() ? 100 : 700;
  for (const auto& per_image : std::vector<std::vector<int>>{{0}, {1}, {many}, {5, 0, many}})
    for (const int limit : {1, 7, 50})
      for (const float iou : {0.0f, 0.7f})
        expect_as_on_cpu(random_candidates(per_image, 5, 7),
                         {.iou = iou,
                          .max_detections = 120,
                          .offset_limit = 0,
                          .max_per_group = limit,
                          .stage = 1,
                          .inclusive = true},
                         static_cast<std::int64_t>(per_image.size()),
                         fmt::format("{} candidates, iou {}, {} a group", per_image[0], iou, limit));
}

}  // namespace
}  // namespace osprey

#include "ops/nms.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "cpu/boxes.h"
#include "cpu/kernel_harness.h"

namespace osprey {
namespace {

struct Candidates {
  std::vector<Roi> boxes;
  std::vector<float> scores;
  std::vector<std::int32_t> groups;
};

Candidates random_candidates(int images, int per_image, int groups, std::uint32_t seed) {
  const std::vector<float> r = random_floats(std::int64_t{images} * per_image * 6, 0, 1, seed);
  Candidates out;
  for (std::size_t i = 0; i < r.size() / 6; ++i) {
    const float* v = &r[6 * i];
    const float x = v[0] * 200 - 10, y = v[1] * 150 - 10;
    out.boxes.push_back(
        {static_cast<float>(i / static_cast<std::size_t>(per_image)), {x, y, x + v[2] * 90, y + v[3] * 90}});
    out.scores.push_back(std::floor(v[4] * 300) / 300);  // with ties
    out.groups.push_back(static_cast<std::int32_t>(v[5] * static_cast<float>(groups)));
  }
  return out;
}

float iou_of(const Box& a, const Box& b) {
  const float w = std::max(0.0f, std::min(a.x1, b.x1) - std::max(a.x0, b.x0));
  const float h = std::max(0.0f, std::min(a.y1, b.y1) - std::max(a.y0, b.y0));
  return w * h / (a.area() + b.area() - w * h);
}

// Rows that torchvision's batched_nms keeps of one image, written as it is defined.
std::vector<std::int32_t> keep(const Candidates& in, const Nms& op, int image) {
  std::vector<std::int32_t> rows;
  for (std::size_t i = 0; i < in.boxes.size(); ++i)
    if (static_cast<int>(in.boxes[i].image) == image) rows.push_back(static_cast<std::int32_t>(i));
  const bool together = static_cast<int>(rows.size()) <= op.offset_limit;
  float largest = -std::numeric_limits<float>::infinity();
  for (const auto r : rows) {
    const Box& b = in.boxes[static_cast<std::size_t>(r)].box;
    largest = std::max({largest, b.x0, b.y0, b.x1, b.y1});
  }
  const auto moved = [&](std::int32_t r) {
    Box b = in.boxes[static_cast<std::size_t>(r)].box;
    const float offset =
        together ? static_cast<float>(in.groups[static_cast<std::size_t>(r)]) * (largest + 1) : 0;
    return Box{b.x0 + offset, b.y0 + offset, b.x1 + offset, b.y1 + offset};
  };
  std::ranges::stable_sort(rows, std::greater<>(),
                           [&](std::int32_t r) { return in.scores[static_cast<std::size_t>(r)]; });
  std::vector<std::int32_t> kept;
  for (const auto r : rows) {
    const bool bad = std::ranges::any_of(kept, [&](std::int32_t k) {
      return (together || in.groups[static_cast<std::size_t>(k)] == in.groups[static_cast<std::size_t>(r)]) &&
             iou_of(moved(k), moved(r)) > op.iou;
    });
    if (!bad) kept.push_back(r);
  }
  if (kept.size() > static_cast<std::size_t>(op.max_detections))
    kept.resize(static_cast<std::size_t>(op.max_detections));
  return kept;
}

std::vector<Tensor> run(const Candidates& in, const Nms& op, int images, int threads = 1,
                        RunParameters parameters = {}) {
  const auto count = static_cast<std::int64_t>(in.scores.size());
  const std::int64_t bound = count + 5;
  return run_kernel(
      {.op = op,
       .inputs = {{Tensor::from<float>({reinterpret_cast<const float*>(in.boxes.data()), in.boxes.size() * 5},
                                       {count, 5}),
                   {},
                   bound},
                  {tensor_of(in.scores, {count}), {}, bound},
                  {tensor_of(in.groups, {count}), {}, bound},
                  {Tensor::zeros(DType::kF32, {images, 6})}},
       .threads = threads,
       .parameters = parameters});
}

void expect_rows(const Candidates& in, const std::vector<std::int32_t>& rows,
                 const std::vector<Tensor>& got) {
  ASSERT_EQ(got[0].dim(0), static_cast<std::int64_t>(rows.size()));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto r = static_cast<std::size_t>(rows[i]);
    const float* box = got[0].values<float>().data() + 5 * i;
    EXPECT_EQ(box[0], in.boxes[r].image);
    EXPECT_EQ((Box{box[1], box[2], box[3], box[4]}), in.boxes[r].box) << "row " << i;
    EXPECT_EQ(got[1].values<float>()[i], in.scores[r]);
    EXPECT_EQ(got[2].values<std::int32_t>()[i], in.groups[r]);
  }
}

TEST(Nms, IsTorchvisionsForEveryImage) {
  for (const int limit : {0, 1000})
    for (const float iou : {0.0f, 0.3f, 0.7f})
      for (const int most : {1, 30, 700}) {
        const Nms op{.iou = iou, .max_detections = most, .offset_limit = limit};
        const Candidates in = random_candidates(3, 400, 5, 7);
        std::vector<std::int32_t> want;
        for (int n = 0; n < 3; ++n) std::ranges::copy(keep(in, op, n), std::back_inserter(want));
        expect_rows(in, want, run(in, op, 3));
        expect_rows(in, want, run(in, op, 3, 2));
      }
}

// With boxes left of the origin, offsets of torchvision's short cut can make boxes of different groups
// overlap.
TEST(Nms, KeepsTheQuirkOfTheSharedPass) {
  Candidates in;
  in.boxes = {{0, {0, 0, 10, 10}}, {0, {-11, -11, -1, -1}}};
  in.scores = {0.9f, 0.8f};
  in.groups = {0, 1};
  EXPECT_EQ(run(in, {.iou = 0.5f, .offset_limit = 1000}, 1)[0].dim(0), 1);
  EXPECT_EQ(run(in, {.iou = 0.5f, .offset_limit = 1}, 1)[0].dim(0), 2);
}

TEST(Nms, ThresholdIsStrict) {
  Candidates in;
  in.boxes = {{0, {0, 0, 2, 1}}, {0, {0, 0, 1, 1}}};  // IoU 0.5
  in.scores = {0.9f, 0.8f};
  in.groups = {0, 0};
  EXPECT_EQ(run(in, {.iou = 0.5f}, 1)[0].dim(0), 2);
  EXPECT_EQ(run(in, {.iou = 0.49f}, 1)[0].dim(0), 1);
}

TEST(Nms, RunParametersApplyToTheLastStageOnly) {
  const Candidates in = random_candidates(1, 200, 1, 9);
  const RunParameters parameters{.nms_iou = 0.1f, .max_detections = 3};
  const Nms changed{.iou = 0.1f, .max_detections = 3};
  expect_rows(in, keep(in, changed, 0), run(in, {.iou = 0.9f}, 1, 1, parameters));
  const Nms first{.iou = 0.9f, .stage = 1};
  expect_rows(in, keep(in, first, 0), run(in, first, 1, 1, parameters));
  const Nms small{.iou = 0.9f, .max_detections = 2};  // never above what was planned
  EXPECT_EQ(run(in, small, 1, 1, {.max_detections = 50})[0].dim(0), 2);
  EXPECT_EQ(run(in, small, 1, 1, {.max_detections = 0})[0].dim(0), 0);
}

TEST(Nms, NothingAndNonsense) {
  EXPECT_EQ(run({}, {}, 2)[0].dim(0), 0);
  Candidates in;
  const float nan = NAN, inf = std::numeric_limits<float>::infinity();
  in.boxes = {
      {0, {nan, 0, 1, 1}}, {0, {0, 0, inf, inf}}, {0, {5, 5, 5, 5}}, {0, {5, 5, 5, 5}}, {1, {9, 9, 1, 1}}};
  in.scores = {nan, inf, -inf, 0.0f, -0.0f};
  in.groups = {0, 1, 1, 1, 0};
  EXPECT_EQ(run(in, {}, 3)[0].dim(0), 5);  // no pair has an overlap that compares above the threshold
  EXPECT_EQ(run(in, {.offset_limit = 0}, 3)[0].dim(0), 5);
}

// Rows by TensorFlow's multiclass suppression, written as it is defined: class by class, then merged.
std::vector<std::int32_t> tensorflow_keeps(const Candidates& in, const Nms& op, int image,
                                           const Geometry& g) {
  const auto score = [&](std::int32_t r) { return in.scores[static_cast<std::size_t>(r)]; };
  const auto box = [&](std::int32_t r) { return in.boxes[static_cast<std::size_t>(r)].box; };
  std::vector<std::int32_t> all;
  for (const std::int32_t group : {0, 1, 2, 3, 4}) {
    std::vector<std::int32_t> rows, kept;
    for (std::size_t i = 0; i < in.boxes.size(); ++i)
      if (static_cast<int>(in.boxes[i].image) == image && in.groups[i] == group)
        rows.push_back(static_cast<std::int32_t>(i));
    std::ranges::stable_sort(rows, std::greater<>(), score);
    for (const auto r : rows)
      if (static_cast<int>(kept.size()) < op.max_per_group &&
          std::ranges::none_of(kept, [&](std::int32_t k) { return iou_of(box(k), box(r)) > op.iou; }))
        kept.push_back(r);
    all.insert(all.end(), kept.begin(), kept.end());
  }
  std::ranges::stable_sort(all, std::greater<>(), score);
  std::erase_if(all,
                [&](std::int32_t r) { return clip_box(box(r), g.clip_height, g.clip_width).area() <= 0; });
  if (all.size() > static_cast<std::size_t>(op.max_detections))
    all.resize(static_cast<std::size_t>(op.max_detections));
  return all;
}

TEST(Nms, IsTensorflowsWithItsRules) {
  const Candidates in = random_candidates(3, 400, 5, 17);
  const Geometry g{90, 120, 1, 1, 90, 120};
  const Tensor geometry = Tensor::from<float>(
      std::vector<float>{90, 120, 1, 1, 90, 120, 90, 120, 1, 1, 90, 120, 90, 120, 1, 1, 90, 120}, {3, 6});
  for (const float iou : {0.0f, 0.3f, 0.7f})
    for (const int most : {1, 30, 700})
      for (const int of_group : {1, 5, 1000})
        for (const int threads : {1, 2}) {
          const Nms op{.iou = iou,
                       .max_detections = most,
                       .offset_limit = 0,
                       .max_per_group = of_group,
                       .clip = KeptClip::kDropEmpty,
                       .group_first = true};
          std::vector<std::int32_t> rows;
          for (int n = 0; n < 3; ++n)
            std::ranges::copy(tensorflow_keeps(in, op, n, g), std::back_inserter(rows));
          Candidates clipped = in;
          for (Roi& roi : clipped.boxes) roi.box = clip_box(roi.box, g.clip_height, g.clip_width);
          const auto count = static_cast<std::int64_t>(in.scores.size());
          const std::vector<Tensor> got =
              run_kernel({.op = op,
                          .inputs = {{Tensor::from<float>({reinterpret_cast<const float*>(in.boxes.data()),
                                                           in.boxes.size() * 5},
                                                          {count, 5}),
                                      {},
                                      count},
                                     {tensor_of(in.scores, {count}), {}, count},
                                     {tensor_of(in.groups, {count}), {}, count},
                                     {geometry}},
                          .threads = threads});
          expect_rows(clipped, rows, got);
        }
}

}  // namespace
}  // namespace osprey

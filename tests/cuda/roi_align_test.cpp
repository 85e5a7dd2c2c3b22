#include "ops/roi_align.h"

#include <cmath>
#include <limits>

#include "cpu/roi_align_cases_test.h"
#include "cuda/box_cases.h"

namespace osprey {
namespace {

std::vector<RoiSetting> settings() {
  const RoiAlign pyramid{.out = 7, .samples = 0, .scales = {0.25f, 0.125f, 0.0625f, 0.03125f}};
  const RoiAlign masks{.out = 14, .samples = 0, .scales = {0.25f, 0.125f, 0.0625f, 0.03125f}};
  const RoiAlign legacy{.out = 14, .samples = 2, .scales = {0.125f}, .aligned = false};
  const RoiAlign two_levels{.out = 7, .samples = 2, .scales = {0.125f, 0.0625f}, .first_level = 3};
  const RoiAlign small{.out = 3, .samples = 0, .scales = {0.25f}, .aligned = false};
  const RoiAlign one_bin{.out = 1, .samples = 3, .scales = {0.5f}};
  return {{pyramid, 2, 256, {{40, 56}, {20, 28}, {10, 14}, {5, 7}}},
          {masks, 1, 64, {{40, 56}, {20, 28}, {10, 14}, {5, 7}}},
          {legacy, 1, 20, {{25, 33}}},
          {two_levels, 1, 109, {{20, 28}, {10, 14}}},
          {small, 3, 1, {{31, 17}}},
          {one_bin, 1, 40, {{80, 112}}}};
}

// What a kernel does with shared memory follows from the boxes, not from the maps.
constexpr std::size_t kAnyMap = 4'000'000;

KernelCase case_of(const RoiSetting& s, const std::vector<Roi>& rois, std::int64_t bound, DType type) {
  KernelCase test{.op = s.op, .inputs = {}, .threads = 2};
  for (const Tensor& level : random_levels(s)) test.inputs.push_back({rounded_to(level, type)});
  Tensor boxes = Tensor::zeros(DType::kF32, {0, 5});
  if (!rois.empty()) boxes = rows_tensor(rois);
  test.inputs.push_back(counted(boxes, bound));
  return test;
}

double tolerance(DType type) {
  return type == DType::kF16 ? 0x1p-10 : type == DType::kBF16 ? 0x1p-7 : 4e-6;  // the last place may differ
}

TEST(CudaRoiAlign, LevelsBinsChannelsAndTypes) {
  SKIP_WITHOUT_GPU();
  take_as_small(kAnyMap);
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const RoiSetting& s : settings())
      for (const std::int64_t count : {0, 1, 60})
        expect_as_on_cpu(
            case_of(s, random_rois(count, s.images), 100, type), tolerance(type),
            fmt::format("{} boxes, {} bins, {} channels, {}", count, s.op.out, s.channels, name_of(type)));
}

TEST(CudaRoiAlign, BoxesOnTheEdgesOfLevels) {
  SKIP_WITHOUT_GPU();
  take_as_small(kAnyMap);
  std::vector<Roi> rois;
  for (const float size : {56.0f, 112.0f, 224.0f, 448.0f, 896.0f})
    for (const float less : {-1e-3f, -1e-5f, 0.0f, 1e-5f, 1e-3f})
      rois.push_back({0, {0, 0, size, size * (1 + less)}});
  expect_as_on_cpu(case_of(settings()[0], rois, 30, DType::kF32), tolerance(DType::kF32), "levels");
}

// Of maskrcnn-benchmark: the areas of inclusive boxes, and its epsilon.
TEST(CudaRoiAlign, LevelsOfInclusiveBoxes) {
  SKIP_WITHOUT_GPU();
  take_as_small(kAnyMap);
  std::vector<Roi> rois;
  for (const float size : {56.0f, 112.0f, 224.0f, 448.0f})
    for (const float less : {-1.0f, -1e-4f, 0.0f, 1e-4f, 1.0f})
      rois.push_back({0, {0, 0, size - 1, size - 1 + less}});
  RoiSetting s = settings()[0];
  s.images = 1;
  for (const float epsilon : {1e-6f, 1e-3f}) {
    s.op.aligned = false, s.op.inclusive = true, s.op.level_epsilon = epsilon;
    expect_as_on_cpu(case_of(s, rois, 30, DType::kF32), tolerance(DType::kF32), "levels");
  }
}

// Up to the whole of it, on levels where a bin has many samples, too.
TEST(CudaRoiAlign, BoxesOfALargePhoto) {
  SKIP_WITHOUT_GPU();
  take_as_small(kAnyMap);
  const std::vector<Roi> rois = {{0, {0, 0, 1344, 1344}},  {0, {0, 0, 1333, 800}},
                                 {0, {0, 0, 1344, 20}},    {0, {0, 0, 30, 1344}},
                                 {0, {-9, 3, 1400, 2.5f}}, {0, {1340, 1340, 1344, 1344}}};
  for (const int out : {7, 14}) {
    const RoiAlign pyramid{.out = out, .samples = 0, .scales = {0.25f, 0.125f, 0.0625f, 0.03125f}};
    const RoiAlign fine{.out = out, .samples = 0, .scales = {0.25f}};
    expect_as_on_cpu(
        case_of({pyramid, 1, 16, {{336, 336}, {168, 168}, {84, 84}, {42, 42}}}, rois, 9, DType::kF16),
        tolerance(DType::kF16), fmt::format("{} bins", out));
    expect_as_on_cpu(case_of({fine, 1, 16, {{336, 336}}}, rois, 9, DType::kF32), tolerance(DType::kF32),
                     fmt::format("{} bins of one level", out));
  }
}

TEST(CudaRoiAlign, BoxesWithNothingInThem) {
  SKIP_WITHOUT_GPU();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<Roi> rois{
      {0, {10, 10, 10, 40}},       {0, {-500, -500, -400, -400}},   {0, {0, 0, 224, 160}},
      {0, {40, 40, 10, 10}},       {0, {NAN, 0, 10, 10}},           {0, {0, 0, kInf, 10}},
      {0, {-3e38f, 0, 3e38f, 10}}, {0, {-1e5f, -1e5f, 1e5f, 1e5f}}, {0, {223, 159, 400, 400}}};
  for (const RoiSetting& s : settings())
    expect_as_on_cpu(case_of(s, rois, 9, DType::kF32), tolerance(DType::kF32),
                     fmt::format("{} bins", s.op.out));
}

TEST(CudaRoiAlign, CornersOfTensorflow) {
  SKIP_WITHOUT_GPU();
  const auto rois_of = [](std::int64_t channels) {
    std::vector<Roi> out = random_rois(channels > 64 || short_cases() ? 5 : 60, 2);
    out.push_back({0, {0, 0, 224, 160}});
    out.push_back({1, {50, 50, 50, 50}});
    out.push_back({1, {NAN, 0, 10, 10}});
    return out;
  };
  const Tensor geometry =
      Tensor::from<float>(std::vector<float>{160, 224, 1, 1, 160, 224, 90, 200, 1, 1, 90, 200}, {2, 6});
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const std::int64_t channels : {1, 20, 64, 1088})
      for (const auto& [out, pool] : {std::pair{14, 2}, {17, 1}, {7, 3}, {1, 1}})
        for (const bool neighbours : {false, true})
          for (const bool canvas : {false, true}) {
            RoiAlign op{.out = out,
                        .scales = {},
                        .sampling = RoiSampling::kCorners,
                        .neighbours = neighbours,
                        .pool = pool};
            if (canvas) op.canvas_height = 160, op.canvas_width = 224;
            KernelCase test{.op = op,
                            .inputs = {{rounded_to(random_tensor({2, channels, 10, 14}, -1, 1, 5), type)},
                                       counted(rows_tensor(rois_of(channels)), 70)},
                            .threads = 2};
            if (!canvas) test.inputs.push_back({geometry});
            expect_as_on_cpu(test, type == DType::kF32 ? 0 : tolerance(type),
                             fmt::format("{} channels, {} samples, pool {}", channels, out, pool));
          }
}

}  // namespace
}  // namespace osprey

// The kernels that change boxes row by row: decode_boxes, rescale_boxes, rescale_keypoints; and select_class.
#include "cuda/box_cases.h"
#include "ops/decode_boxes.h"
#include "ops/rescale_boxes.h"
#include "ops/rescale_keypoints.h"
#include "ops/select_class.h"

namespace osprey {
namespace {

TEST(CudaDecodeBoxes, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t count : {0, 1, 255, 256, 700})
    for (const bool clip : {true, false}) {
      Tensor rois = Tensor::zeros(DType::kF32, {0, 5});
      if (count > 0) rois = rows_tensor(random_boxes(count, count > 1 ? 2 : 1, 1));
      const KernelCase test{.op = DecodeBoxes{.weights = {20, 20, 10, 10}, .clip = clip},
                            .inputs = {counted(rois, 1000),
                                       counted(random_tensor({count, 4}, -20, 20, 2), 1000),
                                       {rows_tensor(kTwoImages)}}};
      const auto got = tensor_rows<Roi>(run_cuda(test)[0]), want = tensor_rows<Roi>(run_oracle(test)[0]);
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_EQ(got[i].image, want[i].image);
        EXPECT_LE(largest_difference(got[i].box, want[i].box), 1e-3f) << "row " << i << " of " << count;
      }
    }
}

void expect_rescaled(const RescaleBoxes& op, const std::vector<Roi>& rois, std::int64_t images,
                     const std::string& what) {
  Tensor boxes = Tensor::zeros(DType::kF32, {0, 5});
  if (!rois.empty()) boxes = rows_tensor(rois);
  expect_same_bytes({.op = op, .inputs = {counted(boxes, 5000), {rows_tensor(geometry_of(images))}}}, what);
}

TEST(CudaRescaleBoxes, ToTheOriginal) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t count : {0, 1, 40, 1023, 1024, 1025, 3000})
    for (const bool clip : {true, false})
      for (const float least : {0.0f, 20.0f})
        expect_rescaled({.clip = clip, .min_size = least}, random_boxes(count, 2, 4), 2,
                        fmt::format("{} boxes", count));
  expect_rescaled({}, {{0, {NAN, 0, 5, 5}}, {0, {0, 0, INFINITY, 5}}, {1, {5, 5, 5, 9}}, {1, {0, 0, 9, 9}}},
                  2, "nonsense");
}

TEST(CudaRescaleBoxes, ToTheNetwork) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t count : {0, 1, 2, 40, 1025, 3000})
    for (const std::int64_t images : {1, 2, 5})
      for (const int top : {0, 1, 7, 1000})
        for (const bool clip : {true, false}) {
          std::vector<Roi> rois = random_boxes(count, images, 5);
          for (std::size_t i = 0; i < rois.size(); i += 3) std::swap(rois[i].box.x0, rois[i].box.x1);
          expect_rescaled({.clip = clip, .to_network = true, .min_size = 4, .top = top}, rois, images,
                          fmt::format("{} proposals of {} images, the first {}", count, images, top));
        }
}

TEST(CudaRescaleKeypoints, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t count : {0, 1, 50})
    for (const std::int64_t keypoints : {1, 17}) {
      Tensor boxes = Tensor::zeros(DType::kF32, {0, 5});
      if (count > 0) boxes = rows_tensor(random_boxes(count, count > 1 ? 2 : 1, 1));
      std::vector<std::int32_t> from;
      for (std::int32_t e = 0; e < count; ++e) from.push_back((e * 7 + 3) % 53);
      for (const bool logits : {false, true})
        expect_same_bytes({.op = RescaleKeypoints{.logits = logits},
                           .inputs = {counted(random_tensor({53, keypoints, 4}, -9, 99, 2), 60),
                                      counted(boxes, 55),
                                      counted(tensor_of(from, {count}), 55),
                                      {rows_tensor(kTwoImages)}}},
                          fmt::format("{} rows of {}", count, keypoints));
    }
}

TEST(CudaSelectClass, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const std::int64_t count : {0, 1, 37})
      for (const std::int64_t maps : {1, 3, 80})
        for (const std::int64_t side : {1, 5, 28}) {
          std::vector<std::int32_t> classes;
          for (std::int32_t d = 0; d < count; ++d)
            classes.push_back(d * 13 % static_cast<std::int32_t>(maps));
          for (const int first : {0, 1})  // a map more, of the background
            expect_as_on_cpu(
                {.op = SelectClass{.first = first},
                 .inputs = {counted(
                                rounded_to(random_tensor({count, maps == 1 ? 1 : maps + first, side, side},
                                                         -9, 9, 3),
                                           type),
                                40),
                            counted(tensor_of(classes, {count}), 40)}},
                1e-6, fmt::format("{} of {} maps from {}, {}", count, maps, first, name_of(type)));
        }
}

}  // namespace
}  // namespace osprey

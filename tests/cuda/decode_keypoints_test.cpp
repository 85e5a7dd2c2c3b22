#include "ops/decode_keypoints.h"

#include "cuda/box_cases.h"

namespace osprey {
namespace {

// Where the peak is and how high, to the bit; the score but for the order of a sum.
void expect_as_on_cpu(const Tensor& maps, const std::vector<Roi>& rois, const std::string& what) {
  const auto bound = static_cast<std::int64_t>(rois.size()) + 2;
  Tensor boxes = Tensor::zeros(DType::kF32, {0, 5});
  if (!rois.empty()) boxes = rows_tensor(rois);
  const KernelCase test{
      .op = DecodeKeypoints{}, .inputs = {counted(maps, bound), counted(boxes, bound)}, .threads = 2};
  const Tensor got = run_cuda(test)[0], want = run_oracle(test)[0];
  ASSERT_EQ(got.shape(), want.shape());
  const auto a = got.values<float>(), b = want.values<float>();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(b[i])) {
      EXPECT_TRUE(std::isnan(a[i])) << what << ", number " << i;
    } else if (i % 4 == 3) {
      EXPECT_NEAR(a[i], b[i], 1e-5f * std::abs(b[i])) << what << ", number " << i;
    } else {
      EXPECT_EQ(a[i], b[i]) << what << ", number " << i;
    }
  }
}

const std::vector<Roi> kRois{{0, {3, 4, 33.5f, 60.25f}}, {0, {10, 20, 310, 50}}, {1, {7, 8, 7.5f, 8}},
                             {1, {0, 0, 129, 128}},      {1, {0, 0, 5.5f, 400}}, {0, {5, 5, 700, 9}}};

TEST(CudaDecodeKeypoints, ThePeakOfTheEnlargedMap) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t size : {1, 2, 14, 56})
    for (const std::int64_t keypoints : {1, 3, 17})
      expect_as_on_cpu(random_tensor({6, keypoints, size, size}, -4, 4, 1), kRois,
                       fmt::format("{} maps of {}", keypoints, size));
  expect_as_on_cpu(Tensor::zeros(DType::kF32, {0, 17, 56, 56}), {}, "no rows");
}

// As a trained head has them: nearly everything is passed over.
TEST(CudaDecodeKeypoints, OneHighPeak) {
  SKIP_WITHOUT_GPU();
  for (const std::size_t at : {0, 55, 56 * 28 + 17, 56 * 56 - 1}) {
    Tensor maps = random_tensor({6, 1, 56, 56}, -5, -4, 2);
    for (std::size_t d = 0; d < 6; ++d) maps.mutable_values<float>()[d * 56 * 56 + at] = 10;
    expect_as_on_cpu(maps, kRois, fmt::format("peak at {}", at));
  }
}

TEST(CudaDecodeKeypoints, TheFirstOfEqualPeaks) {
  SKIP_WITHOUT_GPU();
  Tensor maps = Tensor::zeros(DType::kF32, {6, 2, 14, 14});
  expect_as_on_cpu(maps, kRois, "all zero");
  const auto v = maps.mutable_values<float>();
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i / 3 % 2);
  expect_as_on_cpu(maps, kRois, "stripes");
}

TEST(CudaDecodeKeypoints, BoxesAndMapsThatAreNotFinite) {
  SKIP_WITHOUT_GPU();
  const std::vector<Roi> rois{{0, {NAN, 0, 10, 10}}, {0, {0, 0, INFINITY, 1}}, {0, {9, 9, 1, 1}}};
  Tensor maps = random_tensor({3, 2, 14, 14}, -4, 4, 1);
  expect_as_on_cpu(maps, rois, "boxes");
  std::ranges::fill(maps.mutable_values<float>(), NAN);
  expect_as_on_cpu(maps, {{0, {0, 0, 20, 20}}, {0, {0, 0, 20, 20}}, {0, {0, 0, 20, 20}}}, "maps");
}

}  // namespace
}  // namespace osprey

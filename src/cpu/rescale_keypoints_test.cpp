#include "ops/rescale_keypoints.h"

#include <gtest/gtest.h>

#include "cpu/box_cases_test.h"

namespace osprey {
namespace {

TEST(RescaleKeypoints, ScalesTheKeptRows) {
  const Tensor keypoints = random_tensor({4, 2, 4}, 0, 100, 1);
  const std::vector<Roi> boxes{{0, {}}, {1, {}}};
  const std::vector<std::int32_t> rows{1, 3};
  const Tensor got = run_kernel({.op = RescaleKeypoints{},
                                 .inputs = {{keypoints, {}, 6},
                                            {rows_tensor(boxes), {}, 5},
                                            {tensor_of(rows, {2}), {}, 5},
                                            {rows_tensor(kTwoImages)}}})
                         .at(0);
  ASSERT_EQ(got.shape(), (Shape{2, 2, 3}));
  for (std::size_t e = 0; e < 2; ++e)
    for (std::size_t k = 0; k < 2; ++k) {
      const float* in = keypoints.values<float>().data() + (static_cast<std::size_t>(rows[e]) * 2 + k) * 4;
      const float* out = got.values<float>().data() + (e * 2 + k) * 3;
      EXPECT_EQ(out[0], in[0] * kTwoImages[e].scale_x);
      EXPECT_EQ(out[1], in[1] * kTwoImages[e].scale_y);
      EXPECT_EQ(out[2], in[3]);
    }
}

}  // namespace
}  // namespace osprey

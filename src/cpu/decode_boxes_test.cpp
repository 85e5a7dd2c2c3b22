#include "ops/decode_boxes.h"

#include <limits>

#include <gtest/gtest.h>

#include "cpu/box_cases_test.h"

namespace osprey {
namespace {

std::vector<Roi> run(const DecodeBoxes& op, const std::vector<Roi>& rois, const Tensor& deltas) {
  const std::int64_t bound = static_cast<std::int64_t>(rois.size()) + 3;
  const KernelCase test{
      .op = op, .inputs = {{rows_tensor(rois), {}, bound}, {deltas, {}, bound}, {rows_tensor(kTwoImages)}}};
  return tensor_rows<Roi>(run_kernel(test).at(0));
}

TEST(DecodeBoxes, MovesThenClips) {
  const std::vector<Roi> rois = random_boxes(50, 2, 1);
  const Tensor deltas = random_tensor({50, 4}, -8, 8, 2);
  for (const bool clip : {false, true}) {
    const DecodeBoxes op{.weights = {20, 20, 10, 1}, .clip = clip};
    const std::vector<Roi> got = run(op, rois, deltas);
    for (std::size_t r = 0; r < rois.size(); ++r) {
      Box want =
          decode_reference(rois[r].box, deltas.values<float>().data() + 4 * r, op.weights, op.max_log_scale);
      const Geometry& g = kTwoImages[static_cast<std::size_t>(rois[r].image)];
      if (clip) want = clip_box(want, g.clip_height, g.clip_width);
      EXPECT_LT(largest_difference(got[r].box, want), 2e-3f) << r;  // boxes reach 2000 pixels here
      EXPECT_EQ(got[r].image, rois[r].image);
    }
  }
}

TEST(DecodeBoxes, OddNumbersKeepTheirRows) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<Roi> rois(3, {1, {10, 10, 30, 20}});
  const std::vector<Roi> got =
      run({}, rois, tensor_of<float>({NAN, 0, 0, 0, 0, 0, kInf, kInf, kInf, 0, -kInf, 0}, {3, 4}));
  EXPECT_TRUE(std::isnan(got[0].box.x0));
  EXPECT_EQ(got[1].box, (Box{0, 0, 120, 60}));  // exp is clamped: 62.5 times as large
  EXPECT_EQ(got[2].box, (Box{120, 10, 120, 20}));
}

}  // namespace
}  // namespace osprey

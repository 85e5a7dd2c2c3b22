// The detection kernels of the CPU, one by one, against Detectron2's own layers (fixtures/detectron2/ops),
// and the last steps of a whole model on the network's golden outputs.
#include <algorithm>

#include <gtest/gtest.h>

#include "cpu/boxes.h"
#include "cpu/kernel_harness.h"
#include "image/rle.h"
#include "ops/decode_boxes.h"
#include "ops/decode_keypoints.h"
#include "ops/nms.h"
#include "ops/paste_masks.h"
#include "ops/rescale_boxes.h"
#include "ops/roi_align.h"
#include "ops/select_anchors.h"
#include "parity/fixtures.h"
#include "parity/golden_arrays.h"

namespace osprey {
namespace {

class Detectron2Ops : public testing::Test {
 protected:
  void SetUp() override { OSPREY_NEEDS_FIXTURE(fixture("detectron2/ops")) }

  static GoldenArrays golden(const std::string& name = "ops") {
    return GoldenArrays(fixture("detectron2") / name / "golden.npz");
  }
};

// Boxes [R,4] of one image as rows of the ops.
Tensor rois_of(const Tensor& boxes) {
  Tensor out = Tensor::zeros(DType::kF32, {boxes.dim(0), 5});
  for (std::int64_t r = 0; r < boxes.dim(0); ++r)
    std::copy_n(boxes.values<float>().data() + 4 * r, 4, out.mutable_values<float>().data() + 5 * r + 1);
  return out;
}

Tensor geometry_of(const Geometry& g) {
  return Tensor::from<float>({reinterpret_cast<const float*>(&g), 6}, {1, 6});
}

// Floats within the goldens' tolerance: 1e-4 of the number, or of 1 for smaller ones.
void expect_near(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    const float w = want.values<float>()[at], g = got.values<float>()[at];
    if (std::isnan(w) && std::isnan(g)) continue;
    ASSERT_NEAR(g, w, 1e-4f * std::max(1.0f, std::abs(w))) << what << "[" << i << "]";
  }
}

TEST_F(Detectron2Ops, RoiAlign) {
  const GoldenArrays arrays = golden();
  const Tensor features = arrays.tensor("in_feat"), rois = rois_of(arrays.tensor("in_rois"));
  for (const bool aligned : {true, false})
    for (const int samples : {0, 2})
      for (const int out : {7, 14}) {
        const RoiAlign op{.out = out, .samples = samples, .scales = {1.0f / 8}, .aligned = aligned};
        const std::string name = std::string("roi_align_") + (aligned ? "v2" : "legacy") + "_sr" +
                                 std::to_string(samples) + "_" + std::to_string(out);
        for (const int block : {0, 1, 16})
          expect_near(
              run_kernel({.op = op, .inputs = {{features, {block}}, {rois}}, .output_layout = {block}}).at(0),
              arrays.tensor(name), name);
      }
}

// Every level holds its own number, so that what a box reads tells its level.
TEST_F(Detectron2Ops, LevelsOfRoiAlign) {
  const GoldenArrays arrays = golden();
  RoiAlign op{.out = 1, .samples = 1, .scales = {0.25f, 0.125f, 0.0625f, 0.03125f}, .aligned = false};
  KernelCase test{.op = op, .inputs = {}};
  for (std::int64_t l = 0; l < 4; ++l) {
    Tensor level = Tensor::zeros(DType::kF32, {1, 1, 512 >> l, 512 >> l});
    std::ranges::fill(level.mutable_values<float>(), static_cast<float>(l));
    test.inputs.push_back({level});
  }
  test.inputs.push_back({rois_of(arrays.tensor("in_level_boxes"))});
  const Tensor got = run_kernel(test).at(0);
  const auto want = arrays.doubles("levels");
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got.values<float>()[i], want[i]) << "box " << i;
}

TEST_F(Detectron2Ops, DecodeBoxes) {
  const GoldenArrays arrays = golden();
  const Tensor all = arrays.tensor("in_deltas"), rois = rois_of(arrays.tensor("in_boxes"));
  const std::int64_t count = all.dim(0), classes = all.dim(1) / 4;
  for (const float w : {1.0f, 10.0f, 20.0f, 30.0f}) {
    const float size_weight = w == 1 ? 1 : w / 2;
    const std::string name = "decode_w" + std::to_string(static_cast<int>(w));
    const Tensor want = arrays.tensor(name);
    for (std::int64_t k = 0; k < classes; ++k) {
      Tensor deltas = Tensor::zeros(DType::kF32, {count, 4}), part = Tensor::zeros(DType::kF32, {count, 4});
      for (std::int64_t r = 0; r < count; ++r) {
        const std::int64_t from = (r * classes + k) * 4;
        std::copy_n(all.values<float>().data() + from, 4, deltas.mutable_values<float>().data() + 4 * r);
        std::copy_n(want.values<float>().data() + from, 4, part.mutable_values<float>().data() + 4 * r);
      }
      const DecodeBoxes op{.weights = {w, w, size_weight, size_weight}, .clip = false};
      expect_near(run_kernel({.op = op, .inputs = {{rois}, {deltas}, {geometry_of({})}}}).at(0),
                  rois_of(part), name);
    }
  }
}

TEST_F(Detectron2Ops, ClipAndDropTheEmpty) {
  const GoldenArrays arrays = golden();
  const Tensor clipped = arrays.tensor("clip_480x640"), nonempty = arrays.tensor("nonempty");
  const auto out = run_kernel(
      {.op = RescaleBoxes{},
       .inputs = {{rois_of(arrays.tensor("in_boxes")), {}, 40}, {geometry_of({480, 640, 1, 1, 480, 640})}}});
  std::vector<std::int32_t> rows;
  for (std::int32_t r = 0; r < 40; ++r)
    if (nonempty.values<bool>()[static_cast<std::size_t>(r)]) rows.push_back(r);
  ASSERT_TRUE(std::ranges::equal(out[1].values<std::int32_t>(), rows));
  for (std::size_t e = 0; e < rows.size(); ++e)
    for (std::size_t k = 0; k < 4; ++k)
      EXPECT_EQ(out[0].values<float>()[5 * e + 1 + k],
                clipped.values<float>()[4 * static_cast<std::size_t>(rows[e]) + k]);
}

TEST_F(Detectron2Ops, Nms) {
  const GoldenArrays arrays = golden();
  const Tensor boxes = arrays.tensor("in_nms_boxes"), scores = arrays.tensor("in_nms_scores");
  const auto classes = arrays.doubles("in_nms_classes");
  for (const bool batched : {false, true})
    for (const auto& [text, iou] : {std::pair{"0.3", 0.3f}, {"0.5", 0.5f}, {"0.7", 0.7f}}) {
      const std::string name = std::string(batched ? "batched_nms_" : "nms_") + text;
      std::vector<std::int32_t> groups(classes.size(), 0);
      if (batched) std::ranges::copy(classes, groups.begin());
      const auto count = static_cast<std::int64_t>(groups.size());
      for (const int limit : {0, 1000}) {
        const Nms op{.iou = iou, .max_detections = 1000, .offset_limit = limit};
        const auto out = run_kernel(
            {.op = op,
             .inputs = {{rois_of(boxes)}, {scores}, {tensor_of(groups, {count})}, {geometry_of({})}}});
        const auto kept = arrays.doubles(name);
        ASSERT_EQ(out[1].dim(0), static_cast<std::int64_t>(kept.size())) << name;
        for (std::size_t i = 0; i < kept.size(); ++i) {
          const auto r = static_cast<std::size_t>(kept[i]);
          EXPECT_EQ(out[1].values<float>()[i], scores.values<float>()[r]) << name << " " << i;
          EXPECT_EQ(out[0].values<float>()[5 * i + 1], boxes.values<float>()[4 * r]) << name << " " << i;
        }
      }
    }
}

// With deltas of zero and falling scores the anchors themselves come out, in their order.
TEST_F(Detectron2Ops, GridAnchors) {
  const GoldenArrays arrays = golden();
  const struct {
    const char* name;
    int stride;
    float offset;
  } cases[] = {{"fpn_0", 4, 0}, {"c4_0", 16, 0}, {"retina_0", 8, 0}, {"offset_half_0", 16, 0.5f}};
  for (const auto& c : cases) {
    const Tensor cells = arrays.tensor(std::string("cell_anchors_") + c.name);
    const auto values = cells.values<float>();
    const SelectAnchors op{.strides = {c.stride},
                           .anchors = static_cast<int>(cells.dim(0)),
                           .cells = {values.begin(), values.end()},
                           .offset = c.offset,
                           .clip = false};
    Tensor scores = Tensor::zeros(DType::kF32, {1, cells.dim(0), 3, 4});
    for (std::int64_t a = 0; a < cells.dim(0); ++a)
      for (std::int64_t p = 0; p < 12; ++p)
        scores.mutable_values<float>()[static_cast<std::size_t>(a * 12 + p)] =
            -static_cast<float>(p * cells.dim(0) + a);
    const Tensor deltas = Tensor::zeros(DType::kF32, {1, cells.dim(0) * 4, 3, 4});
    expect_near(run_kernel({.op = op, .inputs = {{scores}, {deltas}, {geometry_of({})}}}).at(0),
                rois_of(arrays.tensor(std::string("grid_anchors_") + c.name)), c.name);
  }
}

TEST_F(Detectron2Ops, Keypoints) {
  const GoldenArrays arrays = golden();
  const Tensor rois = rois_of(arrays.tensor("in_kp_boxes"));
  expect_near(run_kernel({.op = DecodeKeypoints{}, .inputs = {{arrays.tensor("in_heatmaps")}, {rois}}}).at(0),
              arrays.tensor("keypoints"), "keypoints");
}

void expect_masks(const Tensor& masks, const Tensor& boxes, const std::vector<std::int32_t>& rows,
                  const Geometry& g, const std::vector<std::string>& want) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const auto out = run_kernel({.op = PasteMasks{},
                               .inputs = {{masks}, {boxes}, {tensor_of(rows, {count})}, {geometry_of(g)}},
                               .threads = 2});
  ASSERT_EQ(want.size(), rows.size());
  const std::int32_t* run = out[0].values<std::int32_t>().data();
  const std::int32_t* const first = run;
  for (std::size_t e = 0; e < rows.size(); ++e) {
    Rle rle{.height = static_cast<int>(g.height), .width = static_cast<int>(g.width)};
    const std::int32_t* const end = first + out[1].values<std::int32_t>()[e];
    rle.counts.assign(run, end);
    run = end;
    EXPECT_EQ(compress_rle(rle), want[e]) << "mask " << e;
  }
}

TEST_F(Detectron2Ops, PasteMasks) {
  const GoldenArrays arrays = golden();
  std::vector<std::int32_t> rows(16);
  for (std::int32_t i = 0; i < 16; ++i) rows[static_cast<std::size_t>(i)] = i;
  expect_masks(arrays.tensor("in_masks"), rois_of(arrays.tensor("in_paste_boxes")), rows,
               {80, 100, 1, 1, 80, 100}, arrays.strings("paste_rle"));
}

// From the network's detections to the photo's.
TEST_F(Detectron2Ops, LastStepsOfAWholeModel) {
  OSPREY_NEEDS_FIXTURE(fixture("detectron2/mask_rcnn_narrow"))
  const GoldenArrays arrays = golden("mask_rcnn_narrow");
  const auto size = arrays.doubles("image_size_hw"), photo = arrays.doubles("mask_rle_size");
  const auto f = [](double v) { return static_cast<float>(v); };
  const Geometry g{f(size[0]),  f(size[1]), f(photo[0] / size[0]), f(photo[1] / size[1]),
                   f(photo[0]), f(photo[1])};
  const auto out =
      run_kernel({.op = RescaleBoxes{},
                  .inputs = {{rois_of(arrays.tensor("det_boxes_net")), {}, 100}, {geometry_of(g)}}});
  const auto rows = out[1].values<std::int32_t>();
  EXPECT_TRUE(std::ranges::equal(rows, arrays.doubles("det_index")));
  const Tensor want = rois_of(arrays.tensor("det_boxes"));
  EXPECT_TRUE(std::ranges::equal(out[0].values<float>(), want.values<float>()));
  expect_masks(arrays.tensor("mask_probs"), out[0], {rows.begin(), rows.end()}, g,
               arrays.strings("mask_rle"));
}

}  // namespace
}  // namespace osprey

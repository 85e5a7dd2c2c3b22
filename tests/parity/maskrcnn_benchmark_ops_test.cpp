// The detection kernels of the CPU, one by one, against maskrcnn-benchmark's own layers
// (fixtures/mrcnn_benchmark/ops): boxes that hold their last pixel, its anchors, masks and sizes.
#include <algorithm>
#include <cmath>
#include <numeric>

#include <gmock/gmock.h>

#include "arch/blocks/anchors.h"
#include "backends/network_size.h"
#include "cpu/boxes.h"
#include "cpu/kernel_harness.h"
#include "image/rle.h"
#include "ops/decode_keypoints.h"
#include "ops/nms.h"
#include "ops/paste_masks.h"
#include "ops/roi_align.h"
#include "ops/select_anchors.h"
#include "ops/select_boxes.h"
#include "parity/fixtures.h"
#include "parity/golden_arrays.h"

namespace osprey {
namespace {

class MaskrcnnBenchmarkOps : public testing::Test {
 protected:
  void SetUp() override { OSPREY_NEEDS_FIXTURE(fixture("mrcnn_benchmark/ops")) }

  static GoldenArrays golden() { return GoldenArrays(fixture("mrcnn_benchmark") / "ops" / "golden.npz"); }
};

// Boxes [R,4] of one image as rows of the ops.
Tensor rois_of(std::span<const float> boxes) {
  const auto rows = static_cast<std::int64_t>(boxes.size() / 4);
  Tensor out = Tensor::zeros(DType::kF32, {rows, 5});
  for (std::size_t r = 0; r < boxes.size() / 4; ++r)
    std::copy_n(boxes.data() + 4 * r, 4, out.mutable_values<float>().data() + 5 * r + 1);
  return out;
}

Tensor geometry_of(const Geometry& g) {
  return Tensor::from<float>({reinterpret_cast<const float*>(&g), 6}, {1, 6});
}

// Within the goldens' tolerance: 1e-4 of the number, or of 1 for smaller ones.
void expect_near(std::span<const float> got, std::span<const float> want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], 1e-4f * std::max(1.0f, std::abs(want[i]))) << what << "[" << i << "]";
}

TEST_F(MaskrcnnBenchmarkOps, RoiAlign) {
  const GoldenArrays arrays = golden();
  const Tensor features = arrays.tensor("in_feat"), rois = rois_of(arrays.tensor("in_rois").values<float>());
  for (const int samples : {0, 2})
    for (const int out : {7, 14}) {
      const RoiAlign op{
          .out = out, .samples = samples, .scales = {1.0f / 8}, .aligned = false, .inclusive = true};
      const std::string name = "roi_align_sr" + std::to_string(samples) + "_" + std::to_string(out);
      expect_near(run_kernel({.op = op, .inputs = {{features}, {rois}}}).at(0).values<float>(),
                  arrays.tensor(name).values<float>(), name);
    }
}

// Every level holds its own number, so that what a box reads tells its level.
TEST_F(MaskrcnnBenchmarkOps, LevelsOfRoiAlign) {
  const GoldenArrays arrays = golden();
  const RoiAlign op{.out = 1,
                    .samples = 1,
                    .scales = {0.25f, 0.125f, 0.0625f, 0.03125f},
                    .aligned = false,
                    .level_epsilon = 1e-6f,
                    .inclusive = true};
  KernelCase test{.op = op, .inputs = {}};
  for (std::int64_t l = 0; l < 4; ++l) {
    Tensor level = Tensor::zeros(DType::kF32, {1, 1, 512 >> l, 512 >> l});
    std::ranges::fill(level.mutable_values<float>(), static_cast<float>(l));
    test.inputs.push_back({level});
  }
  const auto want = arrays.doubles("levels");  // of the first boxes
  const Tensor boxes = arrays.tensor("in_level_boxes");
  test.inputs.push_back({rois_of(boxes.values<float>().first(4 * want.size()))});
  const Tensor got = run_kernel(test).at(0);
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got.values<float>()[i], want[i]) << "box " << i;
}

// Every class of every box passes, so that the boxes come out in the order of the goldens' columns.
TEST_F(MaskrcnnBenchmarkOps, DecodeBoxes) {
  const GoldenArrays arrays = golden();
  const Tensor deltas = arrays.tensor("in_deltas"), rois = rois_of(arrays.tensor("in_boxes").values<float>());
  const std::int64_t count = deltas.dim(0), classes = deltas.dim(1) / 4;
  Tensor scores = Tensor::zeros(DType::kF32, {count, classes + 1});
  std::ranges::fill(scores.mutable_values<float>(), 1.0f);
  for (const float w : {1.0f, 10.0f}) {
    const float size_weight = w == 1 ? 1 : w / 2;
    const std::string name = "decode_w" + std::to_string(static_cast<int>(w));
    const SelectBoxes op{.threshold = 0,
                         .weights = {w, w, size_weight, size_weight},
                         .background_first = true,
                         .clip = false,
                         .inclusive = true};
    const auto out =
        run_kernel({.op = op, .inputs = {{rois}, {scores}, {deltas}, {geometry_of({480, 640, 1, 1})}}});
    expect_near(out.at(0).values<float>(), rois_of(arrays.tensor(name).values<float>()).values<float>(),
                name);
  }
}

// With the background's four columns in front, which nothing reads.
TEST_F(MaskrcnnBenchmarkOps, ClassAgnosticDeltasAreTheLast) {
  // 20 pixels wide: moved by a tenth of that.
  const std::vector<float> box{10, 20, 29, 49}, delta{9, 9, 9, 9, 1, 0, 0, 0};
  const SelectBoxes op{.threshold = 0.1f,
                       .weights = {10, 10, 5, 5},
                       .background_first = true,
                       .background_deltas = true,
                       .inclusive = true};
  const auto out = run_kernel({.op = op,
                               .inputs = {{rois_of(box)},
                                          {tensor_of(std::vector<float>{0.5f, 0.2f, 0, 0.3f}, {1, 4})},
                                          {tensor_of(delta, {1, 8})},
                                          {geometry_of({480, 640, 1, 1})}}});
  expect_near(out.at(0).values<float>(),
              rois_of(std::vector<float>{12, 20, 31, 49, 12, 20, 31, 49}).values<float>(), "boxes");
  EXPECT_THAT(out.at(2).values<std::int32_t>(), testing::ElementsAre(0, 2));
}

// Anchors that are the boxes, moved by nothing.
std::vector<Tensor> select_as_anchors(const Tensor& boxes, const SelectAnchors& rule, Geometry g) {
  SelectAnchors op = rule;
  const std::int64_t count = boxes.dim(0);
  op.strides = {1};
  op.anchors = static_cast<int>(count);
  op.cells.assign(boxes.values<float>().begin(), boxes.values<float>().end());
  Tensor scores = Tensor::zeros(DType::kF32, {1, count, 1, 1});
  for (std::int64_t i = 0; i < count; ++i)
    scores.mutable_values<float>()[static_cast<std::size_t>(i)] = -static_cast<float>(i);
  const Tensor deltas = Tensor::zeros(DType::kF32, {1, 4 * count, 1, 1});
  return run_kernel({.op = op, .inputs = {{scores}, {deltas}, {geometry_of(g)}}});
}

TEST_F(MaskrcnnBenchmarkOps, ClipAndRemoveSmall) {
  const GoldenArrays arrays = golden();
  const Tensor boxes = arrays.tensor("in_boxes");
  const Geometry g{480, 640, 1, 1, 480, 640};
  const auto clipped = select_as_anchors(boxes, {.drop_empty = false, .inclusive = true}, g);
  expect_near(clipped.at(0).values<float>(),
              rois_of(arrays.tensor("clip_640x480").values<float>()).values<float>(), "clip");
  const auto large = select_as_anchors(boxes, {.min_size = 16, .inclusive = true}, g);
  expect_near(large.at(0).values<float>(),
              rois_of(arrays.tensor("remove_small_16").values<float>()).values<float>(), "remove_small");
}

TEST_F(MaskrcnnBenchmarkOps, Nms) {
  const GoldenArrays arrays = golden();
  const Tensor boxes = arrays.tensor("in_nms_boxes"), scores = arrays.tensor("in_nms_scores");
  const auto count = scores.dim(0);
  const Tensor groups = tensor_of(std::vector<std::int32_t>(static_cast<std::size_t>(count)), {count});
  for (const auto& [text, iou] : {std::pair{"0.3", 0.3f}, {"0.5", 0.5f}, {"0.7", 0.7f}}) {
    const Nms op{.iou = iou, .max_detections = 1000, .offset_limit = 0, .inclusive = true};
    const auto out = run_kernel(
        {.op = op, .inputs = {{rois_of(boxes.values<float>())}, {scores}, {groups}, {geometry_of({})}}});
    const auto kept = arrays.doubles(std::string("nms_") + text);
    std::vector<float> want;  // the framework keeps the order of the input
    for (const double row : kept) want.push_back(scores.values<float>()[static_cast<std::size_t>(row)]);
    std::ranges::sort(want, std::greater<>());
    EXPECT_TRUE(std::ranges::equal(out.at(1).values<float>(), want)) << text;
  }
}

// A pair of an IoU that is the threshold, to the last bit: 50 of 100 pixels.
TEST_F(MaskrcnnBenchmarkOps, NmsAtTheThreshold) {
  const Tensor boxes = rois_of(std::vector<float>{0, 0, 9, 9, 0, 0, 9, 4});
  const Tensor scores = tensor_of(std::vector<float>{2, 1}, {2}),
               groups = tensor_of(std::vector<std::int32_t>{0, 0}, {2});
  const auto kept = [&](float iou, bool inclusive) {
    const Nms op{.iou = iou, .offset_limit = 0, .inclusive = inclusive};
    return run_kernel({.op = op, .inputs = {{boxes}, {scores}, {groups}, {geometry_of({})}}}).at(0).dim(0);
  };
  EXPECT_EQ(kept(0.5f, true), 1);
  EXPECT_EQ(kept(std::nextafter(0.5f, 1.0f), true), 2);
  EXPECT_EQ(kept(0, true), 2) << "0 is no threshold, but no suppression";
  EXPECT_EQ(kept(0.4f, false), 1) << "without the +1 it is 36 of 81";
  EXPECT_EQ(kept(0.45f, false), 2);
}

TEST_F(MaskrcnnBenchmarkOps, Anchors) {
  const GoldenArrays arrays = golden();
  const std::vector<double> ratios{0.5, 1, 2};
  std::vector<double> octaves;
  for (int i = 0; i < 3; ++i) octaves.push_back(32 * std::pow(2.0, i / 3.0));
  const struct {
    const char* name;
    int stride;
    std::vector<double> sizes;
  } cases[] = {{"fpn_0", 4, {32}},      {"fpn_1", 8, {64}},   {"fpn_2", 16, {128}},
               {"fpn_3", 32, {256}},    {"fpn_4", 64, {512}}, {"c4_0", 16, {32, 64, 128, 256, 512}},
               {"retina_0", 8, octaves}};
  for (const auto& c : cases) {
    const auto cells = anchor_cells(
        {.sizes = {c.sizes}, .ratios = {ratios}, .rule = AnchorRule::kRounded, .strides = {c.stride}});
    const Tensor want = arrays.tensor(std::string("cell_anchors_") + c.name);
    EXPECT_TRUE(std::ranges::equal(cells, want.values<float>())) << c.name;
    if (!arrays.has(std::string("grid_anchors_") + c.name)) continue;
    const auto anchors = static_cast<std::int64_t>(cells.size() / 4);
    const SelectAnchors op{.strides = {c.stride},
                           .anchors = static_cast<int>(anchors),
                           .cells = cells,
                           .clip = false,
                           .inclusive = true};
    Tensor scores = Tensor::zeros(DType::kF32, {1, anchors, 3, 4});
    for (std::int64_t a = 0; a < anchors; ++a)
      for (std::int64_t p = 0; p < 12; ++p)
        scores.mutable_values<float>()[static_cast<std::size_t>(a * 12 + p)] =
            -static_cast<float>(p * anchors + a);
    const Tensor deltas = Tensor::zeros(DType::kF32, {1, anchors * 4, 3, 4});
    expect_near(
        run_kernel({.op = op, .inputs = {{scores}, {deltas}, {geometry_of({})}}}).at(0).values<float>(),
        rois_of(arrays.tensor(std::string("grid_anchors_") + c.name).values<float>()).values<float>(),
        c.name);
  }
}

TEST_F(MaskrcnnBenchmarkOps, PasteMasks) {
  const GoldenArrays arrays = golden();
  const Tensor masks = arrays.tensor("in_masks"), boxes = arrays.tensor("in_paste_boxes");
  const auto want = arrays.strings("paste_rle");
  std::vector<std::int32_t> rows(want.size());
  std::iota(rows.begin(), rows.end(), 0);
  const auto out = run_kernel({.op = PasteMasks{.rule = PasteRule::kPadded},
                               .inputs = {{masks},
                                          {rois_of(boxes.values<float>())},
                                          {tensor_of(rows, {masks.dim(0)})},
                                          {geometry_of({80, 100, 1, 1, 80, 100})}},
                               .threads = 2});
  const auto runs = out.at(0).values<std::int32_t>();
  std::int32_t begin = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const std::int32_t end = out.at(1).values<std::int32_t>()[i];
    Rle rle{.height = 80, .width = 100};
    rle.counts.assign(runs.begin() + begin, runs.begin() + end);
    begin = end;
    EXPECT_EQ(compress_rle(rle), want[i]) << "mask " << i;
  }
}

TEST_F(MaskrcnnBenchmarkOps, Keypoints) {
  const GoldenArrays arrays = golden();
  const Tensor rois = rois_of(arrays.tensor("in_kp_boxes").values<float>());
  const auto got = run_kernel({.op = DecodeKeypoints{}, .inputs = {{arrays.tensor("in_heatmaps")}, {rois}}});
  const auto values = got.at(0).values<float>();
  const Tensor points = arrays.tensor("keypoints"), logits = arrays.tensor("keypoint_scores");
  for (std::size_t i = 0; i < logits.values<float>().size(); ++i) {
    EXPECT_NEAR(values[4 * i], points.values<float>()[3 * i], 1e-3) << i;
    EXPECT_NEAR(values[4 * i + 1], points.values<float>()[3 * i + 1], 1e-3) << i;
    EXPECT_NEAR(values[4 * i + 2], logits.values<float>()[i], 1e-4) << i;
  }
}

TEST_F(MaskrcnnBenchmarkOps, Sizes) {
  const GoldenArrays arrays = golden();
  const Tensor images = arrays.tensor("in_image_wh");
  const auto wh = images.values<std::int64_t>();
  const struct {
    const char* name;
    int shortest, longest;
  } cases[] = {{"resize_hw_800_1333", 800, 1333},
               {"resize_hw_1344_1344", 1344, 1344},
               {"resize_hw_320_480", 320, 480},
               {"resize_hw_256_384", 256, 384}};
  for (const auto& c : cases) {
    const Tensor sizes = arrays.tensor(c.name);
    const ResizeImage op{.shortest = c.shortest, .longest = c.longest, .fit = Fit::kShortSide};
    for (std::size_t i = 0; i < wh.size(); i += 2) {
      const ImageSize got = network_size(op, static_cast<int>(wh[i]), static_cast<int>(wh[i + 1])).size;
      EXPECT_EQ(got.height, sizes.values<std::int64_t>()[i]) << c.name << " " << wh[i] << "x" << wh[i + 1];
      EXPECT_EQ(got.width, sizes.values<std::int64_t>()[i + 1]) << c.name << " " << wh[i] << "x" << wh[i + 1];
    }
  }
}

// A strip whose shorter side rounds to 0, where the framework fails, keeps a pixel and its shape.
TEST_F(MaskrcnnBenchmarkOps, SizesOfStrips) {
  const ResizeImage op{.shortest = 10, .longest = 20, .fit = Fit::kShortSide};
  const ImageSize wide = network_size(op, 3000, 2).size, high = network_size(op, 2, 3000).size;
  EXPECT_EQ((std::pair{wide.width, wide.height}), (std::pair{1500, 1}));
  EXPECT_EQ((std::pair{high.width, high.height}), (std::pair{1, 1500}));
}

}  // namespace
}  // namespace osprey

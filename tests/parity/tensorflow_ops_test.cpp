// The ops that TensorFlow's detectors begin and end with, on the CPU, against goldens of its Object Detection
// API and of AutoML's EfficientDet (fixtures/tfod, fixtures/efficientdet): the network's input, and
// detections from the network's golden outputs, where these are given in full.
#include <cmath>

#include <gtest/gtest.h>

#include "backends/network_size.h"
#include "cpu/boxes.h"
#include "cpu/kernel_harness.h"
#include "ops/detect_anchors.h"
#include "ops/nms.h"
#include "ops/normalize_image.h"
#include "ops/resize_image.h"
#include "ops/select_boxes.h"
#include "parity/fixtures.h"
#include "parity/golden_arrays.h"
#include "parity/match.h"

namespace osprey {
namespace {

struct InputCase {
  const char *folder, *photo;
  ResizeImage resize;
  NormalizeImage normalize;
};

Tensor network_input(const InputCase& c, const Image& photo) {
  const ImageSize size = network_size(c.resize, photo.width, photo.height).size;
  const std::vector<Tensor> resized =
      run_kernel({.op = c.resize,
                  .inputs = {{Tensor::zeros(DType::kU8, {1, 1, 1, 3})}, {Tensor::zeros(DType::kI32, {1, 2})}},
                  .threads = 2,
                  .photos = {photo},
                  .bindings = {{"rh", size.height}, {"rw", size.width}}});
  return run_kernel({.op = c.normalize,
                     .inputs = {{resized[0]}, {resized[1]}},
                     .threads = 2,
                     .bindings = {{"h", size.height}, {"w", size.width}}})
      .at(0);
}

// [1,3,H,W] against a sampled [1,H,W,3], to the last bit.
void expect_input(const Tensor& got, const GoldenArrays& golden, const std::string& prefix) {
  const std::vector<double> shape = golden.doubles(prefix + "preprocessed__shape");
  ASSERT_EQ(static_cast<double>(got.dim(2)), shape[1]);
  ASSERT_EQ(static_cast<double>(got.dim(3)), shape[2]);
  const auto stride = static_cast<std::int64_t>(golden.doubles(prefix + "preprocessed__stride").at(0));
  const Tensor sample = golden.tensor(prefix + "preprocessed__sample");
  const std::int64_t plane = got.dim(2) * got.dim(3);
  for (std::int64_t i = 0; i < sample.size(); ++i) {
    const std::int64_t at = i * stride, pixel = at / 3, channel = at % 3;
    ASSERT_EQ(got.values<float>()[static_cast<std::size_t>(channel * plane + pixel)],
              sample.values<float>()[static_cast<std::size_t>(i)])
        << "pixel " << pixel / got.dim(3) << ", " << pixel % got.dim(3) << ", channel " << channel;
  }
}

ResizeImage stretch(int side) {
  return {.rule = ResizeRule::kTfBilinear, .canvas_height = side, .canvas_width = side, .fit = Fit::kStretch};
}
ResizeImage keep_aspect(int shortest, int longest) {
  return {.rule = ResizeRule::kTfBilinear,
          .shortest = shortest,
          .longest = longest,
          .canvas_height = longest,
          .canvas_width = longest,
          .fit = Fit::kKeepAspect};
}
// x * (2 / 255) - 1, before resizing.
ResizeImage to_one(ResizeImage op) {
  op.scale = 2.0f / 255, op.mean = {1, 1, 1}, op.std = {1, 1, 1};
  return op;
}
const std::vector<float> kMean{123.68f, 116.779f, 103.939f};
ResizeImage less_mean(ResizeImage op) {
  op.mean = kMean, op.std = {1, 1, 1};
  return op;
}
ResizeImage efficientdet(int side) {
  return {.rule = ResizeRule::kTfHalfPixel,
          .canvas_height = side,
          .canvas_width = side,
          .fit = Fit::kTruncate,
          .mean = {static_cast<float>(0.485 * 255), static_cast<float>(0.456 * 255),
                   static_cast<float>(0.406 * 255)},
          .std = {static_cast<float>(0.229 * 255), static_cast<float>(0.224 * 255),
                  static_cast<float>(0.225 * 255)}};
}
NormalizeImage canvas(int side, std::vector<float> mean = {}, std::vector<float> std = {}, float scale = 1) {
  return {.mean = std::move(mean),
          .std = std::move(std),
          .canvas_height = side,
          .canvas_width = side,
          .scale = scale};
}

TEST(TensorflowOps, NetworkInputsToTheLastBit) {
  const std::vector<float> one{1, 1, 1};
  const std::vector<InputCase> cases{
      {"tfod/ssd_mobilenet_v2_320", "images/coffee.png", to_one(stretch(300)), canvas(300)},
      {"tfod/ssd_mobilenet_v2_fpnlite_320", "images/chelsea.png", to_one(stretch(320)), canvas(320)},
      {"tfod/ssd_mobilenet_v1_fpn_640", "images/astronaut.png", to_one(stretch(640)), canvas(640)},
      {"tfod/ssd_resnet50_v1_fpn_640", "images/astronaut.png", less_mean(stretch(640)), canvas(640)},
      {"tfod/faster_rcnn_resnet50_v1_640", "images/coffee.png", keep_aspect(640, 640),
       canvas(640, kMean, one)},
      {"tfod/faster_rcnn_resnet50_v1_800x1333", "images/chelsea.png", keep_aspect(800, 1333),
       canvas(1333, kMean, one)},
      {"tfod/faster_rcnn_inception_resnet_v2_640", "images/rocket.png", keep_aspect(640, 640),
       canvas(640, one, one, 2.0f / 255)},
      {"tfod/mask_rcnn_inception_resnet_v2_1024", "images/astronaut.png", stretch(1024),
       canvas(1024, one, one, 2.0f / 255)},
      {"efficientdet/efficientdet_d0_512", "images/astronaut.png", efficientdet(512), canvas(512)},
      {"efficientdet/efficientdet_d1_640", "images/coffee.png", efficientdet(640), canvas(640)},
      {"efficientdet/efficientdet_d4_1024", "images/astronaut.png", efficientdet(1024), canvas(1024)},
  };
  for (const InputCase& c : cases) {
    OSPREY_NEEDS_FIXTURE(fixture(c.folder))
    SCOPED_TRACE(c.folder);
    const Image photo = read_image(fixture(c.photo));
    const GoldenArrays golden(fixture(c.folder) / "golden.npz");
    expect_input(network_input(c, photo), golden, "");
    const NetworkSize size = network_size(c.resize, photo.width, photo.height);
    if (golden.has("image_scale")) {
      EXPECT_EQ(size.geometry[2], golden.tensor("image_scale").values<float>()[0]);
    } else if (c.resize.fit == Fit::kKeepAspect) {
      const Tensor shape = golden.tensor("true_image_shape");
      const auto extents = shape.values<std::int32_t>();
      EXPECT_EQ(size.size, (ImageSize{extents[1], extents[0]}));
    }
  }
}

// TensorFlow's boxes [R,4] (y0, x0, y1, x1) times a factor as rows of the ops.
Tensor rois_of(const Tensor& boxes, std::int64_t rows, float factor_y, float factor_x) {
  Tensor out = Tensor::zeros(DType::kF32, {rows, 5});
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* b = boxes.values<float>().data() + 4 * r;
    float* to = out.mutable_values<float>().data() + 5 * r;
    to[1] = b[1] * factor_x, to[2] = b[0] * factor_y, to[3] = b[3] * factor_x, to[4] = b[2] * factor_y;
  }
  return out;
}

Tensor geometry_of(float side) {
  return Tensor::from<float>(std::vector<float>{side, side, 1, 1, side, side}, {1, 6});
}

std::vector<ClassedBox> golden_detections(const GoldenArrays& golden, const std::string& prefix, float side) {
  const auto count = static_cast<std::int64_t>(golden.doubles(prefix + "num_detections").at(0));
  const std::vector<Corners> boxes =
      corners_of(rois_of(golden.tensor(prefix + "detection_boxes"), count, side, side));
  const std::vector<double> scores = golden.doubles(prefix + "detection_scores"),
                            classes = golden.doubles(prefix + "detection_classes");
  std::vector<ClassedBox> out;
  for (std::size_t i = 0; i < boxes.size(); ++i)
    out.push_back({boxes[i], static_cast<int>(classes[i]) - 1, scores[i]});
  return out;
}

std::vector<ClassedBox> detections_of(const std::vector<Tensor>& got) {
  const std::vector<Corners> boxes = corners_of(got[0]);
  std::vector<ClassedBox> out;
  for (std::size_t i = 0; i < boxes.size(); ++i)
    out.push_back(
        {boxes[i], got[2].values<std::int32_t>()[i], static_cast<double>(got[1].values<float>()[i])});
  return out;
}

// All golden detections are found, but for `missing`, with scores within `score` and boxes within `pixels`. A
// box that is farther off is another candidate, which the suppression kept in its place: the golden one is
// missing.
void expect_detections(const std::vector<ClassedBox>& got, const std::vector<ClassedBox>& golden,
                       std::size_t missing, double score, double pixels) {
  EXPECT_EQ(got.size(), golden.size());
  std::size_t found = 0;
  for (const auto& [want, ours] : match_detections(golden, got, 0.95)) {
    bool near = true;
    for (std::size_t k = 0; k < 4; ++k)
      near = near && std::abs(got[ours].box[k] - golden[want].box[k]) <= pixels;
    if (!near) continue;
    ++found;
    EXPECT_NEAR(got[ours].score, golden[want].score, score);
  }
  EXPECT_GE(found + missing, golden.size());
}

// As the fixtures' configs have it.
const Nms kSuppression{.iou = 0.6f,
                       .max_detections = 100,
                       .offset_limit = 0,
                       .max_per_group = 100,
                       .clip = KeptClip::kDropEmpty,
                       .group_first = true};

// SSD 300: every decoded box and score of the exported model through the suppression.
TEST(TensorflowOps, MulticlassSuppression) {
  const auto folder = fixture("tfod/ssd_mobilenet_v2_320");
  OSPREY_NEEDS_FIXTURE(folder)
  const GoldenArrays golden(folder / "golden.npz");
  const Tensor scores = golden.tensor("det__raw_detection_scores");
  const std::int64_t anchors = scores.dim(1), columns = scores.dim(2);
  const Tensor rois = rois_of(golden.tensor("det__raw_detection_boxes"), anchors, 300, 300);
  const Tensor deltas = Tensor::zeros(DType::kF32, {anchors, 4});
  const std::vector<Tensor> rows =
      run_kernel({.op = SelectBoxes{.threshold = 1e-8f,
                                    .weights = {10, 10, 5, 5},
                                    .max_log_scale = 0,
                                    .delta_order = DeltaOrder::kYxhw,
                                    .background_first = true,
                                    .clip = false},
                  .inputs = {{rois},
                             {Tensor::from<float>(scores.values<float>(), {anchors, columns})},
                             {deltas},
                             {geometry_of(300)}}});
  EXPECT_EQ(rows[0].dim(0), anchors * (columns - 1));
  const std::vector<Tensor> got =
      run_kernel({.op = kSuppression, .inputs = {{rows[0]}, {rows[1]}, {rows[2]}, {geometry_of(300)}}});
  expect_detections(detections_of(got), golden_detections(golden, "det__", 300), 0, 0, 1e-4);
}

// Mask R-CNN: both stages from the heads' outputs, which its exported model returns.
class MaskRcnnHeads : public testing::Test {
 protected:
  static constexpr float kSide = 1024;
  static constexpr int kAnchors = 12, kCells = 64;
  const std::filesystem::path folder_ = fixture("tfod/mask_rcnn_inception_resnet_v2_1024");

  // [1,cells*anchors,width] as a map [1,anchors*width,H,W].
  static Tensor map_of(const Tensor& rows) {
    const std::int64_t width = rows.dim(2), channels = kAnchors * width, pixels = kCells * kCells;
    Tensor out = Tensor::zeros(DType::kF32, {1, channels, kCells, kCells});
    for (std::int64_t p = 0; p < pixels; ++p)
      for (std::int64_t c = 0; c < channels; ++c)
        out.mutable_values<float>()[static_cast<std::size_t>(c * pixels + p)] =
            rows.values<float>()[static_cast<std::size_t>(p * channels + c)];
    return out;
  }
};

TEST_F(MaskRcnnHeads, Proposals) {
  OSPREY_NEEDS_FIXTURE(folder_)
  const GoldenArrays golden(folder_ / "golden.npz");
  DetectAnchors op{.strides = {16},
                   .offsets = {0},
                   .anchors = kAnchors,
                   .scores = AnchorScores::kSoftmaxSkipFirst,
                   .weights = {10, 10, 5, 5},
                   .clip_anchors = true,
                   .canvas_height = 1024,
                   .canvas_width = 1024,
                   .agnostic = true,
                   .iou = 0.7f,
                   .max_per_class = 300,
                   .max_detections = 300,
                   .clip = KeptClip::kDropEmpty,
                   .stage = 1};
  for (const float ratio : {0.5f, 1.0f, 2.0f})
    for (const float scale : {0.25f, 0.5f, 1.0f, 2.0f}) {
      const float h = scale / std::sqrt(ratio) * 256 / 2, w = scale * std::sqrt(ratio) * 256 / 2;
      op.cells.insert(op.cells.end(), {-w, -h, w, h});
    }
  const std::vector<Tensor> got =
      run_kernel({.op = op,
                  .inputs = {{map_of(golden.tensor("det__rpn_objectness_predictions_with_background"))},
                             {map_of(golden.tensor("det__rpn_box_encodings"))},
                             {geometry_of(kSide)}},
                  .threads = 2});
  const auto count = static_cast<std::int64_t>(golden.doubles("det__num_proposals").at(0));
  ASSERT_EQ(got[0].dim(0), count);
  const std::vector<Corners> want = corners_of(rois_of(golden.tensor("det__proposal_boxes"), count, 1, 1));
  const std::vector<Corners> ours = corners_of(got[0]);
  for (std::size_t i = 0; i < want.size(); ++i)
    for (std::size_t k = 0; k < 4; ++k) EXPECT_NEAR(ours[i][k], want[i][k], 1e-3) << "proposal " << i;
}

TEST_F(MaskRcnnHeads, Detections) {
  OSPREY_NEEDS_FIXTURE(folder_)
  const GoldenArrays golden(folder_ / "golden.npz");
  const auto count = static_cast<std::int64_t>(golden.doubles("det__num_proposals").at(0));
  const Tensor logits = golden.tensor("det__class_predictions_with_background"),
               codes = golden.tensor("det__refined_box_encodings");
  const std::int64_t columns =
      logits.size() / (logits.dim(0) * (logits.shape().size() == 3 ? logits.dim(1) : 1));
  Tensor scores = Tensor::zeros(DType::kF32, {count, columns});
  for (std::int64_t r = 0; r < count; ++r) {
    const float* from = logits.values<float>().data() + r * columns;
    float sum = 0, largest = *std::max_element(from, from + columns);
    for (std::int64_t k = 0; k < columns; ++k) sum += std::exp(from[k] - largest);
    for (std::int64_t k = 0; k < columns; ++k)
      scores.mutable_values<float>()[static_cast<std::size_t>(r * columns + k)] =
          std::exp(from[k] - largest) / sum;
  }
  const std::int64_t width = codes.size() / 300;
  const Tensor deltas = Tensor::from<float>(
      codes.values<float>().first(static_cast<std::size_t>(count * width)), {count, width});
  const std::vector<Tensor> rows =
      run_kernel({.op = SelectBoxes{.threshold = 0,
                                    .weights = {10, 10, 5, 5},
                                    .max_log_scale = 0,
                                    .delta_order = DeltaOrder::kYxhw,
                                    .background_first = true,
                                    .clip = false},
                  .inputs = {{rois_of(golden.tensor("det__proposal_boxes"), count, 1, 1)},
                             {scores},
                             {deltas},
                             {geometry_of(kSide)}}});
  const std::vector<Tensor> got =
      run_kernel({.op = kSuppression, .inputs = {{rows[0]}, {rows[1]}, {rows[2]}, {geometry_of(kSide)}}});
  expect_detections(detections_of(got), golden_detections(golden, "det__", kSide), 0, 1e-6, 2e-3);
}

Tensor floats_of(const Tensor& halves, Shape shape) {
  Tensor out = Tensor::zeros(DType::kF32, std::move(shape));
  const auto* from = reinterpret_cast<const Half*>(halves.bytes().data());
  for (float& v : out.mutable_values<float>()) v = to_float(*from++);
  return out;
}

// Genuine COCO weights on four photos: from the heads' outputs, which are given rounded to float16, to
// detections.
TEST(TensorflowOps, DetectionsOfARealSsd) {
  const auto folder = fixture("tfod/real_ssd_mobilenet_v2_fpnlite_320");
  OSPREY_NEEDS_FIXTURE(folder)
  constexpr std::int64_t kAnchors = 6, kColumns = 91;
  const GoldenArrays golden(folder / "golden.npz");
  DetectAnchors op{.anchors = kAnchors,
                   .classes = kColumns - 1,
                   .scores = AnchorScores::kSigmoidSkipFirst,
                   .weights = {10, 10, 5, 5},
                   .threshold = 1e-8f,
                   .iou = 0.6f,
                   .max_per_class = 100,
                   .max_detections = 100,
                   .clip = KeptClip::kDropEmpty};
  const std::vector<std::int64_t> sides{40, 20, 10, 5, 3};
  for (std::size_t l = 0; l < sides.size(); ++l) {
    const auto stride = static_cast<float>(8 << l);
    op.strides.push_back(stride);
    op.offsets.push_back(l < 4 ? 0.5f : 0);  // 320 is no multiple of 128
    for (const float ratio : {1.0f, 2.0f, 0.5f})
      for (const float scale : {1.0f, std::sqrt(2.0f)}) {
        const float h = 4 * stride * scale / std::sqrt(ratio) / 2,
                    w = 4 * stride * scale * std::sqrt(ratio) / 2;
        op.cells.insert(op.cells.end(), {-w, -h, w, h});
      }
  }
  for (const std::string prefix : {"", "photo1__", "photo2__", "photo3__"}) {
    SCOPED_TRACE(prefix);
    KernelCase test{.op = op, .inputs = {}, .threads = 2};
    const Tensor scores = golden.tensor(prefix + "class_predictions_with_background_f16"),
                 deltas = golden.tensor(prefix + "box_encodings_f16");
    std::int64_t first = 0;
    for (const std::int64_t side : sides)
      for (const Tensor* rows : {&scores, &deltas}) {
        const std::int64_t channels = kAnchors * rows->dim(2), pixels = side * side;
        const Tensor all = floats_of(*rows, rows->shape());
        Tensor map = Tensor::zeros(DType::kF32, {1, channels, side, side});
        for (std::int64_t p = 0; p < pixels; ++p)
          for (std::int64_t c = 0; c < channels; ++c)
            map.mutable_values<float>()[static_cast<std::size_t>(c * pixels + p)] =
                all.values<float>()[static_cast<std::size_t>(first * rows->dim(2) + p * channels + c)];
        test.inputs.push_back({map});
        if (rows == &deltas) first += pixels * kAnchors;
      }
    test.inputs.push_back({geometry_of(320)});
    // Rounded logits move scores by up to 0.0065 / 4, and change places at the end of the list and at the
    // threshold of the IoU.
    expect_detections(detections_of(run_kernel(test)), golden_detections(golden, prefix + "det__", 320), 3,
                      0.0065 / 4, 0.15);
  }
}

}  // namespace
}  // namespace osprey

#include "formats/onnx_export/onnx_export.h"

#include <set>

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "formats/onnx_export/lowering.h"

namespace osprey {
namespace {

// The smallest detector with every op that is lowered.
constexpr const char* kDetector = R"(graph small
input photos: u8[N,H,W,3]
input sizes: i32[N,2]
weight conv.weight: f32[2,3,1,1] = 1.0 2.0 3.0 4.0 5.0 6.0
weight score.weight: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
weight delta.weight: f32[4,2,1,1] = 1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0
weight class.weight: f32[3,2] = 1.0 2.0 3.0 4.0 5.0 6.0
weight mask.weight: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
weight norm: f32[2] = 1.0 2.0
weight share.a: f32[] = 0.5
weight share.b: f32[] = 1.5
resized, geometry = resize_image(photos, sizes) {bgr=true}
image = normalize_image(resized, geometry) {multiple=32}
c2 = conv(image, conv.weight) {stride=[4, 4]}
p2 = batch_norm(c2, norm, norm, norm, norm) {exact_factor=true}
p3 = max_pool(p2) {kernel=[1, 1]}
up = upsample(p3)
sum = add(up, p2)
s2 = conv(sum, score.weight) {f32_out=true} @head.score
s3 = conv(p3, score.weight) {f32_out=true} @head.score
six = activate(sum) {kind='relu6'}
weighted = weighted_sum(six, p3, share.a, share.b) {activation='swish', scales=[1, 2]}
gates = global_average_pool(weighted)
gated = scale_channels(weighted, gates)
scaled = scale(gated) {factor=0.5}
grouped = group_norm(scaled, norm, norm) {groups=2, activation='relu'}
d2 = conv(grouped, delta.weight) @head.delta
d3 = conv(p3, delta.weight) @head.delta
boxes, scores, groups = select_anchors(s2, d2, s3, d3, geometry) {strides=[4, 8], anchors=1, classes=2, cells=[-8.0, -8.0, 8.0, 8.0, -16.0, -16.0, 16.0, 16.0], group='class', activation='sigmoid', has_threshold=true, threshold=0.05}
rois, roi_scores, roi_classes = nms(boxes, scores, groups, geometry) {stage=1}
crops = roi_align(sum, p3, rois) {out=2, scales=[0.25, 0.125]}
pooled = global_average_pool(crops)
logits = linear(pooled, class.weight)
probabilities = softmax(logits)
moves = linear(pooled, box.weight)
refined = decode_boxes(rois, moves, geometry)
found, found_scores, found_classes = select_boxes(refined, probabilities, moves, geometry)
det_boxes_net, det_scores, det_classes = nms(found, found_scores, found_classes, geometry)
det_crops = roi_align(sum, p3, det_boxes_net) {out=2, scales=[0.25, 0.125]}
larger = upsample(det_crops) {mode='bilinear_corners', height=2, width=2}
maps = conv(larger, mask.weight)
mask_probs = select_class(maps, det_classes)
det_boxes, det_rows = rescale_boxes(det_boxes_net, geometry)
mask_runs, mask_ends = paste_masks(mask_probs, det_boxes, det_rows, geometry)
output det_boxes
output mask_runs
)";

// The smallest DETR with every op that is lowered, on a canvas of 4 x 4.
constexpr const char* kDetr = R"(
resized, geometry = resize_image(photos, sizes) {rule='cv_cubic', canvas_height=4, canvas_width=4, fit='stretch'}
image = normalize_image(resized, geometry) {canvas_height=4, canvas_width=4, stretched=true}
map = conv(image, conv.weight)
rows = tokens(map)
placed = combine_rows(rows, places)
query_key = linear(placed, query_key.weight)
mixed = attention(query_key, rows) {heads=2, tokens=16}
bent = gelu(mixed)
normed = layer_norm(bent, scale, bias, rows)
back = token_map(normed) {height=4, width=4}
all = tokens(back, map)
logits = linear(all, class.weight)
best = select_queries(logits) {top=2, tokens=32}
chosen = gather_rows(all, best)
content = combine_rows(chosen, valid, best) {rule='multiply'}
first_masks = mask_logits(content, back)
start = mask_boxes(first_masks)
boxes = activate(start) {kind='sigmoid'}
offsets = linear(content, offset.weight)
shares = linear(content, share.weight)
sampled = deformable_attention(all, offsets, shares, boxes) {heads=2, points=1, queries=2, sizes=[4, 4, 4, 4]}
deltas = linear(sampled, box.weight)
refined = refine_boxes(deltas, boxes)
scores = linear(sampled, class.weight)
det_boxes_net, det_scores, det_classes, queries = detect_queries(scores, refined, geometry) {top=2, queries=2}
kept = gather_rows(sampled, queries)
masks = mask_logits(kept, back, det_boxes_net)
det_boxes, det_rows = rescale_boxes(det_boxes_net, geometry) {clip=false}
mask_runs, mask_ends = resize_masks(masks, det_boxes, det_rows, geometry)
output det_boxes
output mask_runs
)";

// kDetr with its inputs, and weights of ones.
std::string detr() {
  std::string text = "graph detr\ninput photos: u8[N,H,W,3]\ninput sizes: i32[N,2]\n";
  const std::vector<std::pair<std::string, Shape>> weights{{"conv.weight", {4, 3, 1, 1}},
                                                           {"places", {16, 4}},
                                                           {"query_key.weight", {8, 4}},
                                                           {"scale", {4}},
                                                           {"bias", {4}},
                                                           {"class.weight", {3, 4}},
                                                           {"valid", {32, 1}},
                                                           {"offset.weight", {8, 4}},
                                                           {"share.weight", {4, 4}},
                                                           {"box.weight", {4, 4}}};
  for (const auto& [name, shape] : weights) {
    text += fmt::format("weight {}: f32[{}] =", name, fmt::join(shape, ","));
    for (std::int64_t i = 0; i < element_count(shape); ++i) text += " 1.0";
    text += "\n";
  }
  return text + (kDetr + 1);
}

class OnnxExport : public ::testing::Test {
 protected:
  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() /
      fmt::format("osprey_export_{}.onnx", ::testing::UnitTest::GetInstance()->current_test_info()->name());
  Model model_;
  void SetUp() override {
    std::string text = kDetector;
    text.insert(text.find("weight mask"), "weight box.weight: f32[4,2] = 1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0\n");
    model_.graph = parse_graph(text);
    model_.categories = {{"cat", 1}, {"dog", 2}};
  }
  void TearDown() override { std::filesystem::remove(path_); }

  onnx::ModelProto exported() {
    export_onnx(model_, path_);
    return read_onnx_file(open_source(path_)).model;
  }
};

TEST_F(OnnxExport, HoldsOnlyStandardOpsUnderNamesOfTheirOwn) {
  const onnx::ModelProto model = exported();
  std::set<std::string> names, values;
  for (const auto& node : model.graph().node()) {
    EXPECT_EQ(node.domain(), "") << node.name();
    EXPECT_TRUE(names.insert(node.name()).second) << node.name();
    for (const auto& out : node.output()) EXPECT_TRUE(values.insert(out).second) << out;
  }
  ASSERT_EQ(model.opset_import_size(), 1);
  EXPECT_EQ(model.opset_import(0).version(), 17);
}

TEST_F(OnnxExport, AStageOfAResultsNameGetsAnother) {
  model_.graph.rename(model_.graph.find("maps"), "detection_masks");
  std::set<std::string> values;
  const onnx::ModelProto model = exported();
  for (const auto& node : model.graph().node())
    for (const auto& out : node.output()) EXPECT_TRUE(values.insert(out).second) << out;
  EXPECT_TRUE(values.contains("detection_masks:stage"));
}

TEST_F(OnnxExport, GoesFromAnImageToDetections) {
  const onnx::ModelProto model = exported();
  ASSERT_EQ(model.graph().input_size(), 1);
  EXPECT_EQ(to_string(type_of_onnx(model.graph().input(0))), "f32[1,3,height,width]");
  std::vector<std::string> outputs;
  for (const auto& out : model.graph().output())
    outputs.push_back(out.name() + ": " + to_string(type_of_onnx(out)));
  EXPECT_THAT(outputs, ::testing::ElementsAre(
                           "num_detections: i32[1,1]", "detection_boxes: f32[1,detections,4]",
                           "detection_scores: f32[1,detections]", "detection_classes: i32[1,detections]",
                           "detection_masks: f32[1,detections,2,2]"));
}

TEST_F(OnnxExport, ADetrTakesBatchesAndGivesMasksOfWholeImages) {
  model_.graph = parse_graph(detr());
  const onnx::ModelProto model = exported();
  ASSERT_EQ(model.graph().input_size(), 1);
  EXPECT_EQ(to_string(type_of_onnx(model.graph().input(0))), "f32[batch,3,4,4]");
  std::vector<std::string> outputs;
  for (const auto& out : model.graph().output())
    outputs.push_back(out.name() + ": " + to_string(type_of_onnx(out)));
  EXPECT_THAT(outputs,
              ::testing::ElementsAre("num_detections: i32[batch,1]", "detection_boxes: f32[batch,2,4]",
                                     "detection_scores: f32[batch,2]", "detection_classes: i32[batch,2]",
                                     "detection_masks: u8[batch,2,4,4]"));
  for (const auto& node : model.graph().node()) EXPECT_EQ(node.domain(), "") << node.name();
}

TEST_F(OnnxExport, TakesChannelsLastWhereAsked) {
  export_onnx(model_, path_, /*channels_last=*/true);
  const onnx::ModelProto model = read_onnx_file(open_source(path_)).model;
  EXPECT_EQ(to_string(type_of_onnx(model.graph().input(0))), "f32[1,height,width,3]");
  EXPECT_EQ(model.graph().node(0).op_type(), "Transpose");
}

TEST_F(OnnxExport, TheSameModelGivesTheSameBytes) {
  exported();
  const std::string first = read_text(path_);
  exported();
  EXPECT_EQ(read_text(path_), first);
}

TEST_F(OnnxExport, WhatIsNoDetectorIsRefusedAndNothingIsWritten) {
  model_.graph = parse_graph("input x: f32[N,2]\ny = softmax(x)\noutput y\n");
  EXPECT_THROW(export_onnx(model_, path_), Error);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

// The text with a line before `sum`, which adds `added` in place of p2.
std::string with_line(std::string text, const std::string& line, const std::string& added) {
  text.insert(text.find("sum = add(up, p2)"), line);
  return text.replace(text.find("add(up, p2)"), 11, "add(up, " + added + ")");
}

TEST_F(OnnxExport, AnOpWithoutASpellingIsNamed) {
  model_.graph = parse_graph(with_line(to_text(model_.graph), "fused = cast(p2)\n", "fused"));
  try {
    exported();
    ADD_FAILURE() << "a cast was exported";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("fused: cast cannot be exported"));
  }
}

std::vector<std::string> types_of_layer(const onnx::ModelProto& model, const std::string& layer) {
  std::vector<std::string> out;
  for (const auto& node : model.graph().node())
    if (node.name().starts_with(layer + "/")) out.push_back(node.op_type());
  return out;
}

TEST_F(OnnxExport, WhatIsFusedIsWrittenOut) {
  const std::string line = "fused = conv(p2, score.weight, _, p2) {activation='relu6'}\n";
  model_.graph = parse_graph(with_line(to_text(model_.graph), line, "fused"));
  EXPECT_THAT(types_of_layer(exported(), "fused"), ::testing::ElementsAre("Conv", "Add", "Clip"));
}

TEST_F(OnnxExport, ANormInsideAConvIsWrittenOut) {
  const std::string line = "fused = conv(p2, score.weight, _, p2, norm, norm)\n";
  model_.graph = parse_graph(with_line(to_text(model_.graph), line, "fused"));
  EXPECT_THAT(types_of_layer(exported(), "fused"),
              ::testing::ElementsAre("Conv", "Unsqueeze", "Unsqueeze", "Mul", "Add", "Add"));
}

TEST_F(OnnxExport, SqueezeAndExcitationIsWrittenOut) {
  const std::string line =
      "fused = squeeze_excite(p2, squeeze.weight, squeeze.bias, expand.weight, norm) {activation='relu'}\n";
  std::string text = to_text(model_.graph);
  text.insert(text.find("weight "),
              "weight squeeze.weight: f32[1,2] = 1.0 2.0\nweight squeeze.bias: f32[1] = 1.0\n"
              "weight expand.weight: f32[2,1] = 1.0 2.0\n");
  model_.graph = parse_graph(with_line(text, line, "fused"));
  EXPECT_THAT(types_of_layer(exported(), "fused"),
              ::testing::ElementsAre("ReduceMean", "Gemm", "Relu", "Gemm", "Sigmoid", "Unsqueeze", "Mul"));
}

class IntegersInOnnx : public OnnxExport {
 protected:
  // The model with these layers, the last of which is "fused", and weights w8 of a shape, s8.
  void set_layers(const Shape& w8, const std::string& lines) {
    std::string text = to_text(model_.graph);
    text.insert(text.find("weight "),
                fmt::format("weight w8: i8[{}]\nweight s8: f32[2] = 0.5 0.25\n", fmt::join(w8, ",")));
    model_.graph = parse_graph(with_line(text, lines, "fused"));
    for (const Weight& w : model_.graph.weights())
      if (model_.graph.value(w.value).name == "w8")
        const_cast<Weight&>(w).load = [w8] { return Tensor::zeros(DType::kI8, w8); };
  }
};

TEST_F(IntegersInOnnx, AreQuantizedAndDequantizedAroundFloats) {
  set_layers({2, 2, 1, 1},
             "q = quantize(p2) {scale=0.5}\n"
             "r = quantized_conv(q, w8, s8, _, q) {to='u8', activation='relu', x_scale=0.5, y_scale=0.125, "
             "residual_scale=0.5}\n"
             "fused = dequantize(r) {scale=0.125}\n");
  const onnx::ModelProto model = exported();
  EXPECT_THAT(types_of_layer(model, "q"), ::testing::ElementsAre("QuantizeLinear"));
  EXPECT_THAT(types_of_layer(model, "r"),
              ::testing::ElementsAre("DequantizeLinear", "DequantizeLinear", "Conv", "DequantizeLinear",
                                     "Add", "Relu", "QuantizeLinear"));
  EXPECT_THAT(types_of_layer(model, "fused"), ::testing::ElementsAre("DequantizeLinear"));
}

TEST_F(IntegersInOnnx, AroundTransposedConvolutions) {
  set_layers({2, 2, 1, 1},
             "q = quantize(p2) {scale=0.5}\n"
             "r = quantized_conv_transpose(q, w8, s8) {to='i8', x_scale=0.5, y_scale=0.25}\n"
             "fused = dequantize(r) {scale=0.25}\n");
  EXPECT_THAT(types_of_layer(exported(), "r"),
              ::testing::ElementsAre("DequantizeLinear", "DequantizeLinear", "Transpose", "ConvTranspose",
                                     "QuantizeLinear"));
}

TEST_F(IntegersInOnnx, AroundFullyConnectedLayers) {
  set_layers({2, 2},
             "means8 = global_average_pool(p2)\n"
             "rows8 = quantize(means8) {scale=0.5}\n"
             "gates8 = quantized_linear(rows8, w8, s8) {activation='relu', x_scale=0.5}\n"
             "fused = scale_channels(p2, gates8)\n");
  EXPECT_THAT(types_of_layer(exported(), "gates8"),
              ::testing::ElementsAre("DequantizeLinear", "DequantizeLinear", "Gemm", "Relu"));
}

}  // namespace
}  // namespace osprey

#include "formats/onnx.h"

#include <algorithm>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "formats/onnx_file.h"
#include "formats/onnx_ops.h"
#include "graph/op_table.h"

namespace osprey {
namespace {

// Every op there is, on a network that makes no sense.
constexpr const char* kEveryOp = R"(graph every_op
input photos: u8[N,H,W,3]
input sizes: i32[N,2]
weight conv.weight: f32[2,3,3,3]
weight conv.bias: f32[2] = 0.5 -0.5
weight norm.scale: f32[2] = 1.0 2.0
weight norm.mean: f32[2] = 0.0 1.0
weight score.weight: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
weight delta.weight: f32[4,2,1,1] = 1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0
weight head.weight: f32[3,8]
weight box.weight: f32[4,8]
weight mask.weight: f32[2,5,2,2]
weight depthwise.weight: f32[2,1,3,3]
weight squeeze.weight: f32[2,2] = 0.5 -0.5 0.25 1.0
weight squeeze.bias: f32[2] = 0.25 -0.25
weight column: f32[4,1] = 1.0 0.0 1.0 1.0
weight pairs: f32[4,2] = 1.0 0.0 0.0 1.0 0.5 0.5 -0.5 0.5
weight row: f32[1,2] = 1.0 1.0
weight share.a: f32[] = 0.5
weight share.b: f32[] = 1.5
resized, geometry = resize_image(photos, sizes) {shortest=256, longest=384, bgr=true} @input.resize : u8[N,rh,rw,3], f32[N,6]
image = normalize_image(resized, geometry) {mean=[1.0, 2.0, 3.5], multiple=32} : f32[N,3,32*h,32*w]
c = conv(image, conv.weight, conv.bias) {stride=[2, 2], pads=[1, 1, 1, 1]} @layer.conv : f32[N,2,16*h,16*w]
n = batch_norm(c, norm.scale, conv.bias, norm.mean, norm.scale) {epsilon=0.001, exact_factor=true} : f32[N,2,16*h,16*w]
r = activate(n) : f32[N,2,16*h,16*w]
sigmoid = activate(r) {kind='sigmoid'} : f32[N,2,16*h,16*w]
swish = activate(sigmoid) {kind='swish'} : f32[N,2,16*h,16*w]
p = max_pool(swish) {pads=[1, 1, 1, 1]} : f32[N,2,8*h,8*w]
u = upsample(p) : f32[N,2,16*h,16*w]
u4 = upsample(p) {mode='bilinear', scale=4} : f32[N,2,32*h,32*w]
sum = add(u, r) : f32[N,2,16*h,16*w]
grouped = group_norm(sum, norm.scale, conv.bias) {groups=2, epsilon=0.001, activation='relu'} : f32[N,2,16*h,16*w]
six = activate(grouped) {kind='relu6'} : f32[N,2,16*h,16*w]
levels8 = quantize(six) {scale=0.5} : i8[N,2,16*h,16*w]
kernel8 = quantize(score.weight) {scale=0.03125} : i8[2,2,1,1]
sum8 = quantized_conv(levels8, kernel8, norm.scale, conv.bias, levels8) {activation='relu', to='u8', x_scale=0.5, y_scale=0.25, residual_scale=0.5} : u8[N,2,16*h,16*w]
real8 = dequantize(sum8) {scale=0.25} : f32[N,2,16*h,16*w]
padded = conv(six, depthwise.weight) {stride=[2, 2], padding='same', groups=2} : f32[N,2,8*h,8*w]
largest = max_pool(six) {padding='same'} : f32[N,2,8*h,8*w]
mean_same = average_pool(six) {padding='same'} : f32[N,2,8*h,8*w]
mean_padded = average_pool(six) {kernel=[3, 3], pads=[1, 1, 1, 1], count_padding=true} : f32[N,2,8*h,8*w]
weighted = weighted_sum(padded, largest, share.a, share.b) {activation='swish'} : f32[N,2,8*h,8*w]
plain = weighted_sum(weighted, mean_same, mean_padded) {normalize=false, scales=[1, 1, 1]} : f32[N,2,8*h,8*w]
gates = global_average_pool(plain) : f32[N,2]
gated = scale_channels(plain, gates) : f32[N,2,8*h,8*w]
excited = squeeze_excite(gated, squeeze.weight, squeeze.bias, squeeze.weight, squeeze.bias) : f32[N,2,8*h,8*w]
both = concat(excited, plain) : f32[N,4,8*h,8*w]
scaled = scale(both) {factor=0.17} : f32[N,4,8*h,8*w]
sized = upsample(scaled) {mode='bilinear_corners', height=9, width=5} : f32[N,4,9,5]
average = mean(sum, r, u) : f32[N,2,16*h,16*w]
fused = conv(average, score.weight, _, average) {activation='relu'} : f32[N,2,16*h,16*w]
scores = conv(fused, score.weight) {f32_out=true} : f32[N,2,16*h,16*w]
deltas = conv(fused, delta.weight) : f32[N,4,16*h,16*w]
narrow = cast(u4) {to='bf16'} : bf16[N,2,32*h,32*w]
boxes, logits, groups = select_anchors(scores, deltas, geometry) {strides=[2], anchors=1, classes=2, cells=[-8.0, -8.0, 8.0, 8.0], top=50} @anchors : f32[<=50*N,5], f32[<=50*N], i32[<=50*N]
dense, dense_scores, dense_classes, dense_rows = detect_anchors(scores, deltas, geometry) {strides=[2.0], offsets=[0.0], anchors=1, classes=2, cells=[-8.0, -8.0, 8.0, 8.0]} : f32[<=100*N,5], f32[<=100*N], i32[<=100*N], i32[<=100*N]
rois, roi_scores, levels = nms(boxes, logits, groups, geometry) {iou=0.7, max_detections=20, stage=1} : f32[<=20*N,5], f32[<=20*N], i32[<=20*N]
crops = roi_align(sum, rois) {out=2, scales=[0.5]} : f32[<=20*N,2,2,2]
flat = flatten(crops) : f32[<=20*N,8]
pooled = global_average_pool(crops) : f32[<=20*N,2]
classes = linear(flat, head.weight) {f32_out=true} : f32[<=20*N,3]
moves = linear(flat, box.weight) : f32[<=20*N,4]
probabilities = softmax(classes) : f32[<=20*N,3]
refined = decode_boxes(rois, moves, geometry) : f32[<=20*N,5]
found, found_scores, found_classes = select_boxes(refined, probabilities, moves, geometry) : f32[<=40*N,5], f32[<=40*N], i32[<=40*N]
det_boxes_net, det_scores, det_classes = nms(found, found_scores, found_classes, geometry) : f32[<=100*N,5], f32[<=100*N], i32[<=100*N]
det_crops = roi_align(sum, det_boxes_net) {out=2, scales=[0.5]} : f32[<=100*N,2,2,2]
masks = conv_transpose(det_crops, mask.weight) : f32[<=100*N,5,4,4]
mask_probs = select_class(masks, det_classes) : f32[<=100*N,4,4]
points = decode_keypoints(masks, det_boxes_net) : f32[<=100*N,5,4]
det_boxes, det_rows = rescale_boxes(det_boxes_net, geometry) : f32[<=100*N,5], i32[<=100*N]
mask_runs, mask_ends = paste_masks(mask_probs, det_boxes, det_rows, geometry) {threshold=0.25} : i32[?], i32[<=100*N]
keypoints = rescale_keypoints(points, det_boxes, det_rows, geometry) : f32[<=100*N,5,3]
square = upsample(p) {mode='bilinear', height=2, width=2} : f32[N,2,2,2]
tokens = tokens(square) : f32[4*N,2]
valid = combine_rows(tokens, column) {rule='multiply'} : f32[4*N,2]
smooth = gelu(valid) : f32[4*N,2]
normed = layer_norm(smooth, squeeze.bias, squeeze.bias, tokens) : f32[4*N,2]
query_key = linear(normed, pairs) : f32[4*N,4]
mixed = attention(query_key, normed) {heads=1, tokens=4} : f32[4*N,2]
prototypes = token_map(mixed) {height=2, width=2} : f32[N,2,2,2]
token_scores = linear(mixed, squeeze.weight) : f32[4*N,2]
picked = select_queries(token_scores) {top=2, tokens=4} : i32[2*N]
queries = gather_rows(mixed, picked) : f32[2*N,2]
offsets = linear(queries, squeeze.weight) : f32[2*N,2]
shares = linear(queries, row) : f32[2*N,1]
steps = linear(queries, pairs) : f32[2*N,4]
starts = activate(steps) {kind='sigmoid'} : f32[2*N,4]
sampled = deformable_attention(mixed, offsets, shares, starts) {heads=1, points=1, queries=2, sizes=[2, 2]} : f32[2*N,2]
ends = refine_boxes(steps, starts) : f32[2*N,4]
planes = mask_logits(sampled, prototypes) : f32[2*N,2,2]
around = mask_boxes(planes) : f32[2*N,4]
query_boxes, query_scores, query_classes, query_rows = detect_queries(token_scores, query_key, geometry) {top=3, queries=4} : f32[<=3*N,5], f32[<=3*N], i32[<=3*N], i32[<=3*N]
centers, center_boxes = center_queries(prototypes, prototypes, prototypes, geometry) {peak=5, stride=8} : f32[4*N,2], f32[4*N,4]
kept = gather_rows(sampled, query_rows) : f32[<=3*N,2]
kept_planes = mask_logits(kept, prototypes, query_boxes) : f32[<=3*N,2,2]
photo_boxes, photo_rows = rescale_boxes(query_boxes, geometry) {clip=false} : f32[<=3*N,5], i32[<=3*N]
whole, whole_ends = resize_masks(kept_planes, photo_boxes, photo_rows, geometry) : i32[?], i32[<=3*N]
rows8 = quantize(normed) {scale=0.5} : i8[4*N,2]
squares8 = quantize(squeeze.weight) {scale=0.03125} : i8[2,2]
larger8 = quantized_conv_transpose(levels8, kernel8, norm.scale) {to='i8', x_scale=0.5, y_scale=0.25} : i8[N,2,16*h,16*w]
linear8 = quantized_linear(rows8, squares8, norm.scale, conv.bias) {activation='relu', to='u8', x_scale=0.5, y_scale=0.25} : u8[4*N,2]
output det_boxes
output mask_runs
output keypoints
output sized
output real8
output linear8
output larger8
output ends
output around
output whole
)";

// Weights that the text gives no values count up.
Graph with_data(Graph graph) {
  Graph out(graph.name());
  std::vector<ValueId> ids(graph.values().size(), kNoValue);
  for (const ValueId id : graph.inputs())
    ids[static_cast<std::size_t>(id)] = out.add_input(graph.value(id).name, graph.value(id).type);
  for (const Weight& w : graph.weights()) {
    const Value& v = graph.value(w.value);
    Shape shape;
    for (const Dim& d : v.type.dims) shape.push_back(d.constant());
    Tensor data = w.load ? w.load() : Tensor::zeros(DType::kF32, shape);
    if (!w.load)
      for (float next = 0; float& x : data.mutable_values<float>()) x = next++;
    ids[static_cast<std::size_t>(w.value)] = out.add_weight(v.name, std::move(data));
  }
  for (const Node& node : graph.nodes()) {
    std::vector<ValueId> inputs;
    for (const ValueId id : node.inputs)
      inputs.push_back(id == kNoValue ? kNoValue : ids[static_cast<std::size_t>(id)]);
    const std::vector<ValueId> made = out.add_node(node.op, std::move(inputs), node.name).outputs;
    for (std::size_t i = 0; i < made.size(); ++i) {
      out.rename(made[i], graph.value(node.outputs[i]).name);
      ids[static_cast<std::size_t>(node.outputs[i])] = made[i];
    }
  }
  for (const ValueId id : graph.outputs()) out.add_output(ids[static_cast<std::size_t>(id)]);
  return out;
}

class Onnx : public ::testing::Test {
 protected:
  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() /
      fmt::format("osprey_{}.onnx", ::testing::UnitTest::GetInstance()->current_test_info()->name());
  Model model_;
  void SetUp() override {
    model_.graph = with_data(parse_graph(kEveryOp));
    model_.family = "test";
    model_.description = "every op";
    model_.categories = {{"cat", 17},
                         {"\xc3\xa9"
                          "cureuil \"roux\"",
                          18}};
    model_.metadata = {{"config", "small.yaml"}, {"set A.B", "3"}};
    model_.weights.used = {"conv.weight"};
    model_.weights.unused = {"optimizer.step"};
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string written() {
    write_model_onnx(path_, model_);
    return read_text(path_);
  }
  static Source source(const std::string& bytes) {
    const auto copy = std::make_shared<std::string>(bytes);
    return {.name = "damaged.onnx", .bytes = as_bytes(*copy), .owner = copy};
  }
  static std::string refusal(const std::string& bytes) {
    try {
      read_model_onnx(source(bytes));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadInput);
      return e.what();
    }
    return "";
  }
};

TEST_F(Onnx, TheTextHoldsEveryOp) {
  std::set<std::string_view> used;
  for (const Node& node : model_.graph.nodes()) used.insert(node.op.name());
  for (const OpInfo* op : op_table())
    EXPECT_TRUE(used.contains(op->name)) << op->name << " is not tested here";
}

TEST_F(Onnx, EveryOpReadsBackAsItWasWritten) {
  EXPECT_EQ(to_text(model_.graph), kEveryOp);
  write_model_onnx(path_, model_);
  const Model back = read_model_onnx(path_);
  EXPECT_EQ(to_text(back.graph), kEveryOp);
  for (std::size_t i = 0; i < model_.graph.weights().size(); ++i) {
    const Tensor a = model_.graph.weights()[i].load(), b = back.graph.weights()[i].load();
    EXPECT_TRUE(std::ranges::equal(a.values<float>(), b.values<float>()));
  }
}

TEST_F(Onnx, WhatTheModelMeansIsKept) {
  write_model_onnx(path_, model_);
  const Model back = read_model_onnx(path_);
  EXPECT_EQ(back.family, "test");
  EXPECT_EQ(back.description, "every op");
  ASSERT_EQ(back.categories.size(), 2u);
  EXPECT_EQ(back.categories[1].name, model_.categories[1].name);
  EXPECT_EQ(back.categories[0].id, 17);
  EXPECT_EQ(back.metadata, model_.metadata);
  EXPECT_EQ(back.weights.used, model_.weights.used);
  EXPECT_EQ(back.weights.unused, model_.weights.unused);
}

TEST_F(Onnx, StandardOpsAreOnnxsOwn) {
  write_model_onnx(path_, model_);
  std::map<std::string, std::pair<std::string, std::string>> ops;
  const OnnxFile file = read_onnx_file(open_source(path_));
  for (const auto& node : file.model.graph().node()) ops[node.name()] = {node.domain(), node.op_type()};
  using Spelt = std::pair<std::string, std::string>;
  EXPECT_EQ(ops["layer.conv"], Spelt("", "Conv"));
  EXPECT_EQ(ops["scores"], Spelt("", "Conv"));
  EXPECT_EQ(ops["u"], Spelt("", "Resize"));
  EXPECT_EQ(ops["classes"], Spelt("", "Gemm"));
  EXPECT_EQ(ops["padded"], Spelt("", "Conv"));
  EXPECT_EQ(ops["largest"], Spelt("", "MaxPool"));
  EXPECT_EQ(ops["mean_same"], Spelt("", "AveragePool"));
  EXPECT_EQ(ops["mean_padded"], Spelt("", "AveragePool"));
  EXPECT_EQ(ops["both"], Spelt("", "Concat"));
  EXPECT_EQ(ops["weighted"], Spelt("osprey", "weighted_sum"));
  EXPECT_EQ(ops["pooled"], Spelt("", "ReduceMean"));
  EXPECT_EQ(ops["fused"], Spelt("osprey", "conv"));
  EXPECT_EQ(ops["swish"], Spelt("osprey", "activate"));
  EXPECT_EQ(ops["anchors"], Spelt("osprey", "select_anchors"));
}

TEST_F(Onnx, TheSameModelGivesTheSameBytes) {
  const std::string first = written();
  model_ = read_model_onnx(source(first));
  EXPECT_EQ(written(), first);
}

TEST_F(Onnx, IsRecognisedByContent) {
  EXPECT_TRUE(is_onnx_model(as_bytes(written())));
  for (const std::string_view other :
       {std::string_view("PK\3\4"), std::string_view("\x80\x02}q"),
        std::string_view("\x08\x27\0\0\0\0\0\0{", 9), std::string_view("OSPREY\0\1", 8)})
    EXPECT_FALSE(is_onnx_model(as_bytes(other)));
}

TEST_F(Onnx, EveryCutIsRefusedByName) {
  const std::string whole = written();
  for (std::size_t cut = 0; cut < whole.size(); cut += 61)
    EXPECT_THAT(refusal(whole.substr(0, cut)), ::testing::HasSubstr("damaged.onnx"));
}

TEST_F(Onnx, MutationsNeverCrash) {
  const std::string whole = written();
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = whole;
    for (int k = 0; k < 3; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
    refusal(bytes);
  }
}

TEST_F(Onnx, OtherToolsFilesAreRefusedWithWhatIsNotUnderstood) {
  OnnxFile foreign;
  foreign.model.set_ir_version(8);
  foreign.model.set_producer_name("pytorch");
  auto& graph = *foreign.model.mutable_graph();
  graph.set_name("main");
  for (const char* op : {"Conv", "NonMaxSuppression", "Shape"}) graph.add_node()->set_op_type(op);
  write_onnx_file(path_, foreign);
  const std::string message = refusal(read_text(path_));
  EXPECT_THAT(message, ::testing::HasSubstr("pytorch"));
  EXPECT_THAT(message, ::testing::HasSubstr("the ops NonMaxSuppression, Shape"));
}

TEST_F(Onnx, WeightsOfAnotherSizeThanTheirShapeAreRefused) {
  std::string bytes = written();
  const auto name = bytes.find(
      "\x42\x09"
      "conv.bias");  // TensorProto's field 8, in front of the raw data
  ASSERT_NE(name, std::string::npos);
  ASSERT_EQ(bytes[name - 3], 2) << "the shape";
  bytes[name - 3] = 3;
  EXPECT_THAT(refusal(bytes), ::testing::HasSubstr("weight 'conv.bias' has 8 bytes for shape [3]"));
}

}  // namespace
}  // namespace osprey

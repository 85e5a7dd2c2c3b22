#include "engine/engine_file.h"

#include <cstdlib>
#include <fstream>
#include <random>
#include <set>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/file.h"
#include "graph/op_table.h"

namespace osprey {
namespace {

constexpr const char* kText = R"(graph small
input x: f32[N,2,32*h,32*w]
weight w: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
weight b: f32[2] = 0.5 -0.5
y = conv(x, w, b) {activation='relu'} @layer : f32[N,2,32*h,32*w]
z = max_pool(y) {pads=[1, 1, 1, 1]} : f32[N,2,16*h,16*w]
output z
)";

class EngineFile : public ::testing::Test {
 protected:
  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / fmt::format("osprey_engine_{}.osprey", ::getpid());
  EngineData data_;
  void SetUp() override {
    data_.model.graph = parse_graph(kText);
    data_.model.family = "test";
    data_.model.categories = {{"cat", 17}, {"dog", 18}};
    data_.model.metadata = {{"config", "small.yaml"}};
    data_.version = "0";
    data_.device = "cpu";
    data_.precision = "fp32";
  }
  void TearDown() override { std::filesystem::remove(path_); }
};

TEST_F(EngineFile, ReadsBackWhatWasWritten) {
  write_engine(path_, data_);
  const EngineData back = read_engine(path_);
  EXPECT_EQ(to_text(back.model.graph), kText);
  ASSERT_EQ(back.model.categories.size(), 2u);
  EXPECT_EQ(back.model.categories[1].name, "dog");
  EXPECT_EQ(back.model.metadata.at("config"), "small.yaml");
  EXPECT_EQ(back.device, "cpu");
}

TEST_F(EngineFile, TheSameModelGivesTheSameBytes) {
  write_engine(path_, data_);
  const std::string first = read_text(path_);
  write_engine(path_, read_engine(path_));
  EXPECT_EQ(read_text(path_), first);
}

TEST_F(EngineFile, EveryDamagedByteAndEveryCutIsRefused) {
  write_engine(path_, data_);
  const std::string whole = read_text(path_);
  int refused = 0;
  const auto expect_refused = [&](const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    try {
      read_engine(path_);
      ADD_FAILURE() << "a damaged engine was read";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadInput);
      EXPECT_NE(std::string(e.what()).find(path_.string()), std::string::npos);
      ++refused;
    }
  };
  for (std::size_t i = 0; i < 100; i += 3) {
    std::string bytes = whole;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x41);
    expect_refused(bytes);
  }
  for (std::size_t cut = 0; cut < whole.size(); cut += 97) expect_refused(whole.substr(0, cut));
  EXPECT_GT(refused, 40);
}

// Behind the hashes: whatever the bytes say, reading throws our error or gives a graph that verifies.
TEST_F(EngineFile, MutationsBehindTheHashesNeverCrash) {
  write_engine(path_, data_);
  const std::string whole = read_text(path_);
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    std::string bytes = whole;
    for (int k = 0; k < 3; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
    std::ofstream(path_, std::ios::binary) << bytes;
    try {
      verify(read_engine(path_, HashCheck::kNone).model.graph);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    }
  }
}

TEST_F(EngineFile, EmptyWeightsAreRefused) {
  write_engine(path_, data_);
  std::string bytes = read_text(path_);
  const std::string type = "f32[2]";
  bytes.replace(bytes.find(type), type.size(), "f32[0]");
  std::ofstream(path_, std::ios::binary) << bytes;
  try {
    read_engine(path_, HashCheck::kNone);
    ADD_FAILURE() << "an empty weight was read";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("weight b is empty: f32[0]"), std::string::npos) << e.what();
  }
}

// A detector in miniature that uses every op: the richest seed of fuzz/engine.cpp.
constexpr const char* kEveryOp = R"(graph every_op
input photos: u8[N,H,W,3]
input sizes: i32[N,2]
weight stem: f32[2,3,1,1] = 1.0 0.5 0.25 -1.0 0.5 2.0
weight pair: f32[2] = 1.0 0.5
weight square: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
weight share: f32[] = 0.5
weight score: f32[1,2,1,1] = 1.0 -1.0
weight delta: f32[4,2,1,1] = 0.5 0.5 0.25 0.25 -0.5 -0.5 1.0 1.0
weight classes: f32[2,2] = 1.0 0.0 0.0 1.0
weight column: f32[4,1] = 1.0 0.0 1.0 1.0
weight pairs: f32[4,2] = 1.0 0.0 0.0 1.0 0.5 0.5 -0.5 0.5
weight sum: f32[1,2] = 1.0 1.0
weight boxes: f32[4,8] = )"
                                 "0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 "
                                 "0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5 0.5"
                                 R"(
resized, geometry = resize_image(photos, sizes) {shortest=64, longest=96, bgr=true}
image = normalize_image(resized, geometry) {mean=[1.0, 2.0, 3.0], multiple=32}
c1 = conv(image, stem, pair) {stride=[2, 2]} @stem
n1 = batch_norm(c1, pair, pair, pair, pair)
r1 = activate(n1)
p1 = max_pool(r1) {kernel=[2, 2]}
u1 = upsample(p1)
s1 = add(u1, r1)
f1 = conv(s1, square, pair, p1) {activation='relu', residual_scale=2}
h1 = cast(f1) {to='bf16'}
f2 = cast(h1)
rpn_score = conv(f2, score)
rpn_delta = conv(f2, delta)
b1, v1, g1 = select_anchors(rpn_score, rpn_delta, geometry) {strides=[2], anchors=1, cells=[-8.0, -8.0, 8.0, 8.0], stage=1}
a1 = average_pool(r1) {padding='same'}
w1 = weighted_sum(a1, p1, share, share)
v3 = group_norm(w1, pair, pair) {groups=2}
k1 = global_average_pool(v3)
k2 = scale_channels(w1, k1)
q1 = squeeze_excite(k2, classes, pair, classes, pair)
j1 = concat(q1, w1)
z1 = scale(j1) {factor=0.5}
d1, d2, d3, d4 = detect_anchors(rpn_score, rpn_delta, geometry) {strides=[2.0], offsets=[0.0], anchors=1, cells=[-8.0, -8.0, 8.0, 8.0]}
rois, roi_scores, roi_groups = nms(b1, v1, g1, geometry) {iou=0.7, max_detections=5, stage=1}
crops = roi_align(f2, p1, rois) {out=2, samples=1, scales=[0.5, 0.25]}
pooled = global_average_pool(crops)
flat = flatten(crops)
logits = linear(pooled, classes, pair)
chances = softmax(logits)
means = mean(chances, chances)
deltas = linear(flat, boxes)
refined = decode_boxes(rois, deltas, geometry)
b2, v2, g2 = select_boxes(refined, means, deltas, geometry)
found, scores, labels = nms(b2, v2, g2, geometry) {max_detections=3}
parts = roi_align(f2, found) {out=2, scales=[0.5]}
maps = conv_transpose(parts, square)
masks = select_class(maps, labels)
final, rows = rescale_boxes(found, geometry)
pasted, areas = paste_masks(masks, final, rows, geometry)
points = decode_keypoints(maps, found)
placed = rescale_keypoints(points, final, rows, geometry)
square2 = upsample(f2) {mode='bilinear', height=2, width=2}
t1 = tokens(square2)
t2 = combine_rows(t1, column) {rule='multiply'}
t3 = gelu(t2)
t4 = layer_norm(t3, pair, pair, t1)
t5 = linear(t4, pairs)
t6 = attention(t5, t4) {heads=1, tokens=4}
prototypes = token_map(t6) {height=2, width=2}
t7 = linear(t6, classes)
picked = select_queries(t7) {top=2, tokens=4}
queries = gather_rows(t6, picked)
offsets = linear(queries, classes)
shares = linear(queries, sum)
moves = linear(queries, pairs)
starts = activate(moves) {kind='sigmoid'}
sampled = deformable_attention(t6, offsets, shares, starts) {heads=1, points=1, queries=2, sizes=[2, 2]}
ends = refine_boxes(moves, starts)
planes = mask_logits(sampled, prototypes)
around = mask_boxes(planes)
answers = linear(sampled, classes)
e1, e2, e3, e4 = detect_queries(answers, ends, geometry) {top=3, queries=2}
e7, e8 = center_queries(prototypes, prototypes, prototypes, geometry) {peak=5}
kept = gather_rows(sampled, e4)
kept_planes = mask_logits(kept, prototypes, e1)
e5, e6 = rescale_boxes(e1, geometry) {clip=false}
whole, whole_ends = resize_masks(kept_planes, e5, e6, geometry)
i1 = quantize(square2) {scale=0.5}
i2 = quantize(square) {scale=0.03125}
i3 = quantized_conv(i1, i2, pair, pair, i1) {activation='relu', to='u8', x_scale=0.5, y_scale=0.25, residual_scale=0.5}
i4 = dequantize(i3) {scale=0.25}
i5 = quantize(t4) {scale=0.5}
i6 = quantize(classes) {scale=0.03125}
i8 = quantized_conv_transpose(i1, i2, pair) {x_scale=0.5}
i7 = quantized_linear(i5, i6, pair, pair) {activation='relu', to='u8', x_scale=0.5, y_scale=0.25}
output i4
output i7
output i8
output final
output around
output whole
output whole_ends
output e7
output e8
output scores
output labels
output pasted
output areas
output placed
)";

EngineData seed(std::string_view text) {
  EngineData out;
  out.model.graph = parse_graph(text);
  out.model.family = "test";
  out.model.description = "a seed";
  out.model.categories = {{"cat", 17}, {"dog", 18}};
  out.model.metadata = {{"config", "small.yaml"}};
  out.version = "0";
  out.device = "cpu";
  out.precision = "fp32";
  return out;
}

TEST(EngineSeeds, OneUsesEveryOp) {
  std::set<std::string_view> used, known;
  const Graph graph = parse_graph(kEveryOp);
  for (const Node& node : graph.nodes()) used.insert(node.op.name());
  for (const OpInfo* op : op_table()) known.insert(op->name);
  EXPECT_EQ(used, known) << "add the new op to kEveryOp, and write the seeds again";
}

// The seeds in fuzz/corpus/engine still say what they did when they were written: a change of the format
// shows here. Where it is meant, OSPREY_WRITE_SEEDS=1 writes them again.
TEST(EngineSeeds, StillRead) {
  const std::filesystem::path folder = std::filesystem::path(OSPREY_SOURCE_DIR) / "fuzz/corpus/engine";
  for (const auto& [name, text] : {std::pair{"small.osprey", kText}, {"every_op.osprey", kEveryOp}}) {
    const EngineData wanted = seed(text);
    if (std::getenv("OSPREY_WRITE_SEEDS")) write_engine(folder / name, wanted);
    const EngineData read = read_engine(folder / name);
    EXPECT_EQ(to_text(read.model.graph), to_text(wanted.model.graph));
    EXPECT_EQ(read.model.metadata, wanted.model.metadata);
  }
}

}  // namespace
}  // namespace osprey

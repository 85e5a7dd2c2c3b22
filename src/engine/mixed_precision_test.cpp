#include "engine/mixed_precision.h"

#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace osprey {
namespace {

TEST(Blocks, AreNamedByTheirLayers) {
  EXPECT_EQ(block_name("backbone.bottom_up.res2.0.conv1"), "backbone.bottom_up.res2.0");
  EXPECT_EQ(block_name("model/backbone/block_11_expand"), "model/backbone/block_11");
  EXPECT_EQ(block_name("model/backbone/block_11_expand/pointwise"), "model/backbone/block_11_expand");
  EXPECT_EQ(block_name("model/backbone/Conv_1"), "model/backbone");
  EXPECT_EQ(block_name("model/backbone/expanded_conv_project"), "model/backbone");
  EXPECT_EQ(block_name("stem"), "stem");
  EXPECT_EQ(block_name("conv_2_"), "conv_2");
  EXPECT_EQ(block_name(""), "");
}

TEST(Blocks, HoldWhatTheirLayersMake) {
  const Graph graph = parse_graph(R"(graph g
input x: f32[N,2,h,w]
weight w: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
a = conv(x, w) @net.block.first
b = conv(a, w) @net.block.second
c = conv(b, w) @net.head.logits
d = conv(c, w) @net.block.first
output d
)");
  const Quantization plan{.limits = {{"x", 1.f}, {"a", 1.f}, {"b", 1.f}, {"c", 1.f}}, .kept = {}};
  const auto blocks = blocks_of(graph, plan);
  ASSERT_EQ(blocks.size(), 2u);
  EXPECT_EQ(blocks[0].name, "net.block");
  EXPECT_EQ(blocks[0].values, (std::vector<std::string>{"a", "b", "d"}));
  EXPECT_EQ(blocks[1].name, "net.head");
  const Quantization less = without(plan, graph, {{"net.head", 0.5}});
  EXPECT_EQ(less.kept, (std::set<std::string>{"c"}));
  const Graph graph8 = quantized(graph, less);
  EXPECT_EQ(graph8.producer(graph8.find("c"))->op.name(), "conv");
  EXPECT_EQ(graph8.producer(graph8.find("d"))->op.name(), "quantized_conv");
}

Detections found(std::vector<Detection> items) { return {100, 100, std::move(items)}; }

Detection at(int kind, float score, float x) {
  Detection out;
  out.class_index = kind;
  out.score = score;
  out.box = {x, 0, x + 10, 10};
  return out;
}

double change(const Detections& before, const Detections& after, bool logits = false) {
  return detection_change({&before, 1}, {&after, 1}, logits);
}

TEST(DetectionChange, GoesFromNoneToAll) {
  const Detections some = found({at(0, 0.9f, 0), at(1, 0.5f, 40)});
  EXPECT_NEAR(change(some, some), 0, 1e-12);
  EXPECT_EQ(change(some, found({})), 1);
  EXPECT_EQ(change(found({}), some), 1);
  EXPECT_EQ(change(found({}), found({})), 0);
}

TEST(DetectionChange, CountsScoresClassesAndPlaces) {
  const Detections one = found({at(0, 0.8f, 0)});
  EXPECT_NEAR(change(one, found({at(0, 0.4f, 0)})), 1 - 2 * 0.4 / 1.2, 1e-6);
  EXPECT_EQ(change(one, found({at(1, 0.8f, 0)})), 1);
  EXPECT_NEAR(change(one, found({at(0, 0.8f, 1)})), 1 - 9.0 / 11, 1e-6);
  EXPECT_EQ(change(one, found({at(0, 0.8f, 9)})), 1);
  // What is hardly seen counts for little; a second box on one detection is too many.
  EXPECT_NEAR(change(one, found({at(0, 0.8f, 0), at(0, 0.01f, 50)})), 1 - 1.6 / 1.61, 1e-6);
  EXPECT_NEAR(change(one, found({at(0, 0.8f, 0), at(0, 0.8f, 0)})), 1 - 1.6 / 2.4, 1e-6);
}

TEST(DetectionChange, OfLogitsIsThatOfProbabilities) {
  EXPECT_NEAR(change(found({at(0, -2, 0)}), found({at(0, -2, 0)}), true), 0, 1e-12);
  EXPECT_NEAR(change(found({at(0, 0, 0)}), found({at(0, -30, 0)}), true), 1, 1e-6);
}

TEST(PhotoSplit, KeepsPhotosThatCalibrationDoesNotSee) {
  const auto photos = [](std::size_t count) {
    std::vector<std::filesystem::path> out;
    for (std::size_t i = 0; i < count; ++i) out.push_back(std::to_string(i));
    return out;
  };
  const PhotoSplit few = split_photos(photos(7));
  EXPECT_EQ(few.calibration.size(), 7u);
  EXPECT_EQ(few.check.size(), 7u);
  for (const std::size_t count : {8u, 9u, 128u, 1000u}) {
    const PhotoSplit split = split_photos(photos(count));
    EXPECT_EQ(split.calibration.size() + split.check.size(), count);
    EXPECT_GE(split.check.size(), 1u);
    EXPECT_LE(split.check.size(), 16u);
    for (const auto& photo : split.check)
      EXPECT_EQ(std::count(split.calibration.begin(), split.calibration.end(), photo), 0);
  }
  EXPECT_EQ(split_photos(photos(128)).check.size(), 16u);
}

// Of the mean of 1, 2, 3 and 6 it is their standard deviation over the root of their number.
TEST(StandardError, IsThatOfAMean) {
  const std::vector<double> without{11 / 3.0, 10 / 3.0, 9 / 3.0, 6 / 3.0};
  EXPECT_NEAR(standard_error(without), std::sqrt(14 / 3.0 / 4), 1e-12);
  EXPECT_EQ(standard_error(std::vector<double>(16, 0.25)), 0);
  EXPECT_EQ(standard_error({}), 0);  // too few photos to tell
}

TEST(AccuracyBound, SaysWhatItAsks) {
  EXPECT_EQ((AccuracyBound{}).text(), "");
  EXPECT_EQ((AccuracyBound{.change = 0.05, .ap_drop = 0.002}).text(),
            "detection change <= 0.05, AP drop <= 0.002");
  EXPECT_EQ((AccuracyBound{.ap_drop = 0.002, .margin = 2}).text(), "AP drop + 2 standard errors <= 0.002");
}

TEST(ApDrop, IsAtMostAMarginMoreThanMeasured) {
  const ApDrop drop{0.001, 0.003};
  EXPECT_EQ(drop.at_most(0), 0.001);
  EXPECT_NEAR(drop.at_most(2), 0.007, 1e-12);
}

// Numbers of blocks that are asked about, in their order, where those in `hold` hold.
struct Asked {
  std::set<std::size_t> hold;
  std::size_t on_time = 1000;  // questions
  std::vector<std::size_t> blocks;

  Holds holds() {
    return [this](std::size_t n) {
      blocks.push_back(n);
      return hold.contains(n);
    };
  }
  Late late() {
    return [this] { return blocks.size() >= on_time; };
  }
};

using Blocks = std::vector<std::size_t>;

TEST(FirstThatHolds, GoesFromAllBlocksToNone) {
  Asked some{.hold = {1, 2, 3}};
  EXPECT_EQ(first_that_holds(5, some.holds(), some.late()), 3u);
  EXPECT_EQ(some.blocks, (Blocks{5, 4, 3}));
  Asked none{};
  EXPECT_EQ(first_that_holds(3, none.holds(), none.late()), 0u);
  EXPECT_EQ(none.blocks, (Blocks{3, 2, 1}));
  EXPECT_EQ(first_that_holds(0, none.holds(), none.late()), 0u);
}

TEST(FirstThatHolds, TakesLongerStepsOnceItIsLate) {
  Asked none{.hold = {}, .on_time = 2};
  EXPECT_EQ(first_that_holds(20, none.holds(), none.late()), 0u);
  EXPECT_EQ(none.blocks, (Blocks{20, 19, 17, 13, 5}));
}

TEST(MostShown, AsksOnceWhereAllBlocksHold) {
  Asked all{.hold = {37}};
  EXPECT_EQ(most_shown(37, all.holds(), all.late()), 37u);
  EXPECT_EQ(all.blocks, Blocks{37});
}

TEST(MostShown, IsOverWhereTheGentlestDoesNotHold) {
  Asked lucky{.hold = {23, 27, 32}};
  EXPECT_EQ(most_shown(37, lucky.holds(), lucky.late()), 0u);
  EXPECT_EQ(lucky.blocks, (Blocks{37, 18}));
}

TEST(MostShown, GoesOnWhileChoicesHoldAndTakesNoLuckyOneBehind) {
  Asked some{.hold = {18, 23, 32}};
  EXPECT_EQ(most_shown(37, some.holds(), some.late()), 23u);
  EXPECT_EQ(some.blocks, (Blocks{37, 18, 23, 27}));
  Asked late{.hold = {18, 23, 27, 32}, .on_time = 3};
  EXPECT_EQ(most_shown(37, late.holds(), late.late()), 23u);
}

TEST(MostShown, OfFewBlocksTakesEachNumberOnce) {
  Asked three{.hold = {1, 2}};
  EXPECT_EQ(most_shown(3, three.holds(), three.late()), 2u);
  EXPECT_EQ(three.blocks, (Blocks{3, 1, 2}));
  Asked one{};
  EXPECT_EQ(most_shown(1, one.holds(), one.late()), 0u);
  EXPECT_EQ(one.blocks, Blocks{1});
  EXPECT_EQ(most_shown(0, one.holds(), one.late()), 0u);
}

}  // namespace
}  // namespace osprey

// FBNets over checkpoints of zeros: what their architectures and keys make of the graph.
#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/testing.h"
#include "ops/add.h"
#include "ops/conv.h"
#include "ops/scale_channels.h"
#include "ops/upsample.h"

namespace osprey {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Overrides = std::vector<std::pair<std::string, std::string>>;

Model fbnet(const Overrides& overrides = {}, const std::string& config = "e2e_faster_rcnn_fbnet") {
  const auto all = families();
  const auto family =
      std::find_if(all.begin(), all.end(), [](const Family& f) { return f.name == "maskrcnn_benchmark"; });
  return build_with_zeros(*family, {.config = config, .overrides = overrides});
}

std::string refusal(const Overrides& overrides) {
  return error_of([&] { fbnet(overrides); });
}

// "8 -> 16, 3x3 / 2 in 8 groups" of the convolution with that name.
std::string conv_of(const Model& model, const std::string& name) {
  for (const Node& node : model.graph.nodes()) {
    const auto* op = node.op.as<Conv>();
    if (op == nullptr || node.name != name) continue;
    const auto& dims = model.graph.value(node.inputs[1]).type.dims;
    return fmt::format("{} -> {}, {}x{} / {} in {} groups{}", dims[1].constant() * op->groups,
                       dims[0].constant(), dims[2].constant(), dims[3].constant(), op->stride[0], op->groups,
                       node.inputs.size() > 2 ? ", bias" : "");
  }
  return "none";
}

template <class Op>
std::vector<std::string> names_of(const Model& model) {
  std::vector<std::string> out;
  for (const Node& node : model.graph.nodes())
    if (node.op.as<Op>()) out.push_back(node.name);
  return out;
}

const std::string kBody = "backbone.body.stages.", kBox = "roi_heads.box.feature_extractor.head.";

TEST(Fbnet, IsWhatItsArchitectureSays) {
  const Model model = fbnet({}, "e2e_mask_rcnn_fbnet_xirb16d_dsmask");
  EXPECT_EQ(conv_of(model, "backbone.body.first.conv"), "3 -> 16, 3x3 / 2 in 1 groups");
  EXPECT_EQ(conv_of(model, kBody + "xif2_0.pw.conv"), "32 -> 192, 1x1 / 1 in 1 groups");
  EXPECT_EQ(conv_of(model, kBody + "xif2_0.dw.conv"), "192 -> 192, 3x3 / 2 in 192 groups");
  EXPECT_EQ(conv_of(model, kBody + "xif2_0.pwl.conv"), "192 -> 48, 1x1 / 1 in 1 groups");
  EXPECT_EQ(conv_of(model, kBody + "xif2_1.dw.conv"), "288 -> 288, 3x3 / 1 in 288 groups");
  EXPECT_EQ(conv_of(model, "rpn.head.0.head.xif6_2.pwl.conv"), "768 -> 128, 1x1 / 1 in 1 groups");
  EXPECT_EQ(conv_of(model, "rpn.head.1.cls_logits"), "128 -> 15, 1x1 / 1 in 1 groups, bias");
  EXPECT_EQ(conv_of(model, kBox + "last.conv"), "160 -> 160, 1x1 / 1 in 1 groups");
  EXPECT_THAT(names_of<Upsample>(model),
              testing::ElementsAre("roi_heads.mask.feature_extractor.head.blocks.xif5_3.upscale",
                                   "roi_heads.mask.feature_extractor.head.blocks.xif5_4.upscale"));
  EXPECT_THAT(names_of<Add>(model), testing::Contains(kBody + "xif0_0.add")) << "16 channels in and out";
  EXPECT_EQ(model.description, "GeneralizedRCNN, FBNet xirb16d_dsmask, masks");
}

TEST(Fbnet, KeysChangeWidthsAndHeads) {
  const Model model = fbnet({{"MODEL.FBNET.SCALE_FACTOR", "0.7"},
                             {"MODEL.FBNET.RPN_HEAD_BLOCKS", "1"},
                             {"MODEL.FBNET.DET_HEAD_BLOCKS", "[0, 3]"},
                             {"MODEL.FBNET.DET_HEAD_STRIDE", "1"},
                             {"MODEL.FBNET.DET_HEAD_LAST_SCALE", "-1.5"}});
  EXPECT_EQ(conv_of(model, "backbone.body.first.conv"), "3 -> 24, 3x3 / 2 in 1 groups") << "of 22";
  EXPECT_EQ(conv_of(model, kBody + "xif1_0.pwl.conv"), "48 -> 16, 1x1 / 1 in 1 groups") << "of 16.8, cut";
  EXPECT_EQ(conv_of(model, "rpn.head.0.head.xif5_1.pw.conv"), "none");
  EXPECT_NE(conv_of(model, "rpn.head.0.head.xif5_2.pw.conv"), "none");
  EXPECT_EQ(conv_of(model, kBox + "blocks.xif4_1.pw.conv"), "none");
  EXPECT_EQ(conv_of(model, kBox + "blocks.xif4_0.dw.conv"), "256 -> 256, 3x3 / 1 in 256 groups");
  EXPECT_EQ(conv_of(model, kBox + "last.conv"), "168 -> 256, 1x1 / 1 in 1 groups") << "of 252";
}

// Below half of the divisor the framework does not go to the divisor, but to its square.
TEST(Fbnet, TinyWidthsBecomeTheDivisorsSquare) {
  const Model model = fbnet({{"MODEL.FBNET.SCALE_FACTOR", "0.1"}, {"MODEL.FBNET.WIDTH_DIVISOR", "8"}});
  EXPECT_EQ(conv_of(model, "backbone.body.first.conv"), "3 -> 64, 3x3 / 2 in 1 groups") << "of 3";
}

// A convolution has a norm, or nothing: never a bias.
TEST(Fbnet, DepthwiseConvolutionsMayHaveNormAndRelu) {
  const std::string conv = kBody + "xif1_0.dw.conv", norm = kBody + "xif1_0.dw.bn", relu = conv + ".relu";
  const auto layers = [&](const Overrides& overrides) {
    const Model model = fbnet(overrides);
    std::vector<std::string> out;
    for (const Node& node : model.graph.nodes())
      if (node.name == conv || node.name == norm || node.name == relu) out.push_back(node.name);
    return out;
  };
  using testing::ElementsAre;
  EXPECT_THAT(layers({}), ElementsAre(conv));
  EXPECT_THAT(layers({{"MODEL.FBNET.DW_CONV_SKIP_BN", "False"}}), ElementsAre(conv, norm));
  EXPECT_THAT(layers({{"MODEL.FBNET.DW_CONV_SKIP_RELU", "False"}}), ElementsAre(conv, relu));
}

const std::string kOwn =
    R"({"block_op_type": [["ir_k3"], ["ir_k5_e3_se", "ir_k1"], ["ir_k33_e6"], ["ir_k7"]], )"
    R"("block_cfg": {"first": [8, 4, 5], "stages": [[[1, 8, 1, 4]], [[6, 8, 2, 1]], [[9, 16, 1, 2]], )"
    R"([[2, 8, 1, 1]]], "last": [12, 1.0], "backbone": [0, 1], "rpn": [3], "bbox": [2], "rpn_stride": 16}})";

Overrides own(const std::string& definition, const std::string& name = "own") {
  return {{"MODEL.FBNET.ARCH", name},
          {"MODEL.FBNET.ARCH_DEF", "'" + definition + "'"},
          {"MODEL.FBNET.WIDTH_DIVISOR", "1"}};
}

std::string own_with(const std::string& what, const std::string& other) {
  std::string text = kOwn;
  return text.replace(text.find(what), what.size(), other);
}

TEST(Fbnet, ArchitecturesOfOnesOwn) {
  const Model model = fbnet(own(kOwn));
  EXPECT_EQ(conv_of(model, "backbone.body.first.conv"), "3 -> 8, 5x5 / 4 in 1 groups");
  EXPECT_EQ(conv_of(model, kBody + "xif1_0.dw.conv"), "24 -> 24, 5x5 / 1 in 24 groups");
  EXPECT_THAT(names_of<ScaleChannels>(model), testing::ElementsAre(kBody + "xif1_0.se4.op.scale"));
  EXPECT_EQ(conv_of(model, kBody + "xif1_1.pw.conv"), "8 -> 48, 1x1 / 1 in 1 groups");
  EXPECT_EQ(conv_of(model, kBody + "xif1_1.dw.conv"), "none") << "of a 1x1 kernel";
  EXPECT_EQ(conv_of(model, "rpn.head.0.head.xif3_0.dw.conv"), "16 -> 16, 7x7 / 1 in 16 groups");
  EXPECT_EQ(conv_of(model, kBox + "blocks.xif2_0.dw.dw1.conv"), "48 -> 48, 3x3 / 2 in 48 groups");
  EXPECT_EQ(conv_of(model, kBox + "blocks.xif2_0.dw.dw2.conv"), "48 -> 48, 3x3 / 1 in 48 groups");
  EXPECT_EQ(conv_of(model, kBox + "last.conv"), "16 -> 12, 1x1 / 1 in 1 groups");
}

TEST(Fbnet, WhatIsNotSupportedIsRefusedByName) {
  const std::string definition = "MODEL.FBNET.ARCH_DEF";
  for (const auto& [what, other] : Overrides{{"ir_k33_e6", "ir_k3_s4"},
                                             {"ir_k33_e6", "basic_block"},
                                             {"\"ir_k33_e6\"", "\"ir_k3\", \"ir_k3\""},
                                             {"\"ir_k33_e6\"", ""},
                                             {"[9, 16, 1, 2]", "[9, 16, 1, 3]"},
                                             {"[9, 16, 1, 2]", "[0, 16, 1, 2]"},
                                             {"[9, 16, 1, 2]", "[9, 16, 1000000, 2]"},
                                             {"[9, 16, 1, 2]", "[9, 16, 1]"},
                                             {"[9, 16, 1, 2]", "7"},
                                             {"[8, 4, 5]", "[8, 4, 6]"},
                                             {"[8, 4, 5]", "[8]"},
                                             {"\"last\"", "\"least\""},
                                             {"\"block_cfg\"", "\"blocks\""},
                                             {"}}", "}"}})
    EXPECT_THAT(refusal(own(own_with(what, other))), HasSubstr(definition)) << what << " -> " << other;
  EXPECT_THAT(refusal(own(own_with("16}}", "32}}"))), HasSubstr("MODEL.RPN.ANCHOR_STRIDE"));
  EXPECT_THAT(refusal(own(kOwn, "default")), AllOf(HasSubstr(definition), HasSubstr("another architecture")));
  EXPECT_THAT(refusal({{"MODEL.FBNET.ARCH", "best"}}), HasSubstr("mobilenet_v2"));
  EXPECT_THAT(refusal({{"MODEL.FBNET.BN_TYPE", "gn"}}), HasSubstr("MODEL.FBNET.BN_TYPE"));
  EXPECT_THAT(refusal({{"MODEL.FBNET.RPN_BN_TYPE", "gn"}}), HasSubstr("MODEL.FBNET.RPN_BN_TYPE"));
  EXPECT_THAT(refusal({{"MODEL.FBNET.RPN_HEAD_BLOCKS", "4"}}), HasSubstr("the head has 3 blocks"));
  EXPECT_THAT(refusal({{"MODEL.FBNET.DET_HEAD_BLOCKS", "[9]"}}), HasSubstr("a head without blocks"));
  EXPECT_THAT(refusal({{"MODEL.FBNET.WIDTH_DIVISOR", "65536"}}), HasSubstr("MODEL.FBNET.WIDTH_DIVISOR"));
  EXPECT_THAT(refusal({{"MODEL.FBNET.SCALE_FACTOR", "1e9"}}), HasSubstr("MODEL.FBNET.SCALE_FACTOR"));
  EXPECT_THAT(refusal({{"MODEL.FBNET.SCALE_FACTOR", "0.01"}, {"MODEL.FBNET.WIDTH_DIVISOR", "1"}}),
              HasSubstr("MODEL.FBNET: 0 channels"));
  EXPECT_THAT(refusal(own(own_with("[1, 8, 1, 4]", "[0.01, 8, 1, 4]"))),
              HasSubstr("MODEL.FBNET: 0 channels"));
  EXPECT_THAT(refusal({{"MODEL.FBNET.ARCH", "mobilenet_v2"}}), HasSubstr("an RPN head that changes"));
}

// Where a name is an official one, a definition must say the same.
TEST(Fbnet, AnOfficialArchitectureMayBeDefinedAgain) {
  const std::string mobilenet =
      R"({"block_op_type": [["ir_k3"], ["ir_k3", "ir_k3"], ["ir_k3", "ir_k3", "ir_k3"], )"
      R"(["ir_k3", "ir_k3", "ir_k3", "ir_k3", "ir_k3", "ir_k3", "ir_k3"], ["ir_k3", "ir_k3", "ir_k3", "ir_k3"]], )"
      R"("block_cfg": {"first": [32, 2], "stages": [[[1, 16, 1, 1]], [[6, 24, 2, 2]], [[6, 32, 3, 2]], )"
      R"([[6, 64, 4, 2], [6, 96, 3, 1]], [[6, 160, 3, 1], [6, 320, 1, 1]]], "last": [0, 0.0], )"
      R"("backbone": [0, 1, 2, 3], "bbox": [4]}})";
  Overrides overrides = own(mobilenet, "mobilenet_v2");
  overrides.emplace_back("MODEL.RPN.RPN_HEAD", "SingleConvRPNHead");
  EXPECT_EQ(fbnet(overrides).description, "GeneralizedRCNN, FBNet mobilenet_v2");
}

}  // namespace
}  // namespace osprey

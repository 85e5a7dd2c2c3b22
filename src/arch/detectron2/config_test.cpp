#include "arch/detectron2/config.h"

#include <cstdlib>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/detectron2/comprehension.h"
#include "arch/detectron2/defaults.h"
#include "arch/testing.h"
#include "core/file.h"
#include "formats/yaml.h"

namespace osprey::detectron2 {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Config from_yaml(const std::string& text) { return {keys(), parse_yaml(text, "my.yaml")}; }

class ConfigFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (fs::temp_directory_path() / "osprey_config_XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    fs::create_directory(folder_ / "COCO-Detection");
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& text) {
    write_file(folder_ / name, text);
    return (folder_ / name).string();
  }
  fs::path folder_;
};

TEST(Config, StartsFromTheDefaults) {
  const Config config = from_yaml("VERSION: 2");
  EXPECT_EQ(config.integer("MODEL.RPN.PRE_NMS_TOPK_TEST"), 6000);
  EXPECT_EQ(config.text("MODEL.ROI_HEADS.NAME"), "Res5ROIHeads");
  EXPECT_EQ(config.text("MODEL.FPN.NORM"), "");
  EXPECT_FLOAT_EQ(config.number("MODEL.RPN.NMS_THRESH"), 0.7f);
}

TEST(Config, UnknownKeysAreRefusedWithTheNearest) {
  EXPECT_THAT(error_of([] { from_yaml("VERSION: 2\nMODEL:\n  ROI_HEADS:\n    NUM_CLASES: 3"); }),
              AllOf(HasSubstr("my.yaml:4"), HasSubstr("MODEL.ROI_HEADS.NUM_CLASES"),
                    HasSubstr("did you mean MODEL.ROI_HEADS.NUM_CLASSES?")));
  EXPECT_THAT(error_of([] {
                load("mask_rcnn_R_50_FPN_3x", {{"MODEL.RPN.NMS_TRESH", "0.6"}});
              }),
              HasSubstr("did you mean MODEL.RPN.NMS_THRESH?"));
}

TEST(Config, ValuesOfTheWrongKindAreRefusedByName) {
  EXPECT_THAT(error_of([] {
                from_yaml("MODEL: {RPN: {PRE_NMS_TOPK_TEST: many}}").integer("MODEL.RPN.PRE_NMS_TOPK_TEST");
              }),
              AllOf(HasSubstr("MODEL.RPN.PRE_NMS_TOPK_TEST"), HasSubstr("integer"), HasSubstr("many")));
  EXPECT_THAT(error_of([] { from_yaml("MODEL: {PIXEL_MEAN: [1, 2]}").numbers("MODEL.PIXEL_MEAN", 3); }),
              HasSubstr("3 numbers"));
  EXPECT_THAT(error_of([] { from_yaml("MODEL: {RPN: {NMS_THRESH: {A: 1}}}"); }),
              HasSubstr("MODEL.RPN.NMS_THRESH.A"));
}

TEST(Config, WhatMustKeepItsDefaultSaysWhy) {
  EXPECT_THAT(error_of([] { from_yaml("MODEL: {ANCHOR_GENERATOR: {NAME: RotatedAnchorGenerator}}"); }),
              AllOf(HasSubstr("MODEL.ANCHOR_GENERATOR.NAME: RotatedAnchorGenerator is not supported"),
                    HasSubstr("other anchors")));
  EXPECT_THAT(error_of([] { from_yaml("TEST: {AUG: {ENABLED: True}}"); }),
              HasSubstr("test-time augmentation"));
  EXPECT_THAT(error_of([] { from_yaml("MODEL: {ROI_BOX_HEAD: {USE_SIGMOID_CE: true}}"); }),
              HasSubstr("sigmoid"));
  EXPECT_THAT(error_of([] { from_yaml("VERSION: 1"); }), HasSubstr("VERSION"));
  // The default, however it is spelled.
  from_yaml(
      "TEST: {AUG: {ENABLED: no}}\nMODEL: {RESNETS: {DEFORM_ON_PER_STAGE: '(False, False, False, False)'}}");
}

TEST_F(ConfigFiles, OfficialBasesNeedNotBeOnDisk) {
  const std::string file =
      write("COCO-Detection/mine.yaml",
            "_BASE_: \"../Base-RCNN-FPN.yaml\"\nMODEL:\n  MASK_ON: True\n  ROI_HEADS: {NUM_CLASSES: 3}\n");
  const Config config = load(file, {{"MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.5"}});
  EXPECT_THAT(config.texts("MODEL.RPN.IN_FEATURES"), ElementsAre("p2", "p3", "p4", "p5", "p6"));
  EXPECT_EQ(config.integer("MODEL.ROI_HEADS.NUM_CLASSES"), 3);
  EXPECT_FLOAT_EQ(config.number("MODEL.ROI_HEADS.SCORE_THRESH_TEST"), 0.5f);
  EXPECT_EQ(config.text("MODEL.FPN.NORM"), "");
}

TEST_F(ConfigFiles, ABaseOnDiskWins) {
  write("Base-RCNN-FPN.yaml", "MODEL: {FPN: {OUT_CHANNELS: 64}}");
  const Config config = load(write("COCO-Detection/mine.yaml", "_BASE_: ../Base-RCNN-FPN.yaml"), {});
  EXPECT_EQ(config.integer("MODEL.FPN.OUT_CHANNELS"), 64);
  EXPECT_EQ(config.text("MODEL.BACKBONE.NAME"), "build_resnet_backbone");
}

TEST_F(ConfigFiles, RetinaNetsOwnBaseEqualsTheBuiltIn) {
  const std::string file = write("Base-RetinaNet.yaml",
                                 "MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: !!python/object/apply:eval [\"[[x, "
                                 "x * 2**(1.0/3), x * 2**(2.0/3) ] "
                                 "for x in [32, 64, 128, 256, 512 ]]\"]\n");
  const Config read = load(file, {}), known = load("retinanet_R_50_FPN_1x", {});
  const auto& a = read.node("MODEL.ANCHOR_GENERATOR.SIZES").items;
  const auto& b = known.node("MODEL.ANCHOR_GENERATOR.SIZES").items;
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].as_doubles(), b[i].as_doubles());
}

TEST_F(ConfigFiles, OtherPythonIsRefusedAndNeverRun) {
  for (const char* value :
       {"!!python/object/apply:os.system [\"true\"]", "!!python/object/apply:eval [\"__import__('os')\"]",
        "!!python/object/apply:eval [\"[[y] for y in [1]]\"]", "!!python/name:os.system",
        "!!python/object/apply:eval [\"[[x for x in [1]]\"]",
        "!!python/object/apply:eval [\"[[((((((((((((((((((x))))))))))))))))))] for x in [1]]\"]"}) {
    const std::string file =
        write("bad.yaml", std::string("MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: ") + value + "\n");
    EXPECT_THAT(error_of([&] { load(file, {}); }), AllOf(HasSubstr("bad.yaml"), HasSubstr("Python")))
        << value;
  }
}

TEST(Config, MissingOrStrangeOnesSayWhatToGive) {
  EXPECT_THAT(error_of([] { load("", {}); }), HasSubstr("official name"));
  EXPECT_THAT(error_of([] { load("configs/my_model.py", {}); }), HasSubstr("never run"));
  EXPECT_THAT(error_of([] { load("mask_rcnn_R50_FPN_3x.yaml", {}); }),
              HasSubstr("nearest of those is COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"));
}

TEST(Config, TheTableHoldsEveryKeyOfACompleteDump) {
  const char* root = std::getenv("OSPREY_FIXTURES");
  const fs::path file = fs::path(root ? root : OSPREY_SOURCE_DIR "/../shared/fixtures") /
                        "detectron2/mask_rcnn_narrow/config.yaml";
  if (!fs::exists(file)) GTEST_SKIP() << "no fixture detectron2/mask_rcnn_narrow";
  const ConfigTree dump = load_config(file);
  std::size_t leaves = 0;
  const auto count = [&](const ConfigTree& node, const auto& self) -> void {
    if (!node.is_map()) ++leaves;
    if (node.is_map())
      for (const ConfigTree& item : node.items) self(item, self);
  };
  count(dump, count);
  EXPECT_EQ(leaves, keys().keys.size());
  for (const Key& key : keys().keys) EXPECT_NE(dump.find(key.name), nullptr) << key.name;
}

}  // namespace
}  // namespace osprey::detectron2

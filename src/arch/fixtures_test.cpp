// The frameworks' own checkpoints. They are no part of the repository: the tests skip where they are absent.
#include <algorithm>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/blocks/anchors.h"
#include "arch/detectron2/options.h"
#include "arch/family/select.h"
#include "formats/checkpoint.h"
#include "formats/fixture_files.h"

namespace osprey {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class Detectron2Fixtures : public testing::Test {
 protected:
  // False when the fixture is not here.
  bool unpack_case(const std::string& name) {
    case_ = fixtures() / name;
    return unpacked_.emplace(name).ok();
  }
  ImportRequest request(const std::string& file, const std::string& config) const {
    const fs::path path = unpacked_->file(file);
    return {.source = path.string(), .checkpoint = read_checkpoint(path), .config = config};
  }
  std::string config() const { return (case_ / "config.yaml").string(); }
  void expect_complete(const std::string& name, std::size_t outputs) {
    if (!unpack_case(name)) GTEST_SKIP() << "no fixture " << name;
    const Model model = import_model(request("model_final.pkl", config()));
    EXPECT_EQ(model.family, "detectron2");
    EXPECT_THAT(model.weights.missing, IsEmpty());
    EXPECT_THAT(model.weights.unused, IsEmpty());
    EXPECT_THAT(model.graph.outputs(), SizeIs(outputs));
    EXPECT_THAT(model.categories, SizeIs(80));
  }

 private:
  fs::path case_;
  std::optional<Unpacked> unpacked_;
};

TEST_F(Detectron2Fixtures, MaskRcnnUsesEveryWeight) {
  expect_complete("detectron2/mask_rcnn_R_50_FPN_3x", 7);
}
TEST_F(Detectron2Fixtures, FasterRcnnUsesEveryWeight) {
  expect_complete("detectron2/faster_rcnn_R_50_FPN", 5);
}
TEST_F(Detectron2Fixtures, RetinaNetUsesEveryWeight) { expect_complete("detectron2/retinanet_R_50_FPN", 5); }

TEST_F(Detectron2Fixtures, DumpedConfigAndOfficialNameWithOverridesGiveTheSameGraph) {
  if (!unpack_case("detectron2/mask_rcnn_narrow")) GTEST_SKIP() << "no fixture detectron2/mask_rcnn_narrow";
  const Model dumped = import_model(request("model_final.pkl", config()));
  ImportRequest official = request("model_final.pth", "mask_rcnn_R_50_FPN_3x");
  official.overrides = {{"MODEL.RESNETS.STEM_OUT_CHANNELS", "16"},
                        {"MODEL.RESNETS.RES2_OUT_CHANNELS", "32"},
                        {"MODEL.RESNETS.WIDTH_PER_GROUP", "8"},
                        {"MODEL.FPN.OUT_CHANNELS", "32"},
                        {"MODEL.ROI_BOX_HEAD.FC_DIM", "64"},
                        {"MODEL.ROI_MASK_HEAD.CONV_DIM", "16"},
                        {"INPUT.MIN_SIZE_TEST", "256"},
                        {"INPUT.MAX_SIZE_TEST", "384"},
                        {"MODEL.RPN.POST_NMS_TOPK_TEST", "200"},
                        {"MODEL.RPN.PRE_NMS_TOPK_TEST", "300"}};
  const Model named = import_model(official);
  EXPECT_EQ(to_text(dumped.graph), to_text(named.graph));
  EXPECT_THAT(named.weights.unused, IsEmpty());
}

// The anchors of Detectron2's own generator.
TEST(Detectron2Anchors, EqualTheGoldens) {
  const fs::path file = fixtures() / "detectron2/ops/golden.npz";
  if (!fs::exists(file)) GTEST_SKIP() << "no fixture detectron2/ops";
  const Checkpoint golden = read_checkpoint(file);
  const auto expect = [&](const std::string& name, const char* config, std::size_t level) {
    const auto cells = detectron2::rpn_options(detectron2::load(config, {})).anchors;
    const auto retina = detectron2::retinanet_options(detectron2::load("retinanet_R_50_FPN_1x", {})).anchors;
    const auto all = anchor_cells(name.find("retina") == std::string::npos ? cells : retina);
    const auto it = std::find_if(golden.tensors.begin(), golden.tensors.end(),
                                 [&](const NamedTensor& t) { return t.name == name; });
    ASSERT_NE(it, golden.tensors.end()) << name;
    const Tensor expected = it->load().to_f32();
    const auto n = static_cast<std::size_t>(expected.size());
    for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(all.at(level * n + i), expected.values<float>()[i]) << name;
  };
  for (std::size_t level = 0; level < 5; ++level) {
    expect(fmt::format("cell_anchors_fpn_{}", level), "mask_rcnn_R_50_FPN_3x", level);
    expect(fmt::format("cell_anchors_retina_{}", level), "mask_rcnn_R_50_FPN_3x", level);
  }
  expect("cell_anchors_c4_0", "mask_rcnn_R_50_C4_1x", 0);
}

}  // namespace
}  // namespace osprey

// SSD models of TensorFlow's Object Detection API against its own run (fixtures/tfod/*/case.json): every
// stage it recorded, its anchors and its final detections, from checkpoints and from SavedModels. The
// measured figures are printed.
#include <algorithm>
#include <array>
#include <cmath>

#include <gmock/gmock.h>

#include "ops/detect_anchors.h"
#include "parity/tf_case.h"

namespace osprey {
namespace {

class TfodSsd : public TfFixture {
 protected:
  // Stages of all maps: "feature_maps_0", ...
  std::vector<std::string> of_maps(const std::string& name) const {
    std::vector<std::string> out;
    for (int i = 0; golden_->has(fmt::format("feature_maps_{}", i)) ||
                    golden_->has(fmt::format("feature_maps_{}__sample", i));
         ++i)
      out.push_back(fmt::format("{}_{}", name, i));
    return out;
  }
  void expect_anchors(const Graph& graph) const;
};

// The goldens hold anchors as y0, x0, y1, x1 in fractions of the input, map by map.
void TfodSsd::expect_anchors(const Graph& graph) const {
  const GoldenStage golden = golden_stage(*golden_, "anchors");
  std::vector<double> anchors;
  for (const Node& node : graph.nodes()) {
    const auto* op = node.op.as<DetectAnchors>();
    if (op == nullptr) continue;
    const auto& image = graph.value(graph.find("preprocessed")).type.dims;
    const std::array<double, 2> extents{static_cast<double>(image[2].constant()),
                                        static_cast<double>(image[3].constant())};
    for (std::size_t l = 0; l < op->levels(); ++l) {
      const auto& dims = graph.value(node.inputs[2 * l]).type.dims;
      for (std::int64_t y = 0; y < dims[2].constant(); ++y)
        for (std::int64_t x = 0; x < dims[3].constant(); ++x)
          for (std::int64_t a = 0; a < op->anchors_of(l); ++a)
            for (const std::size_t corner : {1, 0, 3, 2}) {
              const std::size_t axis = corner % 2 == 0 ? 1 : 0;
              const double cell = static_cast<double>(axis == 0 ? y : x) + op->of_level(op->offsets, l, axis);
              const auto at = static_cast<std::size_t>((op->first_cell(l) + a) * 4) + corner;
              anchors.push_back((cell * op->of_level(op->strides, l, axis) + op->cells[at]) / extents[axis]);
            }
    }
  }
  ASSERT_EQ(static_cast<std::int64_t>(anchors.size()), element_count(golden.shape));
  for (std::size_t i = 0; i < golden.values.size(); ++i)
    ASSERT_NEAR(anchors[i * static_cast<std::size_t>(golden.stride)], golden.values[i], 1e-6)
        << "sample " << i;
}

TEST_P(TfodSsd, EveryStageAndDetection) {
  const auto engine = build();
  const auto maps = of_maps("feature_maps"), boxes = of_maps("box_encodings"),
             classes = of_maps("class_predictions_with_background");
  ASSERT_THAT(maps, testing::SizeIs(testing::Ge(5u)));
  std::vector<std::string> wanted{"preprocessed", "det_anchor_indices"};
  for (const auto& names : {maps, boxes, classes}) wanted.insert(wanted.end(), names.begin(), names.end());
  const auto opened = LoadedEngine::open(engine, {});
  for (const std::string& name : wanted)
    ASSERT_NE(opened->graph().find(name), kNoValue) << "the engine has no stage " << name;
  expect_anchors(opened->graph());

  const CaseRun result = run(engine, wanted);
  const auto stages = [&](const std::vector<std::string>& names) {
    std::vector<const Tensor*> out;
    for (const std::string& name : names) out.push_back(&result.stages.at(name));
    return out;
  };
  expect_stage("preprocessed", stages({"preprocessed"}));
  for (const std::string& name : maps) expect_stage(name, stages({name}));
  expect_stage("box_encodings", stages(boxes));
  expect_stage("class_predictions_with_background", stages(classes));
  expect_detections(result.detections, &result.stages.at("det_anchor_indices"));
}

std::vector<TfCase> on(const std::string& device, Precision precision) {
  std::vector<TfCase> out;
  for (const char* name : {"ssd_mobilenet_v2_320", "ssd_mobilenet_v2_fpnlite_320", "ssd_mobilenet_v1_fpn_640",
                           "ssd_resnet50_v1_fpn_640"})
    for (const char* store : {"checkpoint", "saved_model"})
      if (device == "cpu" || std::string_view(store) == "checkpoint")
        out.push_back({name, store, device, precision});
  return out;
}

std::string case_name(const testing::TestParamInfo<TfCase>& c) { return name_of(c.param); }

INSTANTIATE_TEST_SUITE_P(Cases, TfodSsd, testing::ValuesIn(on("cpu", Precision::kFp32)), case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp32, TfodSsd, testing::ValuesIn(on("cuda", Precision::kFp32)), case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp16, TfodSsd, testing::ValuesIn(on("cuda", Precision::kFp16)), case_name);

}  // namespace
}  // namespace osprey

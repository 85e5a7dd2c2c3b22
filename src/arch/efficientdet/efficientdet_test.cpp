// EfficientDet's members over variables of zeros: names, shapes, hyper-parameters and how they are told
// apart. What the networks compute is compared with the framework's own run in
// tests/parity/efficientdet_test.cpp.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>

#include <gmock/gmock.h>

#include "arch/blocks/bifpn.h"
#include "arch/efficientdet/checkpoint.h"
#include "arch/efficientdet/keys.h"
#include "arch/efficientdet/options.h"
#include "arch/testing.h"
#include "core/file.h"

namespace osprey {
Family efficientdet_family();

namespace efficientdet {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

using Overrides = std::vector<std::pair<std::string, std::string>>;

std::string own_name(const std::string& name) { return name.substr(name.rfind('/') + 1); }

// Our layouts back to TensorFlow's, as the files have them.
Shape in_tensorflow(const std::string& name, const Shape& s) {
  if (name.find("/se/conv2d") != std::string::npos && s.size() == 2) return {1, 1, s[1], s[0]};
  if (own_name(name) == "depthwise_kernel") return {s[2], s[3], s[0], 1};
  return s.size() == 4 ? Shape{s[2], s[3], s[1], s[0]} : s;
}

NamedTensor zeros(const std::string& name, const Shape& shape) {
  return {.name = name, .shape = shape, .load = [shape] { return Tensor::zeros(DType::kF32, shape); }};
}

// The variables that a config asks for, as zeros.
Checkpoint variables_of(const ImportRequest& request) {
  Checkpoint out{.format = "TensorFlow bundle"};
  for (const NamedTensor& t : zeros_for(error_of([&] { efficientdet_family().build(request); })))
    out.tensors.push_back(zeros(t.name, in_tensorflow(t.name, t.shape)));
  return out;
}

Checkpoint member_variables(const std::string& member, const Overrides& overrides = {}) {
  return variables_of({.source = "zeros", .config = member, .overrides = overrides});
}

Model build(const Checkpoint& checkpoint, const std::string& config = "", const Overrides& overrides = {},
            const std::string& source = "zeros/model") {
  return efficientdet_family().build(
      {.source = source, .checkpoint = checkpoint, .config = config, .overrides = overrides});
}

Checkpoint with_averages(Checkpoint checkpoint) {
  for (NamedTensor t : std::vector<NamedTensor>(checkpoint.tensors)) {
    t.name += "/ExponentialMovingAverage";
    checkpoint.tensors.push_back(std::move(t));
  }
  checkpoint.tensors.push_back({.name = "global_step", .dtype = DType::kI64});
  return checkpoint;
}

// Trainable ones, as papers count them: without the statistics of batch norms.
double millions(const Model& model) {
  double count = 0;
  for (const Weight& w : model.graph.weights()) {
    const Value& value = model.graph.value(w.value);
    if (value.name.find("/moving_") == std::string::npos)
      count += static_cast<double>(element_count(constant_shape(value.type)));
  }
  return count / 1e6;
}

struct Published {
  const char* member;
  double millions;
};
std::ostream& operator<<(std::ostream& out, const Published& p) { return out << p.member; }

class Members : public testing::TestWithParam<Published> {};

// The README of google/automl/efficientdet; D0 to D7x are the paper's as well.
TEST_P(Members, HaveAsManyParametersAsPublished) {
  const auto& [member, published] = GetParam();
  const Checkpoint checkpoint = member_variables(member);
  const Model model = build(checkpoint, member);
  EXPECT_NEAR(millions(model), published, published < 10 ? 0.06 : 0.6);
  EXPECT_THAT(model.weights.unused, IsEmpty());
  EXPECT_THAT(model.categories, SizeIs(90));
  const std::string folder = "models/" + std::string(member);
  EXPECT_EQ(to_text(build(checkpoint, "", {}, folder).graph), to_text(model.graph))
      << "recognised without --config";
}

INSTANTIATE_TEST_SUITE_P(
    All, Members,
    testing::Values(Published{"efficientdet-d0", 3.9}, Published{"efficientdet-d1", 6.6},
                    Published{"efficientdet-d2", 8.1}, Published{"efficientdet-d3", 12},
                    Published{"efficientdet-d4", 21}, Published{"efficientdet-d5", 34},
                    Published{"efficientdet-d6", 52}, Published{"efficientdet-d7", 52},
                    Published{"efficientdet-d7x", 77}, Published{"efficientdet-lite0", 3.2},
                    Published{"efficientdet-lite1", 4.2}, Published{"efficientdet-lite2", 5.3},
                    Published{"efficientdet-lite3", 8.4}, Published{"efficientdet-lite3x", 9.3},
                    Published{"efficientdet-lite4", 15.1}),
    [](const auto& p) {
      std::string name = p.param.member;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

TEST(EfficientDet, AMemberIsListedForEachOfTheZoo) {
  std::set<std::string> names;
  for (const auto& [name, title] : efficientdet_family().zoo()) names.insert(name);
  EXPECT_EQ(names.size(), members().size());
  EXPECT_EQ(names.size(), 15u);
}

TEST(EfficientDet, StagesAreThoseOfTheGoldens) {
  const Model model = build(member_variables("efficientdet-d0"));
  const auto type = [&](const char* name) {
    const ValueId id = model.graph.find(name);
    return id == kNoValue ? std::string(name) + " is missing" : to_string(model.graph.value(id).type);
  };
  EXPECT_EQ(type("preprocessed"), "f32[N,3,512,512]");
  EXPECT_EQ(type("backbone_level1"), "f32[N,16,256,256]");
  EXPECT_EQ(type("backbone_level5"), "f32[N,320,16,16]");
  EXPECT_EQ(type("resample_p6"), "f32[N,64,8,8]");
  EXPECT_EQ(type("resample_p7"), "f32[N,64,4,4]");
  EXPECT_EQ(type("bifpn_p3"), "f32[N,64,64,64]");
  EXPECT_EQ(type("class_logits_p7"), "f32[N,810,4,4]");
  EXPECT_EQ(type("box_p3"), "f32[N,36,64,64]");
  EXPECT_EQ(type("det_boxes_net"), "f32[<=100*N,5]");
}

// Names that only some members have, after a public listing of the official files.
TEST(EfficientDet, VariablesAreCalledAsInOfficialFiles) {
  const auto has = [](const std::string& member, const std::string& name) {
    const Checkpoint c = member_variables(member);
    return std::any_of(c.tensors.begin(), c.tensors.end(), [&](const auto& t) { return t.name == name; });
  };
  EXPECT_TRUE(has("efficientdet-d7x", "resample_p6/conv2d/kernel"));
  EXPECT_FALSE(has("efficientdet-d7x", "resample_p8/conv2d/kernel"));  // the width is right already
  EXPECT_TRUE(has("efficientdet-d7x", "fpn_cells/cell_7/fnode9/op_after_combine15/conv/pointwise_kernel"));
  EXPECT_TRUE(has("efficientdet-d7x", "class_net/class-4-bn-8/gamma"));
  EXPECT_FALSE(has("efficientdet-d7x", "fpn_cells/cell_0/fnode0/WSM"));
  EXPECT_TRUE(has("efficientdet-d5", "fpn_cells/cell_6/fnode4/WSM_2"));
  EXPECT_TRUE(has("efficientdet-lite0", "efficientnet-lite0/blocks_0/conv2d/kernel"));
  EXPECT_FALSE(has("efficientdet-lite0", "efficientnet-lite0/blocks_0/se/conv2d/kernel"));
}

TEST(EfficientDet, MembersThatDifferInTheirInputAloneNeedAName) {
  const Checkpoint checkpoint = member_variables("efficientdet-d6");
  EXPECT_THAT(error_of([&] { build(checkpoint); }),
              AllOf(HasSubstr("efficientdet-d6 or efficientdet-d7"), HasSubstr("--config")));
  EXPECT_EQ(build(checkpoint, "efficientdet-d7").description, "EfficientDet, efficientnet-b6, 1536x1536");
  EXPECT_EQ(build(checkpoint, "", {}, "/models/efficientdet-d7/saved_model").description,
            "EfficientDet, efficientnet-b6, 1536x1536");
  EXPECT_EQ(build(checkpoint, "", {}, "efficientdet-d6/model").description,
            "EfficientDet, efficientnet-b6, 1280x1280");
}

TEST(EfficientDet, NetworksOfNoMemberNeedAConfig) {
  const Overrides narrow{{"fpn_num_filters", "32"}};
  const Checkpoint checkpoint = member_variables("efficientdet-d0", narrow);
  EXPECT_THAT(error_of([&] { build(checkpoint); }),
              AllOf(HasSubstr("fpn_num_filters 32"), HasSubstr("--config")));
  EXPECT_THAT(build(checkpoint, "efficientdet-d0", narrow).weights.unused, IsEmpty());
  EXPECT_THAT(error_of([&] { build(checkpoint, "efficientdet-d0"); }),
              AllOf(HasSubstr("resample_p6/conv2d/kernel"), HasSubstr("[64, 320, 1, 1]")));
}

TEST(EfficientDet, MovingAveragesAreUsedAndTheOtherCopiesListed) {
  const Checkpoint checkpoint = with_averages(member_variables("efficientdet-d0"));
  const Model model = build(checkpoint);
  EXPECT_THAT(model.weights.unused, SizeIs(model.weights.used.size()));
  EXPECT_THAT(model.weights.unused, Each(HasSubstr("superseded by its moving average")));
  const Model raw = build(checkpoint, "", {{"moving_average_decay", "0"}});
  EXPECT_THAT(raw.weights.unused, Each(HasSubstr("/ExponentialMovingAverage (moving_average_decay is 0)")));
}

TEST(EfficientDet, MovingAveragesAreWhatIsLoaded) {
  Checkpoint checkpoint;
  for (const auto& [name, value] : {std::pair{"class_net/class-predict/bias/ExponentialMovingAverage", 2.f},
                                    {"class_net/class-predict/bias", 1.f},
                                    {"box_net/box-predict/bias", 3.f}})
    checkpoint.tensors.push_back({.name = name, .shape = {1}, .load = [value] {
                                    return Tensor::from<float>(std::vector{value}, {1});
                                  }});
  const auto values = [&](bool averages) {
    std::vector<float> out;
    for (const NamedTensor& t : model_variables(checkpoint, averages).tensors)
      out.push_back(t.load().values<float>()[0]);
    return out;  // box_net first
  };
  EXPECT_THAT(values(true), ElementsAre(3, 2));
  EXPECT_THAT(values(false), ElementsAre(3, 1));
}

TEST(EfficientDet, OptimizersAndCountersAreNoWeights) {
  Checkpoint checkpoint = member_variables("efficientdet-d0");
  checkpoint.tensors.push_back(zeros("box_net/box-0/bias/Momentum", {64}));
  checkpoint.tensors.push_back({.name = "global_step", .dtype = DType::kI64});
  EXPECT_THAT(build(checkpoint).weights.unused, IsEmpty());
  checkpoint.tensors.push_back(zeros("segmentation_head/bn_0/gamma", {64}));
  EXPECT_THAT(build(checkpoint).weights.unused, ElementsAre("segmentation_head/bn_0/gamma"));
}

TEST(EfficientDet, ObjectGraphsGiveTheNames) {
  Checkpoint checkpoint = member_variables("efficientdet-d0");
  for (std::size_t i = 0; i < checkpoint.tensors.size(); ++i) {
    NamedTensor& t = checkpoint.tensors[i];
    t.full_name = t.name;
    t.name = fmt::format("model/{}/.ATTRIBUTES/VARIABLE_VALUE", i);
  }
  ASSERT_EQ(efficientdet_family().recognise({.checkpoint = checkpoint}), 2);
  EXPECT_THAT(build(checkpoint).weights.unused, IsEmpty());
}

TEST(EfficientDet, FineTunedClassCountsComeFromTheCheckpoint) {
  const Checkpoint checkpoint = member_variables("efficientdet-d0", {{"num_classes", "3"}});
  const Model model = build(checkpoint);
  ASSERT_THAT(model.categories, SizeIs(3));
  EXPECT_EQ(model.categories[2].id, 3);
  EXPECT_EQ(model.categories[2].name, "class 2");
  EXPECT_THAT(error_of([&] {
                build(checkpoint, "", {{"num_classes", "90"}});
              }),
              HasSubstr("class_net/class-predict/bias: the file has [27], the model needs [810]"));
}

TEST(EfficientDet, LabelsHaveTheFrameworksIds) {
  const auto coco = build(member_variables("efficientdet-d0")).categories;
  EXPECT_EQ(coco[0].name, "person");
  EXPECT_EQ(coco[89].name, "toothbrush");
  EXPECT_EQ(coco[89].id, 90);
  EXPECT_EQ(coco[11].name, "class 11");  // COCO has nothing under 12
  const auto labels = [](const std::string& map, int count) {
    return categories(
        load("efficientdet-d0", {{"num_classes", std::to_string(count)}, {"label_map", map}}, {}, "zeros"));
  };
  EXPECT_EQ(labels("voc", 20)[14].name, "person");
  EXPECT_EQ(labels("waymo", 3)[2].name, "cyclist");
  EXPECT_EQ(labels("{1: 'sea', 2: 'sky'}", 2)[1].name, "sky");
  EXPECT_THAT(error_of([&] { labels("my.yaml", 2); }), AllOf(HasSubstr("label_map"), HasSubstr("--labels")));
}

TEST(EfficientDet, PostProcessingsAreAttributesOfOneOp) {
  const auto options = [](const Overrides& overrides) {
    return detection_options(load("efficientdet-d0", overrides, {}, "zeros"), {512, 512});
  };
  const DetectAnchors standard = options({});
  EXPECT_TRUE(standard.best_class_only && standard.agnostic);
  EXPECT_FLOAT_EQ(standard.soft_sigma, 0.25f);
  EXPECT_FLOAT_EQ(standard.threshold, 0.001f);
  EXPECT_FLOAT_EQ(standard.iou, 0.5f);
  EXPECT_EQ(standard.clip, KeptClip::kKeepEmpty);
  EXPECT_EQ(standard.max_detections, 100);
  const DetectAnchors hard = options({{"nms_configs.method", "hard"}, {"nms_configs.iou_thresh", "0.6"}});
  EXPECT_EQ(hard.soft_sigma, 0);
  EXPECT_FLOAT_EQ(hard.iou, 0.6f);
  EXPECT_LT(hard.threshold, 0);
  const DetectAnchors per_class = options({{"post_mode", "per_class"}, {"nms_configs.sigma", "0.4"}});
  EXPECT_TRUE(per_class.best_class_only && !per_class.agnostic);
  EXPECT_EQ(per_class.clip, KeptClip::kNone);
  EXPECT_FLOAT_EQ(per_class.soft_sigma, 0.2f);
  const DetectAnchors combined = options({{"post_mode", "combined"}, {"nms_configs.score_thresh", "0.05"}});
  EXPECT_FALSE(combined.best_class_only || combined.agnostic);
  EXPECT_EQ(combined.soft_sigma, 0);
  EXPECT_FLOAT_EQ(combined.threshold, 0.05f);
}

TEST(EfficientDet, AnchorsAreScaledByLevelOctaveAndRatio) {
  const DetectAnchors op = detection_options(load("efficientdet-d0", {}, {}, "zeros"), {512, 512});
  ASSERT_EQ(op.cells.size(), 5u * 9 * 4);
  EXPECT_THAT(std::vector(op.cells.begin(), op.cells.begin() + 4), ElementsAre(-16, -16, 16, 16));
  EXPECT_FLOAT_EQ(op.cells[6], 16 * std::sqrt(2.f));          // ratio 2 is wide
  EXPECT_FLOAT_EQ(op.cells[3 * 4 + 2], 16 * std::cbrt(2.f));  // then the next octave
  EXPECT_FLOAT_EQ(op.cells[4 * 9 * 4 + 3], 256.f);            // level 7
  const DetectAnchors odd = detection_options(
      load("efficientdet-d0", {{"anchor_scale", "[4, 4, 4, 4, 5]"}, {"aspect_ratios", "[[1.4, 0.7]]"}}, {},
           "zeros"),
      {500, 640});
  EXPECT_FLOAT_EQ(odd.of_level(odd.strides, 0, 0), 500.f / 63);  // 500, 250, 125, 63 cells
  EXPECT_FLOAT_EQ(odd.of_level(odd.strides, 0, 1), 8);
  EXPECT_FLOAT_EQ(odd.cells[2], 4 * 8 * 1.4f / 2);
  EXPECT_FLOAT_EQ(odd.cells[3], 4 * (500.f / 63) * 0.7f / 2);
}

TEST(EfficientDet, InputSizesNeedNotBeSquareNorDivisible) {
  const Checkpoint checkpoint = member_variables("efficientdet-d0");
  const Model wide = build(checkpoint, "", {{"image_size", "640x384"}});
  const auto type = [](const Model& m, const char* name) {
    return to_string(m.graph.value(m.graph.find(name)).type);
  };
  EXPECT_EQ(type(wide, "preprocessed"), "f32[N,3,384,640]");
  EXPECT_EQ(type(build(checkpoint, "", {{"image_size", "500"}}), "bifpn_p3"), "f32[N,64,63,63]");
  const Model sized =
      efficientdet_family().build({.source = "zeros", .checkpoint = checkpoint, .height = 256, .width = 320});
  EXPECT_EQ(type(sized, "preprocessed"), "f32[N,3,256,320]");
  EXPECT_THAT(error_of([&] { build(checkpoint, "", {{"image_size", "0"}}); }), HasSubstr("image_size"));
}

TEST(EfficientDet, NodesOfACellFollowThePaper) {
  const auto nodes = bifpn_nodes(3, 7);
  ASSERT_THAT(nodes, SizeIs(8));
  EXPECT_EQ(nodes[0].level, 6);
  EXPECT_THAT(nodes[0].inputs, ElementsAre(3, 4));
  EXPECT_THAT(nodes[4].inputs, ElementsAre(1, 7, 8));
  EXPECT_THAT(nodes[7].inputs, ElementsAre(4, 11));
}

// The frameworks' own lists of variables, where they are: every name and shape is what the member asks for.
class VariableLists : public testing::TestWithParam<const char*> {
 protected:
  static fs::path list() {
    const char* root = std::getenv("OSPREY_FIXTURES");
    const fs::path fixtures =
        root ? fs::path(root) : fs::path(OSPREY_SOURCE_DIR) / ".." / "shared" / "fixtures";
    return fixtures / "efficientdet" / GetParam() / "variables.tsv";
  }
  // Lines "name <tab> type <tab> [3, 3, 64, 1]".
  static Checkpoint read() {
    Checkpoint out;
    std::istringstream lines(read_text(list(), 1 << 20));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream extents(line.substr(line.find('[') + 1));
      Shape shape;
      for (std::int64_t extent = 0; extents >> extent; extents.ignore(1)) shape.push_back(extent);
      out.tensors.push_back(zeros(line.substr(0, line.find('\t')), shape));
    }
    return out;
  }
};

TEST_P(VariableLists, AreUsedWhole) {
  if (!fs::exists(list())) GTEST_SKIP() << "no fixture " << list().string();
  Checkpoint checkpoint = read();
  ASSERT_GT(checkpoint.tensors.size(), 1400u);
  std::erase_if(checkpoint.tensors, [](const NamedTensor& t) { return t.name == "global_step"; });
  const Model model = build(checkpoint);
  EXPECT_EQ(model.weights.used.size() * 2, checkpoint.tensors.size());
  EXPECT_THAT(model.weights.unused, Each(HasSubstr("superseded by its moving average")));
}

INSTANTIATE_TEST_SUITE_P(Cases, VariableLists,
                         testing::Values("efficientdet_d0_512", "efficientdet_d1_640",
                                         "efficientdet_d4_1024"));

class ConfigFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string folder = (fs::temp_directory_path() / "osprey_efficientdet_XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string write(const std::string& name, const std::string& text) {
    write_file(folder_ / name, text);
    return (folder_ / name).string();
  }
  fs::path folder_;
};

TEST_F(ConfigFile, ChangesTheMemberThatItNames) {
  const std::string file = write("hparams.yaml",
                                 "name: efficientdet-d7x\nnum_classes: 7\n"
                                 "nms_configs:\n    method: hard\n");
  const KeyedConfig config = load(file, {{"nms_configs.max_output_size", "20"}}, {}, "zeros");
  EXPECT_EQ(config.text("backbone_name"), "efficientnet-b7");
  EXPECT_EQ(config.integer("max_level"), 8);
  const DetectAnchors op = detection_options(config, image_size(config));
  EXPECT_EQ(op.classes, 7);
  EXPECT_EQ(op.soft_sigma, 0);
  EXPECT_EQ(op.max_detections, 20);
}

TEST_F(ConfigFile, JsonIsReadToo) {
  const std::string file = write("config.json",
                                 "{\n \"name\": \"efficientdet-d1\",\n \"anchor_scale\": 3.0,\n"
                                 " \"fpn_name\": null\n}");
  EXPECT_FLOAT_EQ(load(file, {}, {}, "zeros").number("anchor_scale"), 3);
}

TEST_F(ConfigFile, IsFoundBesideTheCheckpoint) {
  write("config.yaml", "num_classes: 4\nimage_size: 256\nmodel_dir: /tmp/x\n");
  const Checkpoint checkpoint = member_variables("efficientdet-d0", {{"num_classes", "4"}});
  EXPECT_EQ(build(checkpoint, "", {}, (folder_ / "model").string()).description,
            "EfficientDet, efficientnet-b0, 256x256");
  EXPECT_EQ(build(checkpoint, "", {}, folder_.string()).description,
            "EfficientDet, efficientnet-b0, 256x256");
}

TEST_F(ConfigFile, WhatItCannotSayIsRefusedByName) {
  const auto error = [](const Overrides& overrides, const std::string& config = "efficientdet-d0") {
    return error_of([&] {
      const KeyedConfig c = load(config, overrides, {}, "zeros");
      trunk_options(c), pyramid_options(c), class_options(c), detection_options(c, image_size(c));
      pixel_options(c);
    });
  };
  EXPECT_THAT(error({}), HasSubstr("no error"));
  EXPECT_THAT(error({{"nms_configs.iou_tresh", "0.5"}}), HasSubstr("did you mean nms_configs.iou_thresh?"));
  EXPECT_THAT(error({{"fpn_name", "qufpn"}}), AllOf(HasSubstr("fpn_name"), HasSubstr("only bifpn")));
  EXPECT_THAT(error({{"fpn_weight_method", "attn"}}), HasSubstr("only fastattn and sum"));
  EXPECT_THAT(error({{"act_type", "mish"}}), HasSubstr("act_type"));
  EXPECT_THAT(error({{"heads", "['object_detection', 'segmentation']"}}), HasSubstr("heads"));
  EXPECT_THAT(error({{"nms_configs.method", "linear"}}), HasSubstr("only hard and gaussian"));
  EXPECT_THAT(error({{"nms_configs.max_nms_inputs", "5000"}}), HasSubstr("max_nms_inputs"));
  EXPECT_THAT(error({{"post_mode", "tflite"}}), HasSubstr("post_mode"));
  EXPECT_THAT(error({{"anchor_scale", "[4, 4]"}}), HasSubstr("one for each of 5 levels"));
  EXPECT_THAT(error({{"num_scales", "0"}}), HasSubstr("num_scales"));
  EXPECT_THAT(error({{"aspect_ratios", "[0]"}}), HasSubstr("aspect_ratios"));
  EXPECT_THAT(error({{"stddev_rgb", "0"}}), HasSubstr("stddev_rgb"));
  EXPECT_THAT(error({}, "efficientdet-d9"), HasSubstr("neither a file nor an official EfficientDet"));
  const std::string file = write("bad.yaml", "name: efficientdet-d0\nfpn_config:\n  nodes: []\n");
  EXPECT_THAT(error({}, file), AllOf(HasSubstr("bad.yaml:3"), HasSubstr("fpn_config")));
}

}  // namespace
}  // namespace efficientdet
}  // namespace osprey

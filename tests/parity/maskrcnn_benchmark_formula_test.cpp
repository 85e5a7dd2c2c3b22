// Small members of maskrcnn-benchmark that no fixture holds, with weights by a formula: FBNets and group
// norms. The detections are the framework's own (commit 57eec25b on PyTorch 2.11), with the same weights on
// the same photo, which is a formula as well.
#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>

#include "arch/testing.h"
#include "formats/torch_write.h"
#include "image/rle.h"
#include "parity/differences.h"

namespace osprey {
namespace {

using testing::SizeIs;

constexpr double kBoxPixels = 0.05, kScore = 1e-3;
constexpr std::int64_t kMaskPixels = 8;

struct Found {
  std::array<double, 4> box;
  double score;
  int class_index;
  std::int64_t mask_pixels;
};

using Overrides = std::vector<std::pair<std::string, std::string>>;

struct FormulaCase {
  std::string name, config;
  double score_gain;  // of the classes' weights
  Overrides overrides;
  std::vector<Found> found;
};

// Numbers from -1 to 1 that follow from a name: its FNV-1a hash and the index, mixed.
std::vector<double> numbers_of(const std::string& name, std::int64_t count) {
  std::uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  std::vector<double> out;
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint32_t x = static_cast<std::uint32_t>(i) * 2654435761u + hash;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    x ^= x >> 16;
    out.push_back(static_cast<double>(x >> 8) / (1 << 23) - 1);
  }
  return out;
}

// Norms are near to doing nothing; filters keep the magnitude of what they read.
Tensor weight_of(const FormulaCase& c, const std::string& name, const Shape& shape) {
  const auto holds = [&](const char* part) { return name.find(part) != std::string::npos; };
  Tensor out = Tensor::zeros(DType::kF32, shape);
  const auto numbers = numbers_of(name, out.size());
  const double inputs = static_cast<double>(out.size() / shape[0]);
  const double gain = holds("cls_score") ? c.score_gain : holds("bbox_pred") ? 0.0625 : 1;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    double v = numbers[i];
    if (name.ends_with("running_var"))
      v = 1 + v / 2;
    else if (name.ends_with("running_mean"))
      v = v / 8;
    else if (shape.size() == 1)
      v = name.ends_with(".weight") ? 1 + v / 4 : v / 8;
    else
      v = v * gain * std::sqrt(6 / inputs);
    if (name.ends_with("cls_score.bias") && i == 0) v += 0.5;
    out.mutable_values<float>()[i] = static_cast<float>(v);
  }
  return out;
}

Image photo() {
  Image out(96, 64);
  for (int y = 0; y < 64; ++y)
    for (int x = 0; x < 96; ++x) {
      std::uint8_t* const pixel = out.row(y) + 3 * x;
      pixel[0] = static_cast<std::uint8_t>(5 * x + 3 * y);
      pixel[1] = static_cast<std::uint8_t>(x * y);
      pixel[2] = static_cast<std::uint8_t>(255 - 2 * x + 7 * y);
    }
  return out;
}

// Every weight that the config asks for, as a checkpoint.
void write_weights(const FormulaCase& c, const std::filesystem::path& file) {
  const auto all = families();
  const auto family =
      std::find_if(all.begin(), all.end(), [](const Family& f) { return f.name == "maskrcnn_benchmark"; });
  auto tensors = zeros_for(
      error_of([&] { family->build({.source = "none.pth", .config = c.config, .overrides = c.overrides}); }));
  ASSERT_THAT(tensors, SizeIs(testing::Ge(40u)));
  for (NamedTensor& t : tensors) {
    if (t.name.find(".se4.op.") != std::string::npos && t.shape.size() == 2)
      t.shape.insert(t.shape.end(), {1, 1});  // the framework's are convolutions
    t.load = [&c, name = t.name, shape = t.shape] { return weight_of(c, name, shape); };
  }
  write_torch(file, tensors);
}

class MaskrcnnBenchmarkFormula : public testing::TestWithParam<std::tuple<FormulaCase, std::string>> {};

TEST_P(MaskrcnnBenchmarkFormula, FindsWhatTheFrameworkFinds) {
  const auto& [c, device] = GetParam();
  OSPREY_NEEDS_DEVICE(device)
  const ScratchFolder scratch;
  const auto weights = scratch.path() / "weights.pth", engine = scratch.path() / "m.osprey";
  write_weights(c, weights);
  build_engine({.source = weights, .config = c.config, .overrides = c.overrides},
               {.device = device, .tuning = quick_tuning()}, engine);
  const Detections got = run_with_stages(engine, photo(), {}).detections;
  ASSERT_THAT(got.items, SizeIs(c.found.size()));
  for (std::size_t i = 0; i < c.found.size(); ++i) {
    const Found& want = c.found[i];
    const Detection& d = got.items[i];
    EXPECT_EQ(d.class_index, want.class_index) << i;
    EXPECT_NEAR(d.score, want.score, kScore) << i;
    const std::array<double, 4> box{d.box.x0, d.box.y0, d.box.x1, d.box.y1};
    for (std::size_t k = 0; k < 4; ++k) EXPECT_NEAR(box[k], want.box[k], kBoxPixels) << i << " " << k;
    ASSERT_TRUE(d.mask.has_value());
    EXPECT_NEAR(static_cast<double>(mask_area(*d.mask)), static_cast<double>(want.mask_pixels), kMaskPixels)
        << i;
  }
}

Overrides with_small_photo(Overrides more) {
  Overrides out{{"INPUT.MIN_SIZE_TEST", "64"},
                {"INPUT.MAX_SIZE_TEST", "96"},
                {"MODEL.ROI_BOX_HEAD.NUM_CLASSES", "6"},
                {"MODEL.ROI_HEADS.DETECTIONS_PER_IMG", "8"},
                {"MODEL.RPN.POST_NMS_TOP_N_TEST", "20"}};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

const std::string kArch =
    R"('{"block_op_type": [["ir_k3"], ["ir_k5_e3_se", "ir_k1"], ["ir_k33_e6"], ["ir_k7"], ["ir_k3", "ir_k5"]], )"
    R"("block_cfg": {"first": [8, 4, 5], "stages": [[[1, 8, 1, 4]], [[6, 8, 2, 1]], [[9, 16, 1, 2]], )"
    R"([[2, 8, 1, 1]], [[3, 12, 1, 1], [2, 8, 1, -2]]], "last": [12, 1.0], )"
    R"("backbone": [0, 1], "rpn": [3], "bbox": [2], "mask": [4]}}')";

const FormulaCase kCases[]{
    {.name = "fbnet",
     .config = "e2e_mask_rcnn_fbnet",
     .score_gain = 0.5,
     .overrides = with_small_photo({{"MODEL.FBNET.ARCH", "own"},
                                    {"MODEL.FBNET.ARCH_DEF", kArch},
                                    {"MODEL.FBNET.WIDTH_DIVISOR", "1"},
                                    {"MODEL.FBNET.DET_HEAD_LAST_SCALE", "1.0"},
                                    {"MODEL.RPN.ANCHOR_SIZES", "(16, 32, 64)"}}),
     .found = {{{0, 0, 20.495, 56.805}, 0.444447, 4, 1023},
               {{21.88, 22.146, 79.006, 30.427}, 0.441233, 1, 79},
               {{58.795, 0, 67.47, 0}, 0.28276, 1, 0},
               {{68.622, 0, 94.485, 33.511}, 0.272475, 4, 811},
               {{1.6963, 35.625, 53.828, 56.935}, 0.263035, 1, 267},
               {{51.858, 16.663, 93.081, 25.741}, 0.244817, 4, 381},
               {{44.418, 22.78, 83.057, 42.628}, 0.204364, 4, 749},
               {{45.124, 17.04, 95, 31.651}, 0.196601, 1, 108}}},
    {.name = "group_norms",
     .config = "gn_baselines/e2e_mask_rcnn_R_50_FPN_Xconv1fc_1x_gn",
     .score_gain = 2,
     .overrides = with_small_photo({{"MODEL.RESNETS.STEM_OUT_CHANNELS", "8"},
                                    {"MODEL.RESNETS.RES2_OUT_CHANNELS", "16"},
                                    {"MODEL.RESNETS.WIDTH_PER_GROUP", "4"},
                                    {"MODEL.RESNETS.BACKBONE_OUT_CHANNELS", "8"},
                                    {"MODEL.GROUP_NORM.NUM_GROUPS", "4"},
                                    {"MODEL.ROI_BOX_HEAD.CONV_HEAD_DIM", "8"},
                                    {"MODEL.ROI_BOX_HEAD.MLP_HEAD_DIM", "16"},
                                    {"MODEL.ROI_MASK_HEAD.CONV_LAYERS", "(8, 8)"},
                                    {"MODEL.RPN.FPN_POST_NMS_TOP_N_TEST", "20"}}),
     .found = {{{58.557, 7.1395, 94.603, 38.154}, 0.872922, 0, 865},
               {{43.83, 52.632, 95, 63}, 0.868366, 0, 342},
               {{49.667, 22.655, 95, 59.728}, 0.756569, 0, 1321},
               {{57.327, 16.075, 95, 55.368}, 0.723316, 4, 54},
               {{0.84452, 3.7905, 53.524, 25.2}, 0.709456, 3, 378},
               {{0, 0, 40.208, 63}, 0.679823, 0, 1915},
               {{30.712, 0, 85.169, 12.413}, 0.615742, 4, 8},
               {{56.254, 12.612, 87.712, 50.95}, 0.610047, 0, 945}}},
};

std::string case_name(const testing::TestParamInfo<std::tuple<FormulaCase, std::string>>& c) {
  return std::get<0>(c.param).name;
}

INSTANTIATE_TEST_SUITE_P(Cases, MaskrcnnBenchmarkFormula,
                         testing::Combine(testing::ValuesIn(kCases), testing::Values("cpu")), case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp32, MaskrcnnBenchmarkFormula,
                         testing::Combine(testing::ValuesIn(kCases), testing::Values("cuda")), case_name);

}  // namespace
}  // namespace osprey

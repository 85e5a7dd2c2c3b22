// RT-DETR and Mask RT-DETR against PaddleDetection's own runs: every stage it recorded, the tokens it
// selected, and its detections and masks. Stages are held to the tolerances that the cases state
// (fixtures/paddle/*/case.json: 20 times what float32 is from float64), detections and masks to the engine's
// own bounds for fp32. The measured figures are printed.
#include <algorithm>
#include <array>
#include <cmath>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "image/rle.h"
#include "parity/differences.h"
#include "parity/match.h"
#include "parity/model_case.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;  // keys in the order of the file
using testing::SizeIs;

// The engine's bounds for fp32.
constexpr double kScoreBound = 1e-3, kBoxBound = 0.05, kMaskIou = 0.995;
constexpr std::int64_t kMaskPixels = 8;

// Arrays that are no stage of the network: inputs of the framework's graph, what it works out on the way in
// memory that ours does not keep, and results, which are compared as detections.
bool is_stage(const std::string& name) {
  if (name.starts_with("final.") || name.starts_with("input.")) return name == "input.image";
  if (name.ends_with(".sampling_locations") || name.ends_with(".attention_weights")) return false;
  return name != "enc.logits" && name != "enc.bboxes" && name != "enc.topk_index" &&
         name != "enc.topk_score" && name != "enc.mask_margin" && name != "out.mask_logits";
}

// The engine's bound for fp16, of the largest magnitude.
constexpr double kFp16Map = 0.02;

// Maps and what is made of all tokens alike. In fp16 other tokens may be selected, and what follows them is
// that of other queries.
bool precedes_selection(const std::string& name) {
  return name.starts_with("input.") || name.starts_with("backbone.") || name.starts_with("neck.") ||
         name.starts_with("transformer.") || name == "enc_logits";
}

// A case on a device.
struct PaddleCase {
  std::string name;
  std::string device = "cpu";
  Precision precision = Precision::kFp32;
};

std::ostream& operator<<(std::ostream& out, const PaddleCase& c) {
  return out << c.name << " on " << c.device << " in " << name_of(c.precision);
}

class PaddleDetection : public testing::TestWithParam<PaddleCase> {
 protected:
  void SetUp() override {
    OSPREY_NEEDS_FIXTURE(folder())
    OSPREY_NEEDS_DEVICE(GetParam().device)
    const fs::path archive = folder() / "checkpoint.tar.xz";
    ASSERT_TRUE(unpack(archive, scratch_.path())) << "cannot unpack " << archive;
    golden_ = std::make_unique<GoldenArrays>(folder() / "golden.npz");
    case_ = json::parse(read_text(folder() / "case.json", 1 << 24));
    std::printf("%s:\n", testing::PrintToString(GetParam()).c_str());
  }

  static fs::path folder() { return fixture("paddle") / GetParam().name; }
  static bool is_fp16() { return GetParam().precision == Precision::kFp16; }

  using Overrides = std::vector<std::pair<std::string, std::string>>;
  // `source`: what of the case is imported; empty: its checkpoint. `config`: likewise, its own.
  fs::path build(const Overrides& overrides = {}, std::string source = {}, std::string config = {}) const {
    fs::path engine = scratch_.path() / "model.osprey";
    if (source.empty()) source = case_.at("checkpoint_files").at(0);
    if (config.empty()) config = (folder() / case_.at("config").get<std::string>()).string();
    build_engine({.source = scratch_.path() / source, .config = config, .overrides = overrides},
                 {.device = GetParam().device, .precision = GetParam().precision, .tuning = quick_tuning()},
                 engine);
    return engine;
  }
  std::string transformer() const {
    return GetParam().name.starts_with("mask") ? "MaskRTDETR" : "RTDETRTransformer";
  }
  Image photo() const { return read_image(fixture("") / case_.at("image").get<std::string>()); }

  void expect_stage(const std::string& name, const Tensor& got) const;
  void expect_selection(const Tensor& rows) const;
  // The first so many of the golden ones; 0: all of them.
  void expect_detections(const Detections& found, std::size_t first = 0) const;
  void expect_first_rows(const std::string& name, const Tensor& got) const;
  void expect_kept(const Detections& found) const;
  void expect_mask(std::size_t row, const Rle& got) const;

  ScratchFolder scratch_;
  std::unique_ptr<GoldenArrays> golden_;
  json case_;
};

void PaddleDetection::expect_stage(const std::string& name, const Tensor& got) const {
  const GoldenStage golden = golden_stage(*golden_, name);
  const json& told = case_.at("outputs").at(name);
  const double atol = told.value("atol", 0.0);
  ASSERT_EQ(got.size(), element_count(golden.shape)) << name;
  const auto values = got.values<float>();
  double worst = 0;
  bool within = true;
  for (std::size_t i = 0; i < golden.values.size(); ++i) {
    const double wanted = golden.values[i];
    const double apart = std::abs(values[i * static_cast<std::size_t>(golden.stride)] - wanted);
    if (std::isinf(wanted) && values[i * static_cast<std::size_t>(golden.stride)] == wanted) continue;
    worst = std::max(worst, apart);
    within = within && apart <= atol + 1e-4 * std::abs(wanted);
  }
  std::printf("  %-32s %.1e, %.1e of the largest magnitude (bound %.1e + 1e-4 x)\n", name.c_str(), worst,
              worst / golden.magnitude(), atol);
  if (is_fp16()) {
    EXPECT_LE(worst, kFp16Map * golden.magnitude()) << name;
  } else {
    EXPECT_TRUE(within) << name << ": " << worst << " apart";
  }
}

void PaddleDetection::expect_selection(const Tensor& rows) const {
  const auto got = rows.values<std::int32_t>();
  const std::vector<double> golden = golden_->doubles("enc.topk_index");
  ASSERT_THAT(got, SizeIs(golden.size()));
  for (std::size_t i = 0; i < golden.size(); ++i) EXPECT_EQ(got[i], golden[i]) << "query " << i;
}

// Rows in the golden order; neighbours that nearly tie may have changed places.
void PaddleDetection::expect_detections(const Detections& found, std::size_t first) const {
  const std::vector<double> golden = golden_->doubles("final.bbox");
  ASSERT_THAT(found.items, SizeIs(first == 0 ? golden.size() / 6 : first));
  std::vector<bool> ties(golden.size() / 6 + 1);
  for (const json& i : case_.at("near_ties")) ties[i.get<std::size_t>() + 1] = true;
  double score = 0, box = 0;
  for (std::size_t begin = 0, end = 0; begin < found.items.size(); begin = end) {
    for (end = begin + 1; end < found.items.size() && ties[end];) ++end;
    if (end == first && ties[end]) break;  // one of a tie may be the next
    std::vector<ClassedBox> wanted, got;
    for (std::size_t i = begin; i < end; ++i) {
      const double* row = &golden[6 * i];
      wanted.push_back({{row[2], row[3], row[4], row[5]}, static_cast<int>(row[0]), row[1]});
      const Detection& d = found.items[i];
      got.push_back({{d.box.x0, d.box.y0, d.box.x1, d.box.y1}, d.class_index, d.score});
    }
    const auto pairs = match_detections(wanted, got, 0.99);
    ASSERT_EQ(pairs.size(), wanted.size()) << "detections " << begin << " to " << end;
    for (const auto& [g, k] : pairs) {
      score = std::max(score, std::abs(wanted[g].score - got[k].score));
      for (std::size_t c = 0; c < 4; ++c) box = std::max(box, std::abs(wanted[g].box[c] - got[k].box[c]));
      if (const auto& mask = found.items[begin + k].mask) expect_mask(begin + g, *mask);
    }
  }
  std::printf("  %zu detections; boxes within %.4f px, scores within %.1e\n", found.items.size(), box, score);
  EXPECT_LE(score, kScoreBound);
  EXPECT_LE(box, kBoxBound);
}

// In fp16 queries whose scores lie as close as random weights leave them change places: 46 to 61 % of their
// detections stay, where 98 are asked, which is told as a failure (docs/roadmap.md has the cause).
void PaddleDetection::expect_kept(const Detections& found) const {
  const std::vector<double> golden = golden_->doubles("final.bbox");
  ASSERT_THAT(found.items, SizeIs(golden.size() / 6));
  std::vector<ClassedBox> wanted, got;
  for (const double* row = golden.data(); row < golden.data() + golden.size(); row += 6)
    wanted.push_back({{row[2], row[3], row[4], row[5]}, static_cast<int>(row[0]), row[1]});
  for (const Detection& d : found.items)
    got.push_back({{d.box.x0, d.box.y0, d.box.x1, d.box.y1}, d.class_index, d.score});
  const std::size_t kept = match_detections(wanted, got, kCudaFp16.match_iou).size();
  std::printf("  %zu of %zu detections at IoU %.2f\n", kept, wanted.size(), kCudaFp16.match_iou);
  EXPECT_GE(static_cast<double>(kept), kCudaFp16.matched * static_cast<double>(wanted.size()));
}

void PaddleDetection::expect_mask(std::size_t row, const Rle& got) const {
  const std::vector<double> bytes = golden_->doubles("final.mask_rle_bytes"),
                            offsets = golden_->doubles("final.mask_rle_offsets");
  const std::string text(bytes.begin() + static_cast<std::ptrdiff_t>(offsets.at(row)),
                         bytes.begin() + static_cast<std::ptrdiff_t>(offsets.at(row + 1)));
  const Rle golden = decompress_rle(text, got.height, got.width);
  const std::array<Rle, 2> both{golden, got};
  const std::int64_t common = mask_area(merge_masks(both, true)), all = mask_area(merge_masks(both, false));
  if (all - common <= kMaskPixels) return;
  EXPECT_GE(static_cast<double>(common) / static_cast<double>(all), kMaskIou)
      << "mask " << row << ": " << all - common << " pixels differ";
}

TEST_P(PaddleDetection, EveryStageAndDetection) {
  std::vector<std::string> stages;
  for (const std::string& name : golden_->stage_names())
    if (is_stage(name) && (!is_fp16() || precedes_selection(name))) stages.push_back(name);
  std::vector<std::string> wanted = stages;
  wanted.emplace_back("enc.topk_index");
  const CaseRun got = run_with_stages(build(), photo(), wanted);
  // In the order in which the framework makes them, so that the first that departs comes first.
  for (const auto& [name, told] : case_.at("outputs").items())
    if (std::find(stages.begin(), stages.end(), name) != stages.end())
      expect_stage(name, got.stages.at(name));
  if (is_fp16()) return expect_kept(got.detections);
  expect_selection(got.stages.at("enc.topk_index"));
  expect_detections(got.detections);
}

// Rows [Q,...] of fewer queries are the first of the golden ones, but for float32's own rounding.
void PaddleDetection::expect_first_rows(const std::string& name, const Tensor& got) const {
  const GoldenStage golden = golden_stage(*golden_, name);
  const double atol = case_.at("outputs").at(name).value("atol", 0.0);
  const auto values = got.values<float>();
  ASSERT_LT(got.size(), element_count(golden.shape)) << name;
  double worst = 0;
  for (std::size_t i = 0; i * static_cast<std::size_t>(golden.stride) < values.size(); ++i) {
    const double apart = std::abs(values[i * static_cast<std::size_t>(golden.stride)] - golden.values.at(i));
    worst = std::max(worst, apart);
    EXPECT_LE(apart, atol + 1e-4 * std::abs(golden.values[i])) << name << ", sample " << i;
  }
  std::printf("  %s of fewer queries within %.1e\n", name.c_str(), worst);
}

// Fewer queries are the best of those there would be: the rule of selection does not depend on their number.
TEST_P(PaddleDetection, FewerQueries) {
  if (is_fp16()) GTEST_SKIP() << "bounds are those of fp32";
  const auto all = golden_->doubles("enc.topk_index");
  const std::size_t fewer = all.size() / 3;
  const CaseRun got =
      run_with_stages(build({{transformer() + ".num_queries", std::to_string(fewer)}}), photo(),
                      {"enc.topk_index", "decoder.target", "decoder.ref_points_unact"});
  const auto rows = got.stages.at("enc.topk_index").values<std::int32_t>();
  ASSERT_THAT(rows, SizeIs(fewer));
  for (std::size_t i = 0; i < fewer; ++i) EXPECT_EQ(rows[i], all[i]) << "query " << i;
  for (const char* name : {"decoder.target", "decoder.ref_points_unact"})
    expect_first_rows(name, got.stages.at(name));
  EXPECT_THAT(got.detections.items, SizeIs(golden_->doubles("final.bbox").size() / 6))
      << "num_top_queries counts pairs of a query and a class";
}

// When the engine is built, or when it is opened: the same graph, so the same detections.
TEST_P(PaddleDetection, FewerQueriesWhenOpened) {
  const int fewer = static_cast<int>(golden_->doubles("enc.topk_index").size() / 3);
  const fs::path all = build();
  const auto opened = LoadedEngine::open(all, {.num_queries = fewer});
  const auto built = LoadedEngine::open(build({{transformer() + ".num_queries", std::to_string(fewer)}}), {});
  EXPECT_EQ(to_text(opened->graph()), to_text(built->graph()));
  const Image picture = photo();
  const std::array<ImageView, 2> views{picture, picture};
  const auto got = DetectionSession(opened).detect(views, {}),
             wanted = DetectionSession(built).detect(views, {});
  for (std::size_t n = 0; n < views.size(); ++n) expect_equal(got[n], wanted[n]);
}

// When the engine is built, or when it runs.
TEST_P(PaddleDetection, FewerDetections) {
  if (GetParam().device != "cpu") GTEST_SKIP() << "to the bit on the CPU";
  const std::size_t fewer = golden_->doubles("final.bbox").size() / 12;
  const CaseRun built =
      run_with_stages(build({{"DETRPostProcess.num_top_queries", std::to_string(fewer)}}), photo(), {});
  expect_detections(built.detections, fewer);
  DetectionSession session(LoadedEngine::open(build(), {}));
  const Image picture = photo();
  const ImageView view = picture;
  const Detections run =
      session.detect({&view, 1}, {.parameters = {.max_detections = static_cast<int>(fewer)}}).front();
  ASSERT_THAT(run.items, SizeIs(fewer));
  expect_equal(run, built.detections);
}

// A photo gives the same whatever stands beside it, in every precision.
TEST_P(PaddleDetection, BatchIsItsPhotosAlone) {
  const Engine engine(build(), {.tuning = quick_tuning()});
  Session session(engine);
  const Image first = photo(), second = read_image(fixture("images") / "chelsea.png");
  const std::vector<ImageView> photos{first, second, second, first};
  const std::vector<Detections> together = session.detect(photos);
  ASSERT_THAT(together, SizeIs(photos.size()));
  for (std::size_t i = 0; i < photos.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_FALSE(together[i].items.empty());
    expect_equal(together[i], session.detect(photos[i]));
  }
}

// The table of official configs says what the framework's files say.
TEST_P(PaddleDetection, OfficialNameIsItsConfig) {
  if (GetParam().device != "cpu") GTEST_SKIP() << "graphs are the same on all devices";
  const std::string name = GetParam().name;
  if (name.find("narrow") != std::string::npos) GTEST_SKIP() << "no official member";
  const auto text = [](const fs::path& engine) { return to_text(LoadedEngine::open(engine, {})->graph()); };
  EXPECT_EQ(text(build({}, {}, name + "_6x_coco")), text(build()));
}

// Both forms of the exported model detect what the checkpoint does, to the last bit but for the order in
// which batch norms and branches were folded.
TEST_P(PaddleDetection, TheExportedModelIsTheCheckpointsModel) {
  if (!case_.contains("export")) GTEST_SKIP() << "the case has no exported model";
  if (GetParam().device != "cpu") GTEST_SKIP() << "on the CPU: the graphs are the same";
  const fs::path archive = folder() / case_.at("export").at("archive").get<std::string>();
  ASSERT_TRUE(unpack(archive, scratch_.path())) << "cannot unpack " << archive;
  for (const char* form : {"export_pir", "export_legacy"}) {
    std::printf("  %s:\n", form);
    expect_detections(run_with_stages(build({}, form), photo(), {}).detections);
  }
}

std::vector<PaddleCase> on(const std::string& device, Precision precision) {
  return {{"mask_rtdetr_narrow", device, precision},
          {"rtdetr_hgnetv2_l", device, precision},
          {"mask_rtdetr_hgnetv2_l", device, precision}};
}

std::string case_name(const testing::TestParamInfo<PaddleCase>& c) { return c.param.name; }

INSTANTIATE_TEST_SUITE_P(Cases, PaddleDetection, testing::ValuesIn(on("cpu", Precision::kFp32)), case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp32, PaddleDetection, testing::ValuesIn(on("cuda", Precision::kFp32)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(CudaFp16, PaddleDetection, testing::ValuesIn(on("cuda", Precision::kFp16)),
                         case_name);

}  // namespace
}  // namespace osprey

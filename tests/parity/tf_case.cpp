#include "parity/tf_case.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>

#include <gmock/gmock.h>

#include "core/file.h"

namespace osprey {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::Ge;
using testing::SizeIs;

namespace {

constexpr double kAny = std::numeric_limits<double>::infinity();

TfBounds bounds_of(const json& tolerance, Precision precision) {
  if (precision == Precision::kFp16) return {.over_magnitude = 0.02, .box = kAny, .score = kAny};
  return {.over_deviation = tolerance.at("stage_max_abs_diff_over_std"),
          .box = tolerance.at("box_abs"),
          .score = tolerance.at("score_abs")};
}

// The value of golden element `flat`. Joined maps follow each other pixel by pixel, all channels of a pixel
// together, which is the order of one NHWC tensor too.
float value_at(const std::vector<const Tensor*>& maps, std::size_t flat) {
  for (const Tensor* map : maps) {
    const auto size = static_cast<std::size_t>(map->size());
    if (flat >= size) {
      flat -= size;
      continue;
    }
    const auto values = map->values<float>();
    if (map->shape().size() != 4) return values[flat];
    const auto c = static_cast<std::size_t>(map->dim(1)),
               pixels = static_cast<std::size_t>(map->dim(2) * map->dim(3));
    const std::size_t image = flat / (c * pixels), pixel = flat / c % pixels, channel = flat % c;
    return values[(image * c + channel) * pixels + pixel];
  }
  throw std::out_of_range("a golden array is longer than ours");
}

double deviation(const std::vector<double>& values) {
  double mean = 0, square = 0;
  for (const double v : values) mean += v / static_cast<double>(values.size());
  for (const double v : values) square += (v - mean) * (v - mean) / static_cast<double>(values.size());
  return std::sqrt(square);
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const TfCase& c) {
  return out << c.name << " (" << c.store << ") on " << c.device << " in " << name_of(c.precision);
}

std::string name_of(const TfCase& c) { return c.name + (c.store == "checkpoint" ? "" : "_" + c.store); }

void TfFixture::SetUp() {
  OSPREY_NEEDS_FIXTURE(folder())
  OSPREY_NEEDS_DEVICE(GetParam().device)
  const fs::path archive = folder() / "checkpoint.tar.xz";
  ASSERT_TRUE(unpack(archive, scratch_.path())) << "cannot unpack " << archive;
  golden_ = std::make_unique<GoldenArrays>(folder() / "golden.npz");
  case_ = json::parse(read_text(folder() / "case.json", 1 << 24));
  bounds_ = bounds_of(case_.at("tolerance"), GetParam().precision);
  std::cout << GetParam() << ":\n";
}

fs::path TfFixture::build(const std::vector<std::pair<std::string, std::string>>& overrides,
                          const std::string& config) const {
  fs::path engine = scratch_.path() / "model.osprey";
  build_engine({.source = scratch_.path() / GetParam().store, .config = config, .overrides = overrides},
               {.device = GetParam().device, .precision = GetParam().precision, .tuning = quick_tuning()},
               engine);
  return engine;
}

Image TfFixture::photo() const { return read_image(fixture("") / case_.at("image").get<std::string>()); }

CaseRun TfFixture::run(const fs::path& engine, const std::vector<std::string>& stages) const {
  return run_with_stages(engine, photo(), stages);
}

void TfFixture::expect_stage(const std::string& name, const std::vector<const Tensor*>& maps) const {
  const GoldenStage golden = golden_stage(*golden_, name);
  std::int64_t size = 0;
  for (const Tensor* map : maps) size += map->size();
  ASSERT_EQ(size, element_count(golden.shape)) << name;
  std::vector<std::pair<double, double>> values;
  for (std::size_t i = 0; i < golden.values.size(); ++i)
    values.emplace_back(golden.values[i], value_at(maps, i * static_cast<std::size_t>(golden.stride)));
  expect_values(name, values, golden);
}

void TfFixture::expect_rows(const std::string& name, const Tensor& ours,
                            const std::vector<std::optional<std::size_t>>& rows) const {
  const GoldenStage golden = golden_stage(*golden_, name);
  // Sizes of a row; some arrays have the image before their rows.
  const std::size_t first = golden.shape.at(0) == 1 ? 1 : 0;
  std::size_t row = 1;
  for (std::size_t d = first + 1; d < golden.shape.size(); ++d)
    row *= static_cast<std::size_t>(golden.shape[d]);
  ASSERT_EQ(static_cast<std::size_t>(ours.size()), row * static_cast<std::size_t>(ours.dim(0))) << name;
  std::vector<std::pair<double, double>> values;
  for (std::size_t i = 0; i < golden.values.size(); ++i) {
    const std::size_t flat = i * static_cast<std::size_t>(golden.stride);
    if (flat / row < rows.size() && rows[flat / row])
      values.emplace_back(golden.values[i], value_at({&ours}, *rows[flat / row] * row + flat % row));
  }
  ASSERT_FALSE(values.empty()) << name;
  expect_values(name, values, golden);
}

void TfFixture::expect_values(const std::string& name, const std::vector<std::pair<double, double>>& values,
                              const GoldenStage& golden) const {
  double worst = 0;
  for (const auto& [want, got] : values) worst = std::max(worst, std::abs(want - got));
  const double spread = deviation(golden.values);
  std::printf("  %-44s %.1e of the deviation, %.1e of the largest magnitude\n", name.c_str(), worst / spread,
              worst / golden.magnitude());
  if (bounds_.over_deviation > 0) {
    EXPECT_LE(worst, bounds_.over_deviation * spread) << name;
  }
  if (bounds_.over_magnitude > 0) {
    EXPECT_LE(worst, bounds_.over_magnitude * golden.magnitude()) << name;
  }
}

std::vector<ClassedBox> TfFixture::golden_detections() const {
  const Image picture = photo();
  const double height = picture.height, width = picture.width;
  const auto boxes = golden_->doubles("det__detection_boxes"),
             scores = golden_->doubles("det__detection_scores"),
             classes = golden_->doubles("det__detection_classes");
  const auto count = static_cast<std::size_t>(golden_->doubles("det__num_detections").at(0));
  std::vector<ClassedBox> golden;
  for (std::size_t i = 0; i < count; ++i) {
    const double* b = &boxes[4 * i];
    golden.push_back({{b[1] * width, b[0] * height, b[3] * width, b[2] * height},
                      static_cast<int>(classes[i]) - 1,
                      scores[i]});
  }
  return golden;
}

std::vector<std::pair<std::size_t, std::size_t>> TfFixture::expect_detections(const Detections& found,
                                                                              const Tensor* rows) const {
  const Image picture = photo();
  const double height = picture.height, width = picture.width;
  const auto golden = golden_detections();
  const auto indices = golden_->doubles("det__detection_anchor_indices");
  const auto got = classed_boxes(found);
  auto pairs = match_detections(golden, got, bounds_.iou);
  double box = 0, pixels = 0, score = 0;
  std::size_t other_rows = 0;
  for (const auto& [g, k] : pairs) {
    for (std::size_t c = 0; c < 4; ++c) {
      const double apart = std::abs(golden[g].box[c] - got[k].box[c]);
      pixels = std::max(pixels, apart);
      box = std::max(box, apart / (c % 2 == 0 ? width : height));
    }
    score = std::max(score, std::abs(golden[g].score - got[k].score));
    if (rows && rows->values<std::int32_t>()[k] != static_cast<std::int32_t>(indices[g])) ++other_rows;
  }
  std::printf("  detections: %zu of %zu matched, %zu found; boxes within %.1e (%.4f px), scores within %.1e",
              pairs.size(), golden.size(), got.size(), box, pixels, score);
  if (rows) std::printf("; %zu of other anchors", other_rows);
  std::printf("\n");
  EXPECT_THAT(pairs, SizeIs(Ge(golden.size() - std::min(golden.size(), bounds_.unmatched)))) << "missing";
  EXPECT_THAT(pairs, SizeIs(Ge(got.size() - std::min(got.size(), bounds_.unmatched)))) << "extra";
  EXPECT_LE(box, bounds_.box);
  EXPECT_LE(score, bounds_.score);
  if (GetParam().precision == Precision::kFp32) {
    EXPECT_LE(other_rows, bounds_.unmatched);
  }
  return pairs;
}

}  // namespace osprey

#include "engine/calibration.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"

namespace osprey {
namespace {

using ::testing::HasSubstr;

// A photo of 0..255 less 128, then three 1x1 convolutions with a pool between them.
Graph network(float first = 1, float mean = 128) {
  return parse_graph(fmt::format(R"(graph g
input photos: u8[N,H,W,3]
input sizes: i32[N,2]
weight one: f32[2,3,1,1] = {} 0.5 0.25 -1.0 2.0 0.0
weight two: f32[2,2,1,1] = 1.0 0.5 0.25 -1.0
resized, geometry = resize_image(photos, sizes) {{shortest=48, longest=64}}
image = normalize_image(resized, geometry) {{mean=[{:.1f}, 128.0, 128.0], std=[64.0, 64.0, 64.0]}}
first = conv(image, one) {{activation='relu'}}
pooled = max_pool(first) {{kernel=[2, 2]}}
second = conv(pooled, two)
scores = conv(second, two) {{f32_out=true}}
output scores
)",
                                 first, mean));
}

class CalibrationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::path(::testing::TempDir()) / (std::string("calibration_") + test->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    for (int i = 0; i < 5; ++i) options_.calibration_photos.push_back(photo(i));
    options_.calibration.cache = folder_ / "g.calib";
    options_.calibration.batch = 2;
    options_.threads = 1;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Noise that reaches further from one photo to the next, in sizes that change.
  std::filesystem::path photo(int i) const {
    const int width = 40 + 9 * i, height = 50;
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(3 * width * height));
    std::uint32_t random = 7u + static_cast<std::uint32_t>(i);
    for (std::uint8_t& p : pixels) {
      random = random * 1664525u + 1013904223u;
      p = static_cast<std::uint8_t>(100 + (random >> 24) % static_cast<std::uint32_t>(30 + 25 * i));
    }
    std::filesystem::path file = folder_ / fmt::format("{}.png", i);
    write_image(file, {.pixels = pixels.data(), .width = width, .height = height, .stride = 3 * width});
    return file;
  }

  std::string message(const Graph& graph) {
    try {
      calibrate(graph, options_);
    } catch (const Error& e) {
      return e.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }

  std::string bytes_of(const std::filesystem::path& cache) {
    options_.calibration.cache = cache;
    calibrate(network(), options_);
    return read_text(cache);
  }

  std::filesystem::path partial() const {
    std::filesystem::path out = options_.calibration.cache;
    out += ".partial";
    return out;
  }

  std::filesystem::path folder_;
  BuildOptions options_;
};

TEST_F(CalibrationTest, FindsTheRangesOfWhatLayersReadAndMake) {
  options_.calibration.method = CalibrationMethod::kMinMax;
  const Calibration got = calibrate(network(), options_);
  std::vector<std::string> names;
  for (const auto& [name, value] : got.found.values) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"first", "image", "pooled", "scores", "second"}));
  const CalibratedValue& image = got.found.values.at("image");
  EXPECT_EQ(image.least, (100 - 128) / 64.f);
  EXPECT_GT(image.largest, 1);
  EXPECT_LE(image.largest, (100 + 129 - 128) / 64.f);
  EXPECT_EQ(image.limit, image.largest);
  EXPECT_EQ(got.found.values.at("first").least, 0);
  EXPECT_EQ(got.found.values.at("first").largest, got.found.values.at("pooled").largest);
}

TEST_F(CalibrationTest, TwiceGivesTheSameBytesAndReadsBack) {
  const std::string first = bytes_of(folder_ / "a.calib");
  EXPECT_EQ(first, bytes_of(folder_ / "b.calib"));
  options_.threads = 2;
  EXPECT_EQ(first, bytes_of(folder_ / "c.calib"));
  options_.calibration_photos.clear();  // the cache alone will do
  const Calibration again = calibrate(network(), options_);
  ASSERT_EQ(again.remarks.size(), 1u);
  EXPECT_THAT(again.remarks[0], HasSubstr("c.calib"));
  write_cache(folder_ / "d.calib", again.found);
  EXPECT_EQ(first, read_text(folder_ / "d.calib"));
}

TEST_F(CalibrationTest, ADecisionReadsBackAndAnOldOneHasNoAnnotations) {
  CalibrationCache cache = calibrate(network(), options_).found;
  cache.decision = {.bound = "AP drop + 2 standard errors <= 0.002",
                    .kept = {{"first", 0.25}},
                    .searched = 3,
                    .photos = 1,
                    .layers = 3,
                    .change = 0.01,
                    .ap_drop = 0.001,
                    .ap_error = 0.0004,
                    .annotated = 128,
                    .annotations = "0123",
                    .tried = {{4, 0.003, 0.002, false}, {1, 0.001, 0.0004, true}}};
  write_cache(options_.calibration.cache, cache);
  const CalibrationCache read = read_cache(options_.calibration.cache);
  EXPECT_EQ(read.decision, cache.decision);
  // As it was written before margins.
  std::string text = read_text(options_.calibration.cache);
  const std::size_t begin = text.find(",\n  \"annotated\""), end = text.find("\n },\n \"values\"");
  ASSERT_LT(begin, end);
  write_file(options_.calibration.cache, text.erase(begin, end - begin));
  const Int8Decision old = read_cache(options_.calibration.cache).decision.value();
  EXPECT_EQ(old.ap_drop, 0.001);
  EXPECT_EQ(old.annotations, "");
  EXPECT_TRUE(old.tried.empty());
}

TEST_F(CalibrationTest, AnInterruptedOneGoesOnWhereItWas) {
  const std::string whole = bytes_of(folder_ / "whole.calib");
  options_.calibration.cache = folder_ / "cut.calib";
  struct Interrupted {};
  int photos = 0;
  options_.progress = [&](double, const std::string& what) {
    if (what.find("photo") != std::string::npos && ++photos == 4) throw Interrupted{};
  };
  EXPECT_THROW(calibrate(network(), options_), Interrupted);
  EXPECT_EQ(read_partial(partial()).photos, 2u);
  EXPECT_FALSE(std::filesystem::exists(options_.calibration.cache));
  std::vector<std::string> told;
  options_.progress = [&](double, const std::string& what) { told.push_back(what); };
  const Calibration rest = calibrate(network(), options_);
  EXPECT_THAT(rest.remarks.at(0), HasSubstr("went on after 2 of 5"));
  EXPECT_EQ(told.at(1), "calibrating, photo 3 of 5");
  EXPECT_EQ(read_text(options_.calibration.cache), whole);
  EXPECT_FALSE(std::filesystem::exists(partial()));
}

TEST_F(CalibrationTest, APartialFileOfAnotherCalibrationIsStartedOver) {
  write_partial(partial(), {{"another", "", "percentile", {"a", "b"}}, 1, {}, {}});
  EXPECT_TRUE(calibrate(network(), options_).remarks.empty());
}

TEST_F(CalibrationTest, ACacheOfSomethingElseIsRefusedWithTheReason) {
  calibrate(network(), options_);
  EXPECT_THAT(message(network(1.5f)), HasSubstr("another model"));
  EXPECT_THAT(message(network(1, 120)), HasSubstr("other preprocessing"));
  EXPECT_THAT(message(network(1, 120)), HasSubstr("mean=[120.0, 128.0, 128.0]"));
  options_.calibration.method = CalibrationMethod::kMse;
  EXPECT_THAT(message(network()), HasSubstr("the method percentile instead of mse"));
  options_.calibration.method = CalibrationMethod::kPercentile;
  options_.calibration_photos.pop_back();
  EXPECT_THAT(message(network()), HasSubstr("other photos (5, of which 4 are among the 4 given)"));
}

TEST_F(CalibrationTest, ADamagedCacheIsRefused) {
  calibrate(network(), options_);
  const std::string good = read_text(options_.calibration.cache);
  for (const std::string& text :
       {std::string(), std::string("[]"), good.substr(0, good.size() / 2), std::string("{\"format\": 1}"),
        std::string("{\"format\": \"osprey calibration 1\"}")}) {
    write_file(options_.calibration.cache, text);
    EXPECT_THAT(message(network()), HasSubstr("g.calib")) << text;
  }
  std::string negative = good;
  negative.replace(negative.find("\"limit\": "), 9, "\"limit\": -");
  write_file(options_.calibration.cache, negative);
  EXPECT_THAT(message(network()), HasSubstr("limit"));
}

TEST_F(CalibrationTest, PhotosThatCannotBeReadAreLeftOutAndNamed) {
  std::ofstream(folder_ / "bad.jpg") << "no picture";
  options_.calibration_photos.insert(options_.calibration_photos.begin(), folder_ / "bad.jpg");
  const Calibration got = calibrate(network(), options_);
  ASSERT_EQ(got.remarks.size(), 1u);
  EXPECT_THAT(got.remarks[0], HasSubstr("bad.jpg"));
  options_.calibration_photos.resize(1);
  options_.calibration.cache = folder_ / "none.calib";
  EXPECT_THAT(message(network()), HasSubstr("none of the 1 photos can be read"));
  options_.calibration_photos.clear();
  EXPECT_THAT(message(network()), HasSubstr("--calib-input"));
}

TEST_F(CalibrationTest, ValuesThatNeverChangeAreAnError) {
  const std::vector<std::uint8_t> grey(3 * 50 * 40, 128);
  options_.calibration_photos.resize(1);
  write_image(options_.calibration_photos[0],
              {.pixels = grey.data(), .width = 40, .height = 50, .stride = 120});
  EXPECT_THAT(message(network()), HasSubstr("is 0 everywhere"));
}

TEST_F(CalibrationTest, ValuesThatAreNotFiniteAreAnError) {
  EXPECT_THAT(message(network(3e38f)), HasSubstr("has values that are not finite"));
}

}  // namespace
}  // namespace osprey

#include "eval/detections_io.h"

#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "image/rle.h"
#include "osprey/error.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

Detections sample() {
  Detection cat{.class_index = 1, .score = .93f, .box = {10.1f, 20, 60.35f, 80}};
  cat.mask = rle_from_box({10, 20, 50, 60}, 100, 200);
  Detection person{.class_index = 0, .score = .5f, .box = {0, 0, 5, 5}};
  person.keypoints = {{1.5f, 2.5f, .75f}};
  return {200, 100, {cat, person}};
}

void write_json(const fs::path& file, const std::vector<std::string>& labels,
                const std::vector<ImageDetections>& images) {
  DetectionsJsonWriter out(file, "model.osprey", labels);
  for (const ImageDetections& image : images) out.add(image.file, image.detections);
  out.commit();
}

class DetectionsIo : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "osprey_eval_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_;
};

TEST_F(DetectionsIo, WritesDetectionsJson) {
  const std::vector<ImageDetections> images{{"dir/a \"b\".png", 1, sample()}, {"empty.png", 2, {3, 4, {}}}};
  write_json(folder_ / "d.json", {"person", "cat"}, images);
  const std::string text = read_text(folder_ / "d.json");
  EXPECT_NE(text.find(R"("score": 0.93, "box": [10.1, 20, 60.35, 80])"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["engine"], "model.osprey");
  EXPECT_EQ(json["images"][0]["file"], "dir/a \"b\".png");
  EXPECT_EQ(json["images"][1]["detections"].size(), 0u);
  const auto& cat = json["images"][0]["detections"][0];
  EXPECT_EQ(cat["class"], 1);
  EXPECT_EQ(cat["label"], "cat");
  EXPECT_EQ(cat["mask"]["size"], nlohmann::json({100, 200}));
  EXPECT_EQ(decompress_rle(cat["mask"]["counts"].get<std::string>(), 100, 200), *sample().items[0].mask);
  const auto& person = json["images"][0]["detections"][1];
  EXPECT_EQ(person["keypoints"][0], nlohmann::json({1.5, 2.5, .75}));
  EXPECT_FALSE(person.contains("mask"));
}

TEST_F(DetectionsIo, CocoResultsComeBack) {
  CocoResultsWriter out(folder_ / "r.json", {1, 17});
  out.add(42, sample());
  out.commit();
  CocoAnnotations truth{.source = "gt.json", .images = {{42, "a.png", 200, 100}}};
  const auto results = load_coco_results(folder_ / "r.json", truth, {.masks = true, .keypoints = true});
  ASSERT_EQ(results.entries.size(), 2u);
  EXPECT_EQ(results.entries[0].category_id, 17);
  EXPECT_EQ(results.entries[1].keypoints, (std::vector<double>{1, 2, .75}));  // indices of pixels

  EXPECT_EQ(results.entries[0].mask, sample().items[0].mask);
  EXPECT_EQ(results.entries[0].score, .93);
  ASSERT_TRUE(results.entries[0].box);
  EXPECT_NEAR((*results.entries[0].box)[2], 60.35 - 10.1, 1e-5);
}

TEST_F(DetectionsIo, InMemoryResultsOfMasksHaveNoBox) {
  CocoResults results;
  const std::vector<std::int64_t> categories{1, 17};
  append_coco_results(sample(), 42, categories, CocoType::kSegm, results);
  EXPECT_FALSE(results.entries[0].box);
  EXPECT_TRUE(results.entries[0].mask);
  const std::vector<std::int64_t> too_few{1};
  EXPECT_THROW(append_coco_results(sample(), 42, too_few, CocoType::kBbox, results), Error);
}

TEST_F(DetectionsIo, TsvHasARowForEach) {
  write_tsv(folder_ / "a.tsv", sample());
  EXPECT_EQ(read_text(folder_ / "a.tsv"), "10.1\t20\t60.35\t80\t1\t0.93\n0\t0\t5\t5\t0\t0.5\n");
}

TEST_F(DetectionsIo, NothingIsWrittenOfWhatIsNotFinite) {
  Detections broken = sample();
  broken.items[1].score = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THROW(write_tsv(folder_ / "a.tsv", broken), Error);
  const std::vector<ImageDetections> images{{"a.png", 42, broken}};
  EXPECT_THROW(write_json(folder_ / "d.json", {}, images), Error);
  EXPECT_TRUE(fs::is_empty(folder_));
}

}  // namespace
}  // namespace osprey

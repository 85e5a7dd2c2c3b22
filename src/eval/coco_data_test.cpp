#include "eval/coco_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "image/rle.h"
#include "osprey/error.h"

namespace osprey {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string truth_with(const std::string& annotation) {
  return R"({"info": {"a": ["}", "\\\"]"]}, "images": [{"id": 7, "width": 6, "height": 5, "file_name": "a.jpg"}],
             "categories": [{"id": 3, "name": "b\u00e9e"}], "annotations": [)" +
         annotation + "]}";
}

constexpr auto kGood =
    R"({"id": 1, "image_id": 7, "category_id": 3, "area": 6, "bbox": [1, 1, 3, 2], "iscrowd": 0,
    "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]], "keypoints": [1, 2, 2], "num_keypoints": 1})";

CocoAnnotations good_truth() { return parse_coco_annotations(truth_with(kGood), "gt.json", {}); }

// The message of the error that reading gives; empty if there is none.
std::string truth_error(const std::string& json, CocoParts parts = {}) {
  try {
    parse_coco_annotations(json, "gt.json", parts);
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
}
std::string annotation_error(const std::string& annotation, CocoParts parts = {}) {
  return truth_error(truth_with(annotation), parts);
}
std::string results_error(const std::string& json, CocoParts parts = {}) {
  try {
    parse_coco_results(json, "dt.json", good_truth(), parts);
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
}

TEST(CocoData, ReadsWhatIsAskedFor) {
  const auto plain = good_truth();
  ASSERT_EQ(plain.annotations.size(), 1u);
  EXPECT_EQ(plain.images[0].file_name, "a.jpg");
  EXPECT_EQ(plain.categories[0].name, "b\u00e9e");
  EXPECT_THAT(*plain.annotations[0].box, ElementsAre(1, 1, 3, 2));
  EXPECT_FALSE(plain.annotations[0].mask);
  EXPECT_TRUE(plain.annotations[0].keypoints.empty());

  const auto all = parse_coco_annotations(truth_with(kGood), "gt.json", {.masks = true, .keypoints = true});
  EXPECT_EQ(mask_area(*all.annotations[0].mask), 6);
  EXPECT_THAT(all.annotations[0].keypoints, ElementsAre(1, 2, 2));
}

TEST(CocoData, ReadsEveryFormOfMask) {
  const auto results = parse_coco_results(
      R"([{"image_id": 7, "category_id": 3, "score": 1, "segmentation": {"size": [5, 6], "counts": [6, 2, 22]}},
          {"image_id": 7, "category_id": 3, "score": 0.5, "segmentation": {"counts": "62f0", "size": [5, 6]}},
          {"image_id": 7, "category_id": 3, "score": 0.5, "bbox": [0, 0, 1, 1], "segmentation": "not read"},
          {"image_id": 7, "category_id": 3, "score": 0.5, "bbox": [], "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}])",
      "dt.json", good_truth(), {});
  EXPECT_THAT(results.entries[0].mask->counts, ElementsAre(6, 2, 22));
  EXPECT_FALSE(results.entries[2].mask);
  EXPECT_EQ(mask_area(*results.entries[3].mask), 4);
}

TEST(CocoData, MessagesNameFileEntryAndKey) {
  EXPECT_EQ(annotation_error(R"({"id": 5, "image_id": 7, "category_id": 3})"),
            "gt.json: annotation 0 (id 5): the key \"area\" is missing");
  EXPECT_EQ(annotation_error(std::string(kGood) + R"(, {"id": 6, "area": "big"})"),
            "gt.json: annotation 1 (id 6): area: expected a number, got a string");
  EXPECT_EQ(annotation_error(std::string(kGood) + "," + kGood),
            "gt.json: annotation 1: its id 1 is that of annotation 0 already");
  EXPECT_EQ(results_error(R"([{"image_id": 7, "category_id": 3, "score": 1, "bbox": [1, 2, 3]}])"),
            "dt.json: result 0: bbox: expected 4 numbers, got 3");
  EXPECT_EQ(results_error(R"([{"image_id": 7.5}])"),
            "dt.json: result 0: image_id: expected a whole number, got 7.5");
  EXPECT_EQ(results_error(R"([{"image_id": 7, "category_id": 3, "score": 1,
                               "segmentation": {"size": [5, 6], "counts": [9]}}])"),
            "dt.json: result 0: segmentation: mask: the run lengths add up to 9, expected 5 x 6 = 30");
  EXPECT_THAT(results_error(R"({"annotations": []})"), HasSubstr("expected an array at byte 0, got '{'"));
  EXPECT_THAT(truth_error("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(truth_error("{}"), HasSubstr("needs the keys"));
}

TEST(CocoData, DamagedJsonIsRefused) {
  const std::string json = truth_with(kGood);
  for (std::size_t size = 0; size < json.size(); ++size)
    EXPECT_NE(truth_error(json.substr(0, size)), "") << size;
  EXPECT_NE(truth_error(json + "x"), "");
  EXPECT_NE(annotation_error(R"({"id": 1 "area": 2})"), "");
  EXPECT_NE(annotation_error(R"({"id": NaN})"), "");
  EXPECT_NE(annotation_error(R"({"area": 1e999})"), "");
  EXPECT_NE(annotation_error("\"\xff\xfe\""), "");
  EXPECT_NE(annotation_error(std::string(2000, '[') + std::string(2000, ']')), "");
  EXPECT_NE(truth_error(std::string(1 << 20, '{')), "");
}

TEST(CocoData, HostileMasksAreRefused) {
  const auto mask_error = [](const std::string& mask) {
    return results_error(R"([{"image_id": 7, "category_id": 3, "score": 1, "segmentation": )" + mask + "}]");
  };
  EXPECT_EQ(mask_error(R"({"size": [5, 6], "counts": [30]})"), "");
  for (const auto* mask :
       {"[]", "[[1, 2]]", "[[1, 2, 3, 4]]", "[[1, 2, 3, 4, 5, 6, 7]]", "[[1, 2, 3, 4, 5, 1e300]]", "{}",
        "null", "3", R"({"size": [5, 6]})", R"({"counts": [30]})", R"({"size": [5, 6], "counts": [31]})",
        R"({"size": [5, 6], "counts": [-1, 31]})", R"({"size": [5, 6], "counts": [4294967295, 31]})",
        R"({"size": [99999, 99999], "counts": "0"})", R"({"size": [5e30, 6], "counts": "0"})",
        R"({"size": [-5, -6], "counts": [30]})", R"({"size": [5, 6], "counts": "oooooooo"})",
        R"({"size": [5, 6], "counts": "\u00ff"})"}) {
    EXPECT_NE(mask_error(mask), "") << mask;
  }
}

}  // namespace
}  // namespace osprey

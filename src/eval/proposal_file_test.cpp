#include "eval/proposal_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace osprey {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;

ProposalFile file_of(const std::string& text) {
  const auto owner = std::make_shared<const std::string>(text);
  return ProposalFile(Source{"p.file", as_bytes(*owner), owner});
}

std::vector<Proposal> of(const ProposalFile& file, std::initializer_list<std::string> names) {
  return file.of(std::vector<std::string>(names));
}

std::string error_of(auto&& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
  return "no error";
}

TEST(ProposalFile, CocoResultsByNumberOrName) {
  const ProposalFile file = file_of(R"([
    {"image_id": 139, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 7.5},
    {"image_id": "a7", "bbox": [0, 0, 1, 1], "score": 0},
    {"image_id": 3, "file_name": "some/where/x.jpg", "bbox": [1.5, 2, 3, 4], "score": -1},
    {"score": 2, "bbox": [1, 2, 3, 4], "image_id": 139}])");
  const auto both = of(file, {"139"});
  ASSERT_THAT(both, SizeIs(2));
  EXPECT_EQ(both[0].box, (Box{10, 20, 40, 60}));
  EXPECT_EQ(both[0].score, 7.5f);
  EXPECT_EQ(both[1].score, 2);
  EXPECT_THAT(of(file, {"a7.png", "a7"}), SizeIs(1));
  EXPECT_EQ(of(file, {"x.jpg", "139"})[0].box, (Box{1.5f, 2, 4.5f, 6}));
}

TEST(ProposalFile, DetectionsJsonByName) {
  const ProposalFile file = file_of(R"({"engine": "rpn.osprey", "images": [
    {"file": "a.png", "width": 9, "height": 9, "detections": [
      {"class": 0, "label": "object", "score": 3.25, "box": [1, 2, 3, 4]}]},
    {"file": "b.png", "width": 9, "height": 9, "detections": []}]})");
  ASSERT_THAT(of(file, {"a.png"}), SizeIs(1));
  EXPECT_EQ(of(file, {"a.png"})[0].box, (Box{1, 2, 3, 4}));
  EXPECT_THAT(of(file, {"b.png"}), SizeIs(0));
}

TEST(ProposalFile, AnImageThatIsNotThereIsNamed) {
  const ProposalFile file = file_of(R"([{"image_id": 1, "bbox": [0, 0, 1, 1], "score": 1}])");
  EXPECT_THAT(error_of([&] {
                of(file, {"cat.png", "cat"});
              }),
              AllOf(HasSubstr("p.file"), HasSubstr("cat.png, nor cat")));
}

TEST(ProposalFile, WhatIsWrongIsNamed) {
  const auto error = [](const std::string& text) { return error_of([&] { file_of(text); }); };
  EXPECT_THAT(error("[{\"image_id\": 1, \"bbox\": [0, 0, 1], \"score\": 1}]"),
              AllOf(HasSubstr("p.file: entry 0: bbox"), HasSubstr("4 numbers")));
  EXPECT_THAT(error("[{\"image_id\": 1, \"bbox\": [0, 0, 1, 1e300], \"score\": 1}]"), HasSubstr("bbox"));
  EXPECT_THAT(error("[{\"image_id\": 1, \"bbox\": [0, 0, 1, 1]}]"), HasSubstr("\"score\" is missing"));
  EXPECT_THAT(error("[{\"bbox\": [0, 0, 1, 1], \"score\": 1}]"), HasSubstr("\"image_id\""));
  EXPECT_THAT(error("{\"annotations\": []}"), HasSubstr("\"images\""));
  EXPECT_THAT(error("[{\"image_id\": 1"), HasSubstr("truncated"));
  EXPECT_THAT(error("nothing"), HasSubstr("p.file"));
  EXPECT_THAT(error(""), HasSubstr("p.file"));
}

// Written by numpy 2: Detectron2's form in protocol 3, Detectron's in protocol 2, and one of corners and
// sizes.
std::filesystem::path seed(const std::string& name) {
  return std::filesystem::path(OSPREY_SOURCE_DIR) / "fuzz" / "corpus" / "proposals" / name;
}

TEST(ProposalFile, PicklesOfDetectron) {
  const ProposalFile second(seed("detectron2_pickle"));
  const auto both = of(second, {"139"});
  ASSERT_THAT(both, SizeIs(2));
  EXPECT_EQ(both[0].box, (Box{10, 20, 40, 60}));
  EXPECT_EQ(both[0].score, -2.5f);
  EXPECT_EQ(both[1].box, (Box{1, 2, 3.5f, 4}));
  EXPECT_THAT(of(second, {"b"}), SizeIs(0));
  const auto first = of(ProposalFile(seed("detectron1_pickle")), {"7"});
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_EQ(first[0].box, (Box{10, 20, 30, 40}));
  EXPECT_EQ(first[0].score, 0.5f);
  EXPECT_EQ(of(ProposalFile(seed("sized_pickle")), {"5"}).at(0).box, (Box{10, 20, 40, 60}));
}

TEST(ProposalFile, PicklesThatAreNoneAreRefused) {
  EXPECT_THAT(error_of([] { file_of("\x80\x02]."); }), HasSubstr("a dict, this is a list"));
  EXPECT_THAT(error_of([] { file_of("\x80\x02}."); }), HasSubstr("\"ids\" (or \"indexes\")"));
  EXPECT_THAT(error_of([] {
                file_of(
                    "\x80\x02}U\x03ids]K\x01"
                    "as.");
              }),
              HasSubstr("\"boxes\""));
  EXPECT_THAT(error_of([] {
                file_of(
                    "\x80\x02}(U\x03ids]K\x01"
                    "aU\x05"
                    "boxes]U\x06scores]u.");
              }),
              HasSubstr("1 ids, 0 arrays of boxes"));
  EXPECT_THAT(error_of([] {
                file_of(
                    "\x80\x02"
                    "cposix\nsystem\n(U\x02lstR.");
              }),
              HasSubstr("posix.system"));
}

}  // namespace
}  // namespace osprey

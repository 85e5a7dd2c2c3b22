#include "formats/saved_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"

namespace osprey {
namespace {

using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

std::map<std::string, std::string> read(const std::string& name) {
  return read_saved_model(
      open_source(std::filesystem::path(OSPREY_SOURCE_DIR) / "fuzz" / "corpus" / "saved_model" / name));
}

std::string refusal(const std::string& name) {
  try {
    read(name);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    EXPECT_THAT(e.what(), HasSubstr(name + ": "));
    return e.what();
  }
  return "no error";
}

TEST(SavedModel, SignaturesAndMetadata) {
  EXPECT_THAT(read("good"),
              UnorderedElementsAre(
                  Pair("saved_model.tags", "serve"), Pair("saved_model.tensorflow_version", "2.15.1"),
                  Pair("saved_model.signature.serving_default.input.input_tensor", "uint8[1, ?, ?, 3]"),
                  Pair("saved_model.signature.serving_default.output.detection_boxes", "float[1, 100, 4]"),
                  Pair("saved_model.signature.serving_default.output.raw", "float[?...]")));
  EXPECT_EQ(read("two_graphs").count("saved_model2.tags"), 1u);
}

TEST(SavedModel, OthersAreRefusedByName) {
  EXPECT_THAT(refusal("bad_version"), HasSubstr("no SavedModel of version 1"));
  EXPECT_THAT(refusal("bad_frozen"), HasSubstr("a frozen graph?"));
  EXPECT_THAT(refusal("bad_many"), HasSubstr("more than 16 meta graphs"));
  EXPECT_THAT(refusal("bad_empty"), HasSubstr("it holds no graph"));
  EXPECT_THAT(refusal("bad_cut"), HasSubstr("is the file truncated?"));
}

}  // namespace
}  // namespace osprey

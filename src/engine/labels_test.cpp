#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file.h"
#include "engine/source.h"

namespace osprey {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Labels : public testing::Test {
 protected:
  ~Labels() override { std::filesystem::remove(file_); }

  std::vector<std::string> read(const std::string& text, std::size_t classes) {
    write_file(file_, text);
    std::vector<std::string> out;
    for (const Category& c : read_labels(file_, classes)) out.push_back(fmt::format("{} {}", c.id, c.name));
    return out;
  }

  std::string refusal(const std::string& text, std::size_t classes) {
    try {
      read(text, classes);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadInput);
      EXPECT_THAT(e.what(), HasSubstr(file_.string()));
      return e.what();
    }
    return "no error";
  }

  std::filesystem::path file_ =
      std::filesystem::temp_directory_path() / fmt::format("osprey_labels_test_{}", ::getpid());
};

TEST_F(Labels, Lines) {
  EXPECT_THAT(read("cat\ndog\r\n", 2), ElementsAre("1 cat", "2 dog"));
  EXPECT_THAT(read("item\nother\n", 2), ElementsAre("1 item", "2 other"));
}

TEST_F(Labels, LabelMaps) {
  EXPECT_THAT(read("# classes\nitem {\n  id: 2\n  name: 'dog'\n}\nitem {\n  name: 'cat'\n  id: 1\n}\n", 2),
              ElementsAre("1 cat", "2 dog"));
  EXPECT_THAT(read("item: { id: 1 name: '/m/1' display_name: 'Cat' }", 1), ElementsAre("1 Cat"));
}

TEST_F(Labels, IdsWithGapsAreClassesWhereTheModelHasThem) {
  const std::string map = "item { id: 1 name: 'cat' } item { id: 4 name: 'dog' }";
  EXPECT_THAT(read(map, 4), ElementsAre("1 cat", "2 class 2", "3 class 3", "4 dog"));
  EXPECT_THAT(read(map, 2), ElementsAre("1 cat", "4 dog"));
  EXPECT_THAT(refusal(map, 3), HasSubstr("has 2 class names, but the model has 3 classes"));
  EXPECT_THAT(read(R"({"categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}]})", 3),
              ElementsAre("1 cat", "2 class 2", "3 dog"));
}

TEST_F(Labels, BrokenLabelMapsAreRefusedByName) {
  EXPECT_THAT(refusal("item { id: 1 nmae: 'cat' }", 1), HasSubstr("has no name"));
  EXPECT_THAT(refusal("item { id: 1 name: 'cat' nmae: 'cat' }", 1),
              HasSubstr("item.nmae: is no field of a label map"));
  EXPECT_THAT(refusal("item { id: 0 name: 'cat' }", 1), HasSubstr("the id 0"));
  EXPECT_THAT(refusal("item { id: 1 name: 'cat' } item { id: 1 name: 'dog' }", 2),
              HasSubstr("two classes with the id 1"));
  EXPECT_THAT(refusal("item { id: 1 name: 'cat' ", 1), HasSubstr("label map:1:"));
}

}  // namespace
}  // namespace osprey

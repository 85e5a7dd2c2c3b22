#include "formats/protobuf_text.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "formats/config_reader.h"

namespace osprey {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

ConfigTree parse(const std::string& text) { return parse_protobuf_text(text, "pipeline.config").tree; }

std::string refusal(const std::string& text) {
  try {
    parse(text);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
  return "no error";
}

TEST(ProtobufText, MessagesAndScalars) {
  const ConfigTree tree = parse(R"(
# a comment
model {
  ssd: { num_classes: 90 }
  other < depth: -2, on: true; >
}
wide: 0x1F  octal: 017 small: 1e-3f tiny: .5 dot: 1. plus: 1E+2 minus: - 3
inf: inf neg: -Infinity not: nan
op: CONV  # an enum
big: 18446744073709551615
empty {}
)");
  EXPECT_EQ(tree.at("model.ssd.num_classes").as_int(), 90);
  EXPECT_EQ(tree.at("model.other.depth").as_int(), -2);
  EXPECT_TRUE(tree.at("model.other.on").as_bool());
  EXPECT_EQ(tree.at("wide").as_int(), 31);
  EXPECT_EQ(tree.at("octal").as_int(), 15);
  EXPECT_EQ(tree.at("small").as_double(), 1e-3);
  EXPECT_EQ(tree.at("tiny").as_double(), 0.5);
  EXPECT_EQ(tree.at("dot").as_double(), 1.0);
  EXPECT_EQ(tree.at("plus").as_double(), 100.0);
  EXPECT_EQ(tree.at("minus").as_int(), -3);
  EXPECT_EQ(tree.at("inf").as_double(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(tree.at("neg").as_double(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(tree.at("not").as_double()));
  EXPECT_EQ(tree.at("op").as_string(), "CONV");
  EXPECT_FALSE(tree.at("op").quoted);
  EXPECT_EQ(tree.at("big").as_double(), 18446744073709551615.0);
  EXPECT_TRUE(tree.at("empty").is_map());
  EXPECT_EQ(tree.at("model.ssd.num_classes").where(), "pipeline.config:4: model.ssd.num_classes");
}

TEST(ProtobufText, Strings) {
  const ConfigTree tree =
      parse("a: \"x\\n\\\"\\101\\x42\\u00e9\\U0001F600\" 'y'\n  # between\n  \"z\" b: '5'");
  EXPECT_EQ(tree.at("a").as_string(), "x\n\"AB\u00e9\U0001F600yz");
  EXPECT_TRUE(tree.at("a").quoted);
  EXPECT_THROW(tree.at("b").as_int(), Error);
}

TEST(ProtobufText, RepeatedFieldsAreListsInTheFilesOrder) {
  const ConfigTree tree = parse(
      "scales: 0.25 scales: [0.5, 1] one: 7 item { id: 1 } item { id: 2 } none: [] maps: [{a: 1}, <a: 2>]");
  EXPECT_THAT(tree.at("scales").as_doubles(), ElementsAre(0.25, 0.5, 1));
  EXPECT_EQ(tree.at("item.1.id").as_int(), 2);
  EXPECT_EQ(tree.at("item.1.id").path, "item.1.id");
  EXPECT_THAT(tree.at("none").items, IsEmpty());
  EXPECT_EQ(tree.at("maps.1.a").as_int(), 2);
  ConfigReader reader(tree);
  ASSERT_EQ(reader.repeated("one").size(), 1u);
  EXPECT_EQ(reader.repeated("one")[0]->as_int(), 7);
  EXPECT_EQ(reader.repeated("scales").size(), 3u);
  EXPECT_THAT(reader.repeated("absent"), IsEmpty());
}

TEST(ProtobufText, ExtensionsKeepTheirBrackets) {
  const ConfigTree tree = parse("[object_detection.thing] { a: 1 }");
  ASSERT_NE(tree.child("[object_detection.thing]"), nullptr);
  EXPECT_EQ(tree.child("[object_detection.thing]")->at("a").as_int(), 1);
}

TEST(ProtobufText, TheStraySOfTheOfficialMaskRcnnConfigIsAWarning) {
  const auto read = parse_protobuf_text(
      "eval_input_reader {\n  tf_record_input_reader {\n    input_path: \"PATH_TO_BE_CONFIGURED\"s\n  }\n}\n",
      "pipeline.config");
  EXPECT_EQ(read.tree.at("eval_input_reader.tf_record_input_reader.input_path").as_string(),
            "PATH_TO_BE_CONFIGURED");
  EXPECT_THAT(read.warnings, ElementsAre("pipeline.config:3: a stray 's' behind the string is passed over"));
  EXPECT_THAT(refusal("a: \"x\"t\n"), HasSubstr("pipeline.config:2:1: the end of the text where ':'"));
  EXPECT_THAT(refusal("a: \"x\" s\n"), HasSubstr("where ':' or '{' is expected"));
}

TEST(ProtobufText, ErrorsNameFileLineAndColumn) {
  EXPECT_EQ(refusal("model {\n  a: 1\n"),
            "pipeline.config:3:1: the end of the text, where '}' is expected (opened in line 1)");
  EXPECT_EQ(refusal("model {\n  a 1\n}"), "pipeline.config:2:5: \"1\" where ':' or '{' is expected");
  EXPECT_EQ(refusal("a: 12x"), "pipeline.config:1:7: \"12x\" is no number");
  EXPECT_EQ(refusal("}"), "pipeline.config:1:1: \"}\" where a field's name is expected");
  EXPECT_EQ(refusal("a: \"x\n\""), "pipeline.config:1:6: a string without its closing \"");
  EXPECT_EQ(refusal("a: [1, 2"),
            "pipeline.config:1:9: the end of the text where ',' or ']' is expected (opened in line 1)");
  EXPECT_THAT(refusal("a: -x"), HasSubstr("\"-x\" is no number"));
  EXPECT_THAT(refusal("a: 0xg"), HasSubstr("is no number"));
  EXPECT_THAT(refusal("a: \"\\q\""), HasSubstr("the escape \\q"));
  EXPECT_THAT(refusal("a: \"\\ud800\""), HasSubstr("is no character"));
  EXPECT_THAT(refusal("a: f"), HasSubstr("no error"));
  EXPECT_THAT(refusal("a: .f"), HasSubstr("is no number"));
  EXPECT_THAT(refusal("[x\n]: 1"), HasSubstr("without its ']'"));
}

TEST(ProtobufText, SizesAreBounded) {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "a {";
  EXPECT_THAT(refusal(deep), HasSubstr("more than 64 levels"));
  std::string many;
  for (int i = 0; i < 600'000; ++i) many += "a:1 ";
  EXPECT_THAT(refusal(many), HasSubstr("more than 500000 values"));
  EXPECT_THAT(refusal(std::string(5 << 20, ' ')), HasSubstr("bytes of text"));
  EXPECT_THAT(refusal(std::string(300, 'k') + ": 1"), HasSubstr("name of 300 bytes"));
}

TEST(ConfigReader, ReportsWhatWasNeverAskedFor) {
  const ConfigTree tree = parse(
      "model { ssd { num_classes: 3 typo: 1 anchors { scales: [1, 2] } unknown { a: 1 b: 2 } } }"
      "train { x: 1 } item { id: 1 nmae: 'a' } item { id: 2 }");
  ConfigReader reader(tree);
  EXPECT_EQ(reader.at("model.ssd.num_classes").as_int(), 3);
  reader.at("model.ssd.anchors.scales").as_doubles();
  reader.ignore("train");
  for (const ConfigTree* item : reader.repeated("item")) reader.at(*item, "id");
  std::vector<std::string> unread;
  for (const ConfigTree* node : reader.unread()) unread.push_back(node->path);
  EXPECT_THAT(unread, ElementsAre("model.ssd.typo", "model.ssd.unknown", "item.0.nmae"));
  EXPECT_EQ(reader.find("model.absent"), nullptr);
  EXPECT_THROW(reader.at("model.absent"), Error);
}

}  // namespace
}  // namespace osprey

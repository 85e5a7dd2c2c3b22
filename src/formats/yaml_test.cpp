#include "formats/yaml.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file.h"

namespace osprey {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// What the error of `body` says, or "" when there is none.
template <class Body>
std::string refusal(Body body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
  return {};
}

ConfigTree parse(const std::string& text) { return parse_yaml(text, "cfg.yaml"); }

TEST(Yaml, ScalarsMeanWhatPyYamlAndYacsMakeOfThem) {
  const auto tree = parse(R"(
yes_: yes
no_: Off
dec: 1_000
hex: 0xff
octal: 010
float_: 1.5
no_dot: 1e-4
inf: -.inf
none: None
empty:
tilde: ~
quoted: "20"
word: "yes"
tuple: (60000, 80000)
nested: "[(1, 2.5), ('a', None)]"
)");
  EXPECT_TRUE(tree.at("yes_").as_bool());
  EXPECT_FALSE(tree.at("no_").as_bool());
  EXPECT_EQ(tree.at("dec").as_int(), 1000);
  EXPECT_EQ(tree.at("hex").as_int(), 255);
  EXPECT_EQ(tree.at("octal").as_int(), 8);
  EXPECT_EQ(tree.at("float_").as_double(), 1.5);
  EXPECT_EQ(tree.at("no_dot").as_double(), 1e-4);
  EXPECT_EQ(tree.at("inf").as_double(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(tree.at("none").is_null());
  EXPECT_TRUE(tree.at("empty").is_null());
  EXPECT_TRUE(tree.at("tilde").is_null());
  EXPECT_EQ(tree.at("quoted").as_int(), 20);  // yacs evaluates quoted text, too
  EXPECT_EQ(tree.at("word").as_string(), "yes");
  EXPECT_THROW(tree.at("word").as_bool(), Error);
  EXPECT_THAT(tree.at("tuple").as_ints(), ElementsAre(60000, 80000));
  EXPECT_THAT(tree.at("nested.0").as_doubles(), ElementsAre(1, 2.5));
  EXPECT_EQ(tree.at("nested.1.0").as_string(), "a");
  EXPECT_TRUE(tree.at("nested.1.1").is_null());
}

TEST(Yaml, ErrorsNameFileLinePathAndValue) {
  const auto tree = parse("MODEL:\n  DEPTH: fifty\n");
  EXPECT_EQ(refusal([&] { tree.at("MODEL.DEPTH").as_int(); }),
            "cfg.yaml:2: MODEL.DEPTH: expected an integer, got \"fifty\"");
  EXPECT_EQ(refusal([&] { tree.at("MODEL.WIDTH"); }), "cfg.yaml:1: has no MODEL.WIDTH");
  EXPECT_THAT(refusal([] { parse("a: [1,\nb: 2\n"); }), HasSubstr("cfg.yaml:"));
  EXPECT_EQ(refusal([] { parse("a: 1\nb: 2\na: 3\n"); }),
            "cfg.yaml:3: the key \"a\" is there twice, first in line 1");
}

TEST(Yaml, TagsAreKeptAndNeverRun) {
  const auto tree = parse(R"(
SIZES: !!python/object/apply:eval ["[[x, x * 2**(1.0/3)] for x in [32, 64]]"]
sched: !PiecewiseDecay
  gamma: 0.1
name: !!str 20
)");
  EXPECT_EQ(tree.at("SIZES").tag, "!!python/object/apply:eval");
  EXPECT_EQ(tree.at("SIZES.0").as_string(), "[[x, x * 2**(1.0/3)] for x in [32, 64]]");
  EXPECT_EQ(tree.at("sched").tag, "!PiecewiseDecay");
  EXPECT_EQ(tree.at("sched.gamma").as_double(), 0.1);
  EXPECT_THROW(tree.at("name").as_int(), Error);
}

TEST(Yaml, AliasesAndMergeKeys) {
  const auto tree = parse("a: &a {x: 1, y: 2}\nb: *a\nc:\n  <<: *a\n  y: 3\nd:\n  <<: [{x: 5}, *a]\n");
  EXPECT_EQ(tree.at("b.y").as_int(), 2);
  EXPECT_EQ(tree.at("c.x").as_int(), 1);
  EXPECT_EQ(tree.at("c.y").as_int(), 3);
  EXPECT_EQ(tree.at("d.x").as_int(), 5);
  EXPECT_EQ(tree.at("d.y").as_int(), 2);
}

TEST(Yaml, BombsAreRefused) {
  std::string laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 12; ++i) {
    laughs += fmt::format("a{}: &a{} [", i, i);
    for (int j = 0; j < 9; ++j) laughs += fmt::format("{}*a{}", j ? ", " : "", i - 1);
    laughs += "]\n";
  }
  EXPECT_THAT(refusal([&] { parse(laughs); }), HasSubstr("more than 200000 values"));
  EXPECT_THAT(refusal([] { parse(std::string(100, '[')); }), HasSubstr("more than 64 levels"));
  EXPECT_THAT(refusal([] { parse("a: &a [*a]"); }), HasSubstr("contains it"));
  EXPECT_THAT(refusal([] { parse(std::string(2 << 20, ' ')); }), HasSubstr("bytes of YAML"));
}

class BaseChain : public testing::Test {
 protected:
  BaseChain() { std::filesystem::create_directories(folder_ / "sub"); }
  ~BaseChain() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& text) {
    write_file(folder_ / name, text);
    return folder_ / name;
  }

  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / fmt::format("osprey_yaml_test_{}", ::getpid());
};

TEST_F(BaseChain, MergesDeeplyAndTheChildWins) {
  write("base.yaml", "MODEL: {DEPTH: 50, SIZES: [1, 2], RPN: {N: 7}}\nA: 1\n");
  const auto file =
      write("sub/child.yaml", "_BASE_: ../base.yaml\nMODEL:\n  DEPTH: 101\n  SIZES: [3]\nB: 2\n");
  const auto tree = load_config(file);
  EXPECT_EQ(tree.at("MODEL.DEPTH").as_int(), 101);
  EXPECT_THAT(tree.at("MODEL.SIZES").as_ints(), ElementsAre(3));
  EXPECT_EQ(tree.at("MODEL.RPN.N").as_int(), 7);
  EXPECT_EQ(tree.at("A").as_int(), 1);
  EXPECT_EQ(tree.at("B").as_int(), 2);
  EXPECT_EQ(tree.find("_BASE_"), nullptr);
  EXPECT_THAT(tree.at("MODEL.RPN.N").where(), HasSubstr("base.yaml:1: MODEL.RPN.N"));
}

TEST_F(BaseChain, ListsOfBasesMergeInOrder) {
  write("one.yml", "x: 1\ny: 1\n");
  write("two.yml", "y: 2\n");
  const auto tree = load_config(write("main.yml", "_BASE_: [one.yml, two.yml]\nz: 3\n"));
  EXPECT_EQ(tree.at("x").as_int(), 1);
  EXPECT_EQ(tree.at("y").as_int(), 2);
  EXPECT_EQ(tree.at("z").as_int(), 3);
}

TEST_F(BaseChain, AskTheCallerForBasesThatAreNotOnDisk) {
  const auto find = [](const std::string& path) -> std::optional<std::string> {
    if (path == "../Base-FPN.yaml") return "_BASE_: common/C.yaml\nX: 1\nY: 1\n";
    if (path == "../common/C.yaml") return "Y: 0\nZ: 9\n";
    return std::nullopt;
  };
  const auto file = write("sub/user.yaml", "_BASE_: ../Base-FPN.yaml\nX: 2\n");
  const auto tree = load_config(file, find);
  EXPECT_EQ(tree.at("X").as_int(), 2);
  EXPECT_EQ(tree.at("Y").as_int(), 1);
  EXPECT_EQ(tree.at("Z").as_int(), 9);
  EXPECT_THAT(refusal([&] { load_config(file); }), HasSubstr("Base-FPN.yaml does not exist"));
}

TEST_F(BaseChain, CyclesAndPathsElsewhereAreRefused) {
  write("a.yaml", "_BASE_: b.yaml\n");
  const auto file = write("b.yaml", "_BASE_: sub/../a.yaml\n");
  EXPECT_THAT(refusal([&] { load_config(file); }), HasSubstr("own base"));
  for (const char* path : {"/etc/hostname", "https://example.com/a.yaml", "~/a.yaml"})
    EXPECT_THAT(refusal([&] { load_config(write("c.yaml", fmt::format("_BASE_: {}\n", path))); }),
                HasSubstr("no path relative to this file"));
}

TEST(Config, OverridesParseValuesAsYacsDoes) {
  auto tree = parse("MODEL: {ROI_HEADS: {NUM_CLASSES: 80}, SIZES: [[32], [64]]}\n");
  set_by_path(tree, "MODEL.ROI_HEADS.NUM_CLASSES", "20");
  set_by_path(tree, "MODEL.SIZES.1", "(1, 2)");
  set_by_path(tree, "MODEL.WEIGHTS", "a/model.pkl");
  set_by_path(tree, "SOLVER.BASE_LR", "1e-3");
  set_by_path(tree, "MODEL.MASK_ON", "False");
  EXPECT_EQ(tree.at("MODEL.ROI_HEADS.NUM_CLASSES").as_int(), 20);
  EXPECT_THAT(tree.at("MODEL.SIZES.1").as_ints(), ElementsAre(1, 2));
  EXPECT_EQ(tree.at("MODEL.WEIGHTS").as_string(), "a/model.pkl");
  EXPECT_EQ(tree.at("SOLVER.BASE_LR").as_double(), 1e-3);
  EXPECT_FALSE(tree.at("MODEL.MASK_ON").as_bool());
  EXPECT_EQ(tree.at("SOLVER.BASE_LR").where(), "config: SOLVER.BASE_LR");
  EXPECT_THAT(refusal([&] { set_by_path(tree, "MODEL.WEIGHTS.X", "1"); }), HasSubstr("has no X"));
  EXPECT_THAT(refusal([&] { set_by_path(tree, "MODEL..X", "1"); }), HasSubstr("no path of keys"));
}

}  // namespace
}  // namespace osprey

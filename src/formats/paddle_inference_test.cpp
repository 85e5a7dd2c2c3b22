#include "formats/paddle_inference.h"

#include <cstring>

#include <gmock/gmock.h>

#include "core/file.h"
#include "formats/fixture_files.h"
#include "formats/onnx_wire.h"

namespace osprey {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string varint_field(std::uint32_t number, std::uint64_t value) {
  std::string out(1, static_cast<char>(number << 3));
  for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
  return out + static_cast<char>(value);
}

std::string part(std::uint32_t number, const std::string& payload) {
  return wire_head(number, payload.size()) + payload;
}

template <class T>
std::string raw(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

// A parameter of the file, of type f32.
std::string parameter(const std::vector<std::uint64_t>& extents, const std::vector<float>& values) {
  std::string desc = varint_field(1, 5);
  for (const std::uint64_t extent : extents) desc += varint_field(2, extent);
  std::string out = raw<std::uint32_t>(0) + raw<std::uint64_t>(0) + raw<std::uint32_t>(0) +
                    raw(static_cast<std::int32_t>(desc.size())) + desc;
  for (const float v : values) out += raw(v);
  return out;
}

// In the order of their names: conv2d_0.w_0, norm_0.b_0, norm_0.w_0, norm_0.w_1, spare.
std::string parameters() {
  return parameter({1, 2}, {1, 2}) + parameter({1}, {3}) + parameter({1}, {4}) + parameter({1}, {5}) +
         parameter({}, {6});
}

constexpr const char* kPir =
    R"({"base_code":{"magic":"pir"},"program":{"regions":[{"#":"region_0","blocks":[{"ops":[
  {"#":"p","A":[0,1,1,"spare"],"O":{"%":1}}, {"#":"p","A":[0,1,1,"norm_0.w_0"],"O":{"%":2}},
  {"#":"p","A":[0,1,1,"norm_0.b_0"],"O":{"%":3}}, {"#":"p","A":[0,1,1,"norm_0.w_1"],"O":{"%":4}},
  {"#":"p","A":[0,1,1,"conv2d_0.w_0"],"O":{"%":5}},
  {"#":"1.conv2d","I":[{"%":9},{"%":5}],"O":[{"%":6}]},
  {"#":"1.norm","I":[{"%":6},{"%":4},{"%":3},{"%":2}],"O":[{"%":7}]}]}]}]}})";

std::string program_desc() {
  const auto variable = [](const std::string& name, bool persistable) {
    return part(3, part(1, name) + varint_field(3, persistable ? 1 : 0));
  };
  const auto operation = [](const std::vector<std::string>& arguments) {
    std::string inputs;
    for (const std::string& a : arguments) inputs += part(1, part(1, "X") + part(2, a));
    return part(4, inputs + part(3, "op"));
  };
  std::string block;
  for (const char* name : {"spare", "norm_0.w_0", "norm_0.b_0", "norm_0.w_1", "conv2d_0.w_0", "feed"})
    block += variable(name, true);
  block += variable("x", false);
  return part(1, block + operation({"x", "conv2d_0.w_0"}) +
                     operation({"y", "norm_0.b_0", "norm_0.w_1", "norm_0.w_0"}));
}

Source source(const std::string& name, const std::string& text) {
  const auto copy = std::make_shared<std::string>(text);
  return {.name = name, .bytes = as_bytes(*copy), .owner = copy};
}

std::string refusal(const std::string& program, const std::string& data) {
  try {
    read_paddle_inference(source("x.json", program), source("x.pdiparams", data));
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    return e.what();
  }
  return "no error";
}

TEST(PaddleInference, BothProgramsTellTheOrderOfUse) {
  for (const std::string& program : {std::string(kPir), program_desc()}) {
    const Checkpoint got =
        read_paddle_inference(source("x.json", program), source("x.pdiparams", parameters()));
    std::vector<std::string> names;
    std::vector<float> values;
    for (const NamedTensor& t : got.tensors)
      names.push_back(t.name), values.push_back(t.load().to_f32().values<float>()[0]);
    EXPECT_THAT(names, ElementsAre("conv2d_0.w_0", "norm_0.w_0", "norm_0.b_0", "norm_0.w_1"));
    EXPECT_THAT(values, ElementsAre(1, 4, 3, 5));
    EXPECT_EQ(got.tensors[0].shape, (Shape{1, 2}));
    EXPECT_EQ(got.scalars.at("spare"), "[], which no operation uses");
  }
}

TEST(PaddleInference, DamageIsBadInputThatNamesTheFile) {
  const std::string good = parameters();
  EXPECT_THAT(refusal(kPir, good.substr(0, good.size() - 1)), HasSubstr("x.pdiparams"));
  EXPECT_THAT(refusal(kPir, good + "x"), HasSubstr("behind the last of 5 parameters"));
  EXPECT_THAT(refusal("{}", good), HasSubstr("x.json: a program without a program"));
  EXPECT_THAT(refusal("{", good), HasSubstr("is no JSON"));
  EXPECT_THAT(refusal("", good), HasSubstr("without parameters"));
  EXPECT_THAT(refusal("\x0a\xff", good), HasSubstr("x.json"));
  EXPECT_THAT(
      refusal(R"({"program":{"regions":[{"blocks":[{"ops":[{"#":"p","A":[1],"O":{"%":1}}]}]}]}})", good),
      HasSubstr("a parameter without a name"));
  EXPECT_THAT(refusal(kPir, parameter({1ull << 62, 1ull << 62}, {})), HasSubstr("x.pdiparams"));
  EXPECT_THAT(refusal(kPir, parameter({~0ull}, {})), HasSubstr("x.pdiparams"));
  std::string levels = good;
  levels[4] = 1;
  EXPECT_THAT(refusal(kPir, levels), HasSubstr("no tensor without levels"));
}

TEST(PaddleInference, IsFoundByFolderOrFile) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "osprey_paddle_inference";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder);
  EXPECT_FALSE(find_paddle_inference(folder).has_value());
  write_file(folder / "model.json", kPir);
  EXPECT_FALSE(find_paddle_inference(folder).has_value());
  write_file(folder / "model.pdiparams", parameters());
  for (const std::filesystem::path& path : {folder, folder / "model.json", folder / "model.pdiparams"}) {
    const auto found = find_paddle_inference(path);
    ASSERT_TRUE(found.has_value()) << path;
    EXPECT_EQ(found->program, folder / "model.json");
    EXPECT_EQ(read_paddle_inference(*found).tensors.size(), 4u);
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace osprey

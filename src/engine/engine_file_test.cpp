#include "engine/engine_file.h"

#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/file.h"

namespace osprey {
namespace {

constexpr const char* kText = R"(graph small
input x: f32[N,2,32*h,32*w]
weight w: f32[2,2,1,1] = 1.0 2.0 3.0 4.0
weight b: f32[2] = 0.5 -0.5
y = conv(x, w, b) {activation='relu'} @layer : f32[N,2,32*h,32*w]
z = max_pool(y) {pads=[1, 1, 1, 1]} : f32[N,2,16*h,16*w]
output z
)";

class EngineFile : public ::testing::Test {
 protected:
  std::filesystem::path path_ =
      std::filesystem::temp_directory_path() / fmt::format("osprey_engine_{}.osprey", ::getpid());
  EngineData data_;
  void SetUp() override {
    data_.model.graph = parse_graph(kText);
    data_.model.family = "test";
    data_.model.categories = {{"cat", 17}, {"dog", 18}};
    data_.model.metadata = {{"config", "small.yaml"}};
    data_.version = "0";
    data_.device = "cpu";
    data_.precision = "fp32";
  }
  void TearDown() override { std::filesystem::remove(path_); }
};

TEST_F(EngineFile, ReadsBackWhatWasWritten) {
  write_engine(path_, data_);
  const EngineData back = read_engine(path_);
  EXPECT_EQ(to_text(back.model.graph), kText);
  ASSERT_EQ(back.model.categories.size(), 2u);
  EXPECT_EQ(back.model.categories[1].name, "dog");
  EXPECT_EQ(back.model.metadata.at("config"), "small.yaml");
  EXPECT_EQ(back.device, "cpu");
}

TEST_F(EngineFile, TheSameModelGivesTheSameBytes) {
  write_engine(path_, data_);
  const std::string first = read_text(path_);
  write_engine(path_, read_engine(path_));
  EXPECT_EQ(read_text(path_), first);
}

TEST_F(EngineFile, EveryDamagedByteAndEveryCutIsRefused) {
  write_engine(path_, data_);
  const std::string whole = read_text(path_);
  int refused = 0;
  const auto expect_refused = [&](const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    try {
      read_engine(path_);
      ADD_FAILURE() << "a damaged engine was read";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadInput);
      EXPECT_NE(std::string(e.what()).find(path_.string()), std::string::npos);
      ++refused;
    }
  };
  for (std::size_t i = 0; i < 100; i += 3) {
    std::string bytes = whole;
    bytes[i] = static_cast<char>(bytes[i] ^ 0x41);
    expect_refused(bytes);
  }
  for (std::size_t cut = 0; cut < whole.size(); cut += 97) expect_refused(whole.substr(0, cut));
  EXPECT_GT(refused, 40);
}

// Behind the hashes: whatever the bytes say, reading throws our error or gives a graph that verifies.
TEST_F(EngineFile, MutationsBehindTheHashesNeverCrash) {
  write_engine(path_, data_);
  const std::string whole = read_text(path_);
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    std::string bytes = whole;
    for (int k = 0; k < 3; ++k) bytes[random() % bytes.size()] = static_cast<char>(random());
    std::ofstream(path_, std::ios::binary) << bytes;
    try {
      verify(read_engine(path_, HashCheck::kNone).model.graph);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    }
  }
}

}  // namespace
}  // namespace osprey

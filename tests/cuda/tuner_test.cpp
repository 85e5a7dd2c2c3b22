// The tuner with made-up measurements: no GPU is needed.
#include "cuda/tuner.h"

#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/file.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

class Tuner : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              fmt::format("osprey_tuner_{}_{}",
                          ::testing::UnitTest::GetInstance()->current_test_info()->name(), ::getpid());
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  CudaTuner tuner(double budget = 60, const std::string& machine = "NVIDIA Test cudnn 9") {
    return CudaTuner(machine, budget, folder_,
                     [this](double, const std::string& what) { reports_.push_back(what); });
  }

  fs::path folder_;
  std::vector<std::string> reports_;
};

const std::vector<std::string> kNames{"slow", "broken", "fast", "middling"};

// Counts what is measured.
struct Fake {
  std::vector<std::optional<double>> seconds{3.0, std::nullopt, 1.0, 2.0};
  int measured = 0;
  CudaTuner::Measure measure() {
    return [this](std::size_t i) {
      ++measured;
      return seconds[i];
    };
  }
};

TEST_F(Tuner, TakesTheFastestAndRemembersIt) {
  Fake fake;
  {
    CudaTuner first = tuner();
    EXPECT_FALSE(first.find("conv"));
    EXPECT_EQ(first.choose("conv", kNames, fake.measure()), 2u);
    EXPECT_EQ(fake.measured, 4);
    EXPECT_EQ(first.find("conv")->name, "fast");
  }
  CudaTuner second = tuner();
  ASSERT_TRUE(second.find("conv"));
  EXPECT_EQ(second.find("conv")->name, "fast");
  EXPECT_EQ(second.find("conv")->saved, "");
  EXPECT_FALSE(second.find("other"));
}

// Both go through the same layers at the same time: what one returns is what it will find.
TEST_F(Tuner, TakesWhatAnotherProcessRememberedMeanwhile) {
  CudaTuner first = tuner(), second = tuner();
  Fake fake, other{.seconds = {1.0, 2.0, 3.0, 4.0}};
  EXPECT_EQ(first.choose("conv", kNames, fake.measure()), 2u);
  EXPECT_EQ(second.choose("conv", kNames, other.measure()), 2u);
  EXPECT_EQ(second.find("conv")->name, "fast");
}

TEST_F(Tuner, KnowsWhatItGuessed) {
  CudaTuner none = tuner(0);
  EXPECT_FALSE(none.has_guess("conv"));
  Fake fake;
  none.choose("conv", kNames, fake.measure());
  EXPECT_TRUE(none.has_guess("conv"));
}

TEST_F(Tuner, APauseIsOneThreadsAndLeavesNoGuess) {
  CudaTuner t = tuner();
  Fake fake;
  {
    const CudaTuner::Pause pause(t);
    EXPECT_EQ(t.seconds_left(), 0);
    EXPECT_EQ(t.choose("conv", kNames, fake.measure()), 0u);
    EXPECT_EQ(fake.measured, 0);
    EXPECT_FALSE(t.has_guess("conv"));
    std::thread([&] { EXPECT_EQ(t.choose("other", kNames, fake.measure()), 2u); }).join();
  }
  EXPECT_GT(t.seconds_left(), 0);
  EXPECT_EQ(t.choose("conv", kNames, fake.measure()), 2u);
  EXPECT_EQ(t.find("conv")->name, "fast");
}

TEST_F(Tuner, WithoutBudgetNothingIsMeasuredOrWritten) {
  Fake fake;
  CudaTuner none = tuner(0);
  EXPECT_EQ(none.choose("conv", kNames, fake.measure()), 0u);
  EXPECT_EQ(fake.measured, 0);
  EXPECT_FALSE(none.find("conv"));
  EXPECT_FALSE(fs::exists(none.file()));
}

TEST_F(Tuner, ABudgetSpentHalfwayGivesTheBestSoFarAndLeavesTheRestForNextTime) {
  CudaTuner brief = tuner(0.4);
  const auto measure = [](std::size_t i) -> std::optional<double> {
    if (i == 2) std::this_thread::sleep_for(std::chrono::milliseconds(450));
    EXPECT_LE(i, 2u);
    return i == 1 ? 1.0 : 2.0;
  };
  EXPECT_EQ(brief.choose("conv", {"a", "b", "c", "d", "e"}, measure), 1u);
  EXPECT_FALSE(brief.find("conv"));
  EXPECT_EQ(brief.seconds_left(), 0);
  Fake fake;
  EXPECT_EQ(brief.choose("next", kNames, fake.measure()), 0u);
  EXPECT_EQ(fake.measured, 0);
}

TEST_F(Tuner, WhatIsMeasuredOutsideIsCharged) {
  CudaTuner brief = tuner(0.05);
  {
    const CudaTuner::Spending spending(brief);
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
  }
  EXPECT_EQ(brief.seconds_left(), 0);
  Fake fake;
  EXPECT_EQ(brief.choose("conv", kNames, fake.measure()), 0u);
  EXPECT_EQ(fake.measured, 0);
}

TEST_F(Tuner, NothingWorks) {
  CudaTuner t = tuner();
  EXPECT_EQ(t.choose("conv", {"a", "b"}, [](std::size_t) { return std::nullopt; }), 0u);
  EXPECT_FALSE(t.find("conv"));
  EXPECT_EQ(t.choose("empty", {}, [](std::size_t) { return 1.0; }), 0u);
  EXPECT_FALSE(t.find("empty"));
}

TEST_F(Tuner, AnotherMachineFindsNothing) {
  Fake fake;
  {
    CudaTuner first = tuner();
    first.choose("conv", kNames, fake.measure());
  }
  EXPECT_FALSE(tuner(60, "NVIDIA Other cudnn 9").find("conv"));
  EXPECT_TRUE(tuner().find("conv"));
}

TEST_F(Tuner, SavesWhatRestoresAChoice) {
  Fake fake;
  const std::string code("\0\xff\n compiled", 12);
  {
    CudaTuner first = tuner();
    first.choose("conv", kNames, fake.measure());
    first.save("conv", {"slow", "of another choice"});
    EXPECT_EQ(first.find("conv")->saved, "");
    first.save("conv", {"fast", code});
    first.save("never chosen", {"fast", code});
  }
  CudaTuner second = tuner();
  EXPECT_EQ(second.find("conv")->saved, code);
  second.forget("conv");
  EXPECT_FALSE(second.find("conv"));
  EXPECT_FALSE(tuner().find("conv"));
}

TEST_F(Tuner, ADamagedFileIsBegunAnewWithAWarning) {
  const fs::path file = tuner().file();
  fs::create_directories(folder_);
  for (const std::string& text :
       {std::string("{\"format\": 1, \"mach"), std::string("[]"), std::string(),
        std::string("\xff\xfe\0x", 4),
        std::string(
            R"({"format": 1, "machine": "NVIDIA Test cudnn 9", "choices": {"conv": {"name": 7}}})")}) {
    reports_.clear();
    std::ofstream(file, std::ios::binary) << text;
    CudaTuner t = tuner();
    EXPECT_FALSE(t.find("conv")) << text;
    ASSERT_FALSE(reports_.empty()) << text;
    EXPECT_NE(reports_[0].find("warning"), std::string::npos) << reports_[0];
    Fake fake;
    EXPECT_EQ(t.choose("conv", kNames, fake.measure()), 2u);
    EXPECT_EQ(tuner().find("conv")->name, "fast");
  }
}

TEST_F(Tuner, FilesOfOtherFormatsAndMachinesAreLeftOut) {
  const fs::path file = tuner().file();
  fs::create_directories(folder_);
  for (const char* text :
       {R"({"format": "1"})", R"({"format": 2, "machine": "NVIDIA Test cudnn 9", "choices": {}})",
        R"({"format": 1, "machine": "elsewhere", "choices": {"conv": {"name": "x", "seconds": 1}}})"}) {
    std::ofstream(file, std::ios::binary) << text;
    EXPECT_FALSE(tuner().find("conv"));
  }
}

TEST_F(Tuner, AFolderThatCannotBeWrittenCostsOnlyTheMemory) {
  std::ofstream(folder_) << "a file where the folder should be";
  CudaTuner t = tuner();
  Fake fake;
  EXPECT_EQ(t.choose("conv", kNames, fake.measure()), 2u);
  EXPECT_EQ(t.find("conv")->name, "fast");
  EXPECT_EQ(t.choose("next", kNames, fake.measure()), 2u);
  EXPECT_EQ(std::count_if(reports_.begin(), reports_.end(),
                          [](const std::string& r) { return r.find("warning") != std::string::npos; }),
            1);
}

TEST_F(Tuner, WritersSideBySideLoseNothing) {
  constexpr int kWriters = 4, kKeys = 8;
  std::vector<std::thread> threads;
  for (int w = 0; w < kWriters; ++w)
    threads.emplace_back([&, w] {
      CudaTuner mine("NVIDIA Test cudnn 9", 60, folder_, {});
      for (int k = 0; k < kKeys; ++k) {
        const std::string key = fmt::format("{} {}", w, k);
        mine.choose(key, kNames, [](std::size_t i) { return i == 2 ? 1.0 : 2.0; });
        mine.save(key, {"fast", key});
        mine.choose("shared", kNames, [&](std::size_t i) { return static_cast<int>(i) == w ? 1.0 : 2.0; });
      }
    });
  for (std::thread& thread : threads) thread.join();
  CudaTuner after = tuner();
  EXPECT_TRUE(reports_.empty());
  for (int w = 0; w < kWriters; ++w)
    for (int k = 0; k < kKeys; ++k) {
      const std::string key = fmt::format("{} {}", w, k);
      ASSERT_TRUE(after.find(key)) << key;
      EXPECT_EQ(after.find(key)->saved, key);
    }
  EXPECT_TRUE(after.find("shared"));
  const auto root = nlohmann::json::parse(read_text(after.file()));
  EXPECT_EQ(root.at("choices").size(), kWriters * kKeys + 1u);
}

TEST_F(Tuner, ReportsWhatIsMeasured) {
  CudaTuner t = tuner();
  t.announce(0.5, "res2.0.conv1");
  t.choose("conv", {"a", "b"}, [](std::size_t) { return 1.0; });
  EXPECT_EQ(reports_, (std::vector<std::string>{"res2.0.conv1: a", "res2.0.conv1: b"}));
}

}  // namespace
}  // namespace osprey

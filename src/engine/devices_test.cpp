#include "engine/devices.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace osprey {
namespace {

std::shared_ptr<const Graph> small_graph() {
  return std::make_shared<const Graph>(parse_graph(R"(graph g
input x: f32[N,4]
y = activate(x)
output y
)"));
}

ErrorCode code_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

TEST(Devices, NamesAreReadAndWritten) {
  for (const char* name : {"cpu", "cuda:0", "cuda:12"}) EXPECT_EQ(to_string(parse_device(name)), name);
  EXPECT_EQ(to_string(parse_device("cuda")), "cuda:0");
  for (const char* name : {"", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999", "cpu:0"})
    EXPECT_EQ(code_of([&] { parse_device(name); }), ErrorCode::kUsage) << name;
}

TEST(Devices, TheCpuRefusesPrecisionsThatItHasNot) {
  const DeviceName cpu, cuda{.cuda = true};
  for (const Precision p : {Precision::kFp32, Precision::kBf16, Precision::kInt8}) check_precision(cpu, p);
  check_precision(cuda, Precision::kInt8);
  for (const Precision p : {Precision::kTf32, Precision::kFp16}) {
    EXPECT_EQ(code_of([&] { check_precision(cpu, p); }), ErrorCode::kUsage);
    check_precision(cuda, p);
  }
  EXPECT_EQ(code_of([&] { make_executor(small_graph(), cpu, "fp16", {}); }), ErrorCode::kUsage);
  EXPECT_TRUE(make_executor(small_graph(), cpu, "tf32", {}));
}

// Whatever a device lacks, the process goes on with another.
TEST(Devices, AfterAMissingGpuOthersStillRun) {
  const auto no_such = static_cast<int>(cuda_report().gpus.size());
  EXPECT_EQ(code_of([&] { make_executor(small_graph(), {.cuda = true, .index = no_such}, "fp32", {}); }),
            ErrorCode::kDevice);
  EXPECT_TRUE(make_executor(small_graph(), {}, "fp32", {})->session());
  for (const Gpu& gpu : cuda_report().gpus)
    EXPECT_TRUE(make_executor(small_graph(), {.cuda = true, .index = gpu.index}, "fp32", {})->session());
}

TEST(Devices, PhotosAreDecodedWhereTheyRun) {
  EXPECT_EQ(code_of([&] { gpu_reader({}); }), ErrorCode::kUsage);
  const std::filesystem::path file = OSPREY_SOURCE_DIR "/assets/demo/scenes/scene_23_0000.jpg";
  const auto reader = exact_reader();
  const ImageView first = reader->read(file, 0), second = reader->read(file, 1);
  EXPECT_NE(first.pixels, second.pixels);
  EXPECT_EQ(first.width, read_image(file).width);
}

TEST(Devices, EveryKernelThatCudaLacksIsNamed) {
  if (!cuda_report().built) GTEST_SKIP() << "this build has no CUDA";
  const Graph graph = parse_graph(R"(graph g
input x: f64[N,4]
y = cast(x) @layer
output y
)");
  try {
    check_kernels(graph, {.cuda = true});
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadInput);
    for (const char* part : {"layer", "cast", "f64"})
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
  check_kernels(graph, {});
}

}  // namespace
}  // namespace osprey

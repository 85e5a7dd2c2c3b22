// The executor with a whole model: graphs, and sessions that see many sizes of photos give, bit for
// bit, what launching kernel by kernel in a fresh session gives; and runs that are on the device together
// what they give alone.
#include "cuda/executor.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "cuda/cuda_harness.h"
#include "cuda/plan.h"
#include "engine/source.h"
#include "ops/add.h"
#include "ops/conv.h"
#include "ops/global_average_pool.h"
#include "ops/normalize_image.h"
#include "ops/resize_image.h"
#include "ops/squeeze_excite.h"
#include "osprey/image.h"
#include "parity/fixtures.h"
#include "passes/pass.h"

namespace osprey {
namespace {

using Outputs = std::map<std::string, Tensor>;

std::filesystem::path demo_folder() { return source_folder() / "assets" / "demo"; }

std::shared_ptr<const Graph> demo_graph(DType precision) {
  Model model = load_source({.source = demo_folder() / "demo_mask_rcnn.pkl",
                             .config = (demo_folder() / "demo_mask_rcnn.yaml").string()});
  run_passes(model.graph, {.precision = precision});
  return std::make_shared<const Graph>(std::move(model.graph));
}

std::vector<Image> scenes(std::size_t count) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(demo_folder() / "scenes"))
    if (entry.path().extension() == ".jpg") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Image> out;
  for (std::size_t i = 0; i < std::min(count, files.size()); ++i) out.push_back(read_image(files[i]));
  return out;
}

// What one run is given.
struct Call {
  std::vector<ImageView> photos;
  RunOptions options = {};
};

Outputs outputs_of(const CudaSession& session, const Graph& graph) {
  Outputs out;
  for (const ValueId id : graph.outputs())
    out[graph.value(id).name] = session.output(graph.value(id).name).copied();
  return out;
}

Outputs run_on(CudaSession& session, const Graph& graph, const Call& call) {
  session.run(call.photos, call.options);
  return outputs_of(session, graph);
}

Outputs run_on(CudaSession& session, const Graph& graph, const Image& photo) {
  return run_on(session, graph, Call{{photo}});
}

void expect_same(const Outputs& got, const Outputs& want, const std::string& what) {
  for (const auto& [name, tensor] : want) {
    ASSERT_EQ(got.at(name).shape(), tensor.shape()) << what << ": " << name;
    EXPECT_TRUE(std::ranges::equal(got.at(name).bytes(), tensor.bytes())) << what << ": " << name;
  }
}

// Keeps two runs under way, and reads what one gave when the next has begun in its place. An odd number of
// calls, so that each is run in either lane.
void expect_same_two_at_once(CudaSession& session, const Graph& graph, const std::vector<Call>& calls,
                             const std::vector<Outputs>& want, std::size_t rounds) {
  ASSERT_EQ(calls.size() % 2, 1u);
  const std::size_t runs = rounds * calls.size();
  std::size_t begun = 0;
  const auto start = [&] {
    if (begun == runs) return;
    const Call& call = calls[begun++ % calls.size()];
    EXPECT_TRUE(session.start(call.photos, call.options));
  };
  start();
  start();
  for (std::size_t i = 0; i < runs; ++i) {
    session.finish();
    start();
    expect_same(outputs_of(session, graph), want[i % calls.size()], "run " + std::to_string(i));
  }
}

class CudaExecutorTest : public testing::TestWithParam<DType> {
  void SetUp() override {
    if (!std::filesystem::exists(demo_folder())) GTEST_SKIP() << demo_folder() << " is not here";
  }
};

TEST_P(CudaExecutorTest, GraphsGiveWhatLaunchesGive) {
  SKIP_WITHOUT_GPU();
  const auto graph = demo_graph(GetParam());
  const auto photos = scenes(8);
  CudaOptions eager{.graph = false, .tuning_budget = 0};
  std::vector<Outputs> want;
  for (const Image& photo : photos) {
    const auto executor = make_cuda_executor(graph, eager);
    want.push_back(run_on(*executor->cuda_session(), *graph, photo));
    EXPECT_GT(want.back().at("det_scores").dim(0), 0);
  }
  for (const bool graphs : {false, true}) {
    const auto executor = make_cuda_executor(graph, {.graph = graphs, .tuning_budget = 0});
    const auto session = executor->cuda_session();
    for (int round = 0; round < 2; ++round)
      for (std::size_t i = 0; i < photos.size(); ++i)
        expect_same(run_on(*session, *graph, photos[i]), want[i],
                    std::string(graphs ? "graph" : "launches in one session") + ", round " +
                        std::to_string(round) + ", photo " + std::to_string(i));
  }
}

// Batches of several sizes, hence several plans, and one after the other of one size.
TEST_P(CudaExecutorTest, RunsBesideOthersGiveTheSame) {
  SKIP_WITHOUT_GPU();
  const auto graph = demo_graph(GetParam());
  const auto photos = scenes(8);
  std::vector<Call> calls{{{photos[0]}},
                          {{photos[0]}},
                          {{photos[1], photos[2]}},
                          {{photos[3]}},
                          {{photos[4], photos[5], photos[6]}},
                          {{photos[7]}},
                          {{photos[2], photos[1]}}};
  calls[1].options.parameters = {.score_threshold = 0.5f, .max_detections = 3};
  const auto executor = make_cuda_executor(graph, {.tuning_budget = 0});
  const auto alone = executor->cuda_session(), session = executor->cuda_session();
  std::vector<Outputs> want;
  for (const Call& call : calls) want.push_back(run_on(*alone, *graph, call));
  expect_same_two_at_once(*session, *graph, calls, want, short_cases() ? 1 : 4);
  EXPECT_GT(session->arena_bytes(), alone->arena_bytes());
  expect_same(run_on(*session, *graph, calls[2]), want[2], "a whole run behind them");
  expect_same_two_at_once(*session, *graph, calls, want, 1);
}

Image enlarged(const Image& photo, int factor) {
  Image out(photo.width * factor, photo.height * factor);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x)
      std::copy_n(photo.row(y / factor) + std::ptrdiff_t{3} * (x / factor), 3,
                  out.row(y) + std::ptrdiff_t{3} * x);
  return out;
}

// Of which a download brings the beginning, and the next run must leave the rest alone.
TEST_P(CudaExecutorTest, LongMaskRunsBesideOthersAreTheSame) {
  SKIP_WITHOUT_GPU();
  const auto graph = demo_graph(GetParam());
  std::vector<Image> photos;
  for (const Image& photo : scenes(3)) photos.push_back(enlarged(photo, 8));
  std::vector<Call> calls;
  for (const Image& photo : photos) calls.push_back({{photo}, {.parameters = {.score_threshold = 0.f}}});
  const auto executor = make_cuda_executor(graph, {.tuning_budget = 0});
  const auto alone = executor->cuda_session(), session = executor->cuda_session();
  std::vector<Outputs> want;
  for (const Call& call : calls) {
    want.push_back(run_on(*alone, *graph, call));
    EXPECT_GT(want.back().at("mask_runs").bytes().size(), kRunsPrefixBytes);
  }
  expect_same_two_at_once(*session, *graph, calls, want, short_cases() ? 1 : 3);
}

TEST_P(CudaExecutorTest, WhatCannotBeginLeavesTheRunUnderWayAlone) {
  SKIP_WITHOUT_GPU();
  const auto graph = demo_graph(GetParam());
  const auto photos = scenes(2);
  const std::vector<Call> calls{{{photos[0]}}, {{photos[1]}}};
  const auto executor = make_cuda_executor(graph, {.tuning_budget = 0});
  const auto session = executor->cuda_session();
  EXPECT_THROW(session->finish(), Error);
  const Outputs first = run_on(*session, *graph, calls[0]), second = run_on(*session, *graph, calls[1]);
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(session->start(calls[0].photos, {}));
    EXPECT_THROW(session->start(calls[1].photos, {.time_nodes = true}), Error);
    EXPECT_THROW(session->run(calls[1].photos, {}), Error);
    EXPECT_THROW(session->replay(1), Error);
    EXPECT_THROW(session->value("det_boxes"), Error);
    EXPECT_TRUE(session->start(calls[1].photos, {}));
    EXPECT_THROW(session->start(calls[0].photos, {}), Error);
    session->finish();
    expect_same(outputs_of(*session, *graph), first, "the first run");
    session->finish();
    expect_same(outputs_of(*session, *graph), second, "the second run");
    EXPECT_GT(session->replay(2), 0);
    expect_same({{"det_boxes", session->value("det_boxes")}}, {{"det_boxes", second.at("det_boxes")}},
                "a replay of the second run");
  }
}

// A replay uploads nothing: what a run found in device memory must still be there.
TEST_P(CudaExecutorTest, ReplaysGiveWhatTheRunGave) {
  SKIP_WITHOUT_GPU();
  const auto graph = demo_graph(GetParam());
  for (const bool graphs : {false, true}) {
    const auto executor = make_cuda_executor(graph, {.graph = graphs, .tuning_budget = 0});
    const auto session = executor->cuda_session();
    const Outputs want = run_on(*session, *graph, scenes(1).front());
    EXPECT_GT(session->replay(3), 0);
    for (const auto& [name, tensor] : want) {
      if (name == "mask_runs") continue;  // has no bound: a download brings the rows there are
      const Tensor got = session->value(name);
      ASSERT_EQ(got.shape(), tensor.shape()) << name;
      EXPECT_TRUE(std::ranges::equal(got.bytes(), tensor.bytes())) << name;
    }
  }
}

// The same, value by value: what departs first names the step at fault.
TEST_P(CudaExecutorTest, EveryValueOfAGraphIsWhatLaunchesGive) {
  SKIP_WITHOUT_GPU();
  const auto graph = demo_graph(GetParam());
  const Image photo = scenes(1).front();
  const auto executor_with = [&](bool graphs) {
    return make_cuda_executor(graph, {.graph = graphs, .keep_values = true, .tuning_budget = 0});
  };
  const auto plain = executor_with(false), captured = executor_with(true);
  const auto want = plain->cuda_session(), got = captured->cuda_session();
  run_on(*want, *graph, photo);
  run_on(*got, *graph, photo);
  int departed = 0;
  for (const Node& node : graph->nodes())
    for (const ValueId id : node.outputs) {
      const std::string& name = graph->value(id).name;
      if (name == "mask_runs") continue;
      const Tensor a = want->value(name), b = got->value(name);
      const bool same = a.shape() == b.shape() && std::ranges::equal(a.bytes(), b.bytes());
      if (!same && ++departed <= 8) ADD_FAILURE() << node.name << ": " << name << " departs";
    }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaExecutorTest, testing::Values(DType::kF32, DType::kF16),
                         [](const auto& c) { return std::string(name_of(c.param)); });

// A block of a depthwise convolution, squeeze and excitation and a 1x1 convolution, and a mean behind it:
// steps that count in memory of their own from launch to launch.
Graph counting_network(int canvas) {
  constexpr std::int64_t kChannels = 32, kHidden = 8;
  Graph g("counting");
  std::uint32_t seed = 0;
  const auto weight = [&](const std::string& name, Shape shape, DType type) {
    return g.add_weight(name, rounded_to(random_tensor(std::move(shape), -0.5f, 0.5f, ++seed), type));
  };
  const auto layer = [&](const std::string& name, const Shape& shape) {
    return std::vector{weight(name + ".w", shape, DType::kF16), weight(name + ".b", {shape[0]}, DType::kF32)};
  };
  const auto add = [&](auto op, std::vector<ValueId> inputs, const std::vector<ValueId>& weights,
                       const std::string& name) {
    inputs.insert(inputs.end(), weights.begin(), weights.end());
    return g.add_node(std::move(op), inputs, name).outputs;
  };
  const Dim n = Dim::symbol("N");
  const ValueId photos = g.add_input("photos", {DType::kU8, {n, Dim::symbol("H"), Dim::symbol("W"), 3}}),
                sizes = g.add_input("sizes", {DType::kI32, {n, 2}}),
                shift = g.add_input("shift", {DType::kF16, {n, kChannels}});
  const auto resized = add(ResizeImage{.rule = ResizeRule::kCvCubic,
                                       .canvas_height = canvas,
                                       .canvas_width = canvas,
                                       .fit = Fit::kStretch},
                           {photos, sizes}, {}, "resize");
  const ValueId image = add(NormalizeImage{.std = {255, 255, 255},
                                           .canvas_height = canvas,
                                           .canvas_width = canvas,
                                           .to = FloatType::kF16,
                                           .stretched = true},
                            resized, {}, "normalize")[0];
  const ValueId stem = add(Conv{.stride = {2, 2}, .padding = Padding::kSame}, {image},
                           layer("stem", {kChannels, 3, 3, 3}), "stem")[0];
  const ValueId map =
      add(Conv{.padding = Padding::kSame, .groups = kChannels, .activation = Activation::kSwish}, {stem},
          layer("depthwise", {kChannels, 1, 3, 3}), "depthwise")[0];
  auto gates = layer("squeeze", {kHidden, kChannels});
  for (const ValueId w : layer("expand", {kChannels, kHidden})) gates.push_back(w);
  const ValueId scaled = add(SqueezeExcite{}, {map}, gates, "gates")[0];
  const ValueId y = add(Conv{}, {scaled}, layer("project", {kChannels, kChannels, 1, 1}), "project")[0];
  const ValueId means = add(GlobalAveragePool{}, {y}, {}, "means")[0];
  g.add_output(add(Add{}, {means, shift}, {}, "shifted")[0]);
  return g;
}

Image noise(int width, int height, std::uint32_t seed) {
  Image out(width, height);
  for (std::uint8_t& level : out.pixels)
    level = static_cast<std::uint8_t>((seed = seed * 1664525 + 1013904223) >> 24);
  return out;
}

RunOptions shifted_by(float shift, std::size_t photos) {
  Tensor values = Tensor::zeros(DType::kF32, {static_cast<std::int64_t>(photos), 32});
  for (float& v : values.mutable_values<float>()) v = shift;
  return {.inputs = {{"shift", rounded_to(values, DType::kF16)}}};
}

TEST(CudaExecutor, StepsThatCountDoSoForEachRun) {
  const auto graph = std::make_shared<const Graph>(counting_network(short_cases() ? 64 : 1536));
  check_cuda_kernels(*graph);
  SKIP_WITHOUT_GPU();
  std::vector<Image> photos;
  for (std::uint32_t i = 0; i < 5; ++i) photos.push_back(noise(40, 30, i));
  std::vector<Call> calls;
  for (const Image& photo : photos)
    calls.push_back({{photo}, shifted_by(static_cast<float>(calls.size()), 1)});
  const auto executor = make_cuda_executor(graph, {.tf32 = true, .tuning_budget = 0});
  const auto alone = executor->cuda_session(), session = executor->cuda_session();
  std::vector<Outputs> want;
  for (const Call& call : calls) want.push_back(run_on(*alone, *graph, call));
  RunOptions timed = calls[0].options;
  timed.time_nodes = true;
  const RunTimes times = alone->run(calls[0].photos, timed);
  EXPECT_TRUE(std::ranges::any_of(times.nodes, [](const NodeTime& node) {
    return node.detail.find("gates on weights") != std::string::npos;
  })) << "the network is meant to have such a step";
  expect_same_two_at_once(*session, *graph, calls, want, short_cases() ? 1 : 60);
  // What a run lacks is told before it begins.
  EXPECT_TRUE(session->start(calls[0].photos, calls[0].options));
  EXPECT_THROW(session->start(calls[1].photos, {}), Error);
  EXPECT_TRUE(session->start(calls[1].photos, calls[1].options));
  for (const Outputs& outputs : {want[0], want[1]}) {
    session->finish();
    expect_same(outputs_of(*session, *graph), outputs, "beside one that was given too little");
  }
}

// Photos that no GPU has the memory for: their rows are all one in that of the host.
TEST(CudaExecutor, WithoutRoomForASecondRunOneIsUnderWay) {
  SKIP_WITHOUT_GPU();
  constexpr int kSide = 1 << 16;
  const auto graph = std::make_shared<const Graph>(counting_network(64));
  const auto executor = make_cuda_executor(graph, {.tf32 = true, .tuning_budget = 0});
  const std::vector<std::uint8_t> row(std::size_t{3} * kSide);
  const std::size_t count = executor->device().memory / (row.size() * kSide) + 1;
  const Call huge{{count, ImageView{row.data(), kSide, kSide, 0}}, shifted_by(0, count)};
  const std::array<Image, 2> photos{noise(40, 30, 1), noise(50, 20, 2)};
  const std::array<Call, 2> calls{Call{{photos[0]}, shifted_by(1, 1)}, Call{{photos[1]}, shifted_by(2, 1)}};
  std::array<Outputs, 2> want;
  for (std::size_t i = 0; i < 2; ++i) want[i] = run_on(*executor->cuda_session(), *graph, calls[i]);
  const auto expect_end = [&](CudaSession& session, std::size_t i) {
    session.finish();
    expect_same(outputs_of(session, *graph), want[i], "a run that has the device for itself");
  };
  const auto expect_one_at_a_time = [&](CudaSession& session) {
    for (int round = 0; round < 2; ++round) {
      EXPECT_TRUE(session.start(calls[0].photos, calls[0].options));
      EXPECT_FALSE(session.start(calls[1].photos, calls[1].options));
      expect_end(session, 0);
      EXPECT_TRUE(session.start(calls[1].photos, calls[1].options));
      expect_end(session, 1);
    }
    EXPECT_GT(session.replay(1), 0);
  };

  // The second run finds no room.
  const auto first = executor->cuda_session();
  EXPECT_TRUE(first->start(calls[0].photos, calls[0].options));
  EXPECT_FALSE(first->start(huge.photos, huge.options));
  expect_end(*first, 0);
  EXPECT_THROW(first->run(huge.photos, huge.options), Error);
  expect_one_at_a_time(*first);

  // A run alone wants what the second lane has.
  const auto second = executor->cuda_session();
  EXPECT_TRUE(second->start(calls[0].photos, calls[0].options));
  EXPECT_TRUE(second->start(calls[1].photos, calls[1].options));
  expect_end(*second, 0);
  expect_end(*second, 1);
  EXPECT_THROW(second->run(huge.photos, huge.options), Error);
  expect_one_at_a_time(*second);
}

}  // namespace
}  // namespace osprey

// The executor with a whole model: graphs, and sessions that see many sizes of photos give, bit for
// bit, what launching kernel by kernel in a fresh session gives.
#include "cuda/executor.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "cuda/cuda_harness.h"
#include "engine/source.h"
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

Outputs run_on(CudaSession& session, const Graph& graph, const Image& photo) {
  const ImageView view = photo;
  session.run({&view, 1}, {});
  Outputs out;
  for (const ValueId id : graph.outputs())
    out[graph.value(id).name] = session.output(graph.value(id).name).copied();
  return out;
}

void expect_same(const Outputs& got, const Outputs& want, const std::string& what) {
  for (const auto& [name, tensor] : want) {
    ASSERT_EQ(got.at(name).shape(), tensor.shape()) << what << ": " << name;
    EXPECT_TRUE(std::ranges::equal(got.at(name).bytes(), tensor.bytes())) << what << ": " << name;
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

// A replay uploads nothing: what a run found in device memory must still be there.
// Photos of the next run travel while one computes; outputs are read while the next one does.
TEST_P(CudaExecutorTest, RunsThatBeginBesideOthersGiveTheSame) {
  SKIP_WITHOUT_GPU();
  const auto graph = demo_graph(GetParam());
  const auto photos = scenes(8);
  const auto executor = make_cuda_executor(graph, {.tuning_budget = 0});
  const auto alone = executor->cuda_session(), session = executor->cuda_session();
  std::vector<Outputs> want;
  for (const Image& photo : photos) want.push_back(run_on(*alone, *graph, photo));
  const auto start = [&](std::size_t i) {
    const ImageView view = photos[i % photos.size()];
    session->start({&view, 1}, {});
  };
  const std::size_t runs = 3 * photos.size();
  start(0);
  for (std::size_t i = 0; i < runs; ++i) {
    if (i + 1 < runs) start(i + 1);
    session->finish();
    Outputs got;
    for (const ValueId id : graph->outputs())
      got[graph->value(id).name] = session->output(graph->value(id).name).copied();
    expect_same(got, want[i % photos.size()], "run " + std::to_string(i));
  }
  expect_same(run_on(*session, *graph, photos[0]), want[0], "a whole run behind them");
}

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

}  // namespace
}  // namespace osprey

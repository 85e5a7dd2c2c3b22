// The executor as a whole: memory, plans for changing shapes, sessions side by side, what observers see.
#include "cpu/executor.h"

#include <thread>

#include <omp.h>

#include "cpu/layout_plan.h"
#include "cpu/testing.h"
#include "ops/activate.h"
#include "ops/add.h"
#include "ops/linear.h"
#include "ops/max_pool.h"

namespace osprey::testing {
namespace {

constexpr Activation kRelu = Activation::kRelu;

ValueId conv(Graph& g, const std::string& name, ValueId x, std::int64_t out, int kernel, Conv op,
             ValueId residual = kNoValue) {
  const std::int64_t in = g.value(x).type.dims[1].constant();
  op.pads = {kernel / 2, kernel / 2, kernel / 2, kernel / 2};
  const ValueId w = g.add_weight(
      name + ".w", random_tensor({out, in, kernel, kernel}, static_cast<unsigned>(name.size()), 0.2f));
  const ValueId b = g.add_weight(name + ".b", random_tensor({out}, 9, 0.2f));
  return g.add_node(op, {x, w, b, residual}, name).outputs[0];
}

// Two residual blocks, a pyramid step and a pool over f32[N,3,8*h,8*w].
std::shared_ptr<const Graph> small_network() {
  auto g = std::make_shared<Graph>("small");
  const ValueId x =
      g->add_input("image", {DType::kF32, {Dim::symbol("N"), 3, Dim::symbol("h") * 8, Dim::symbol("w") * 8}});
  const ValueId stem = conv(*g, "stem", x, 32, 3, {.stride = {2, 2}, .activation = kRelu});
  ValueId y = stem;
  for (const std::string block : {"a", "bb"})
    y = conv(*g, block + ".second", conv(*g, block + ".first", y, 32, 3, {.activation = kRelu}), 32, 1,
             {.activation = kRelu}, y);
  g->rename(y, "blocks");
  const ValueId coarse = conv(*g, "coarse", y, 48, 1, {.stride = {2, 2}});
  const ValueId fine = conv(*g, "fine", y, 48, 1, {.residual_scale = 2}, coarse);
  g->add_output(conv(*g, "logits", fine, 3, 1, {}));
  g->add_output(g->add_node(MaxPool{}, {coarse}, "pooled").outputs[0]);
  return g;
}

std::vector<float> copy(const Tensor& t) { return {t.values<float>().begin(), t.values<float>().end()}; }

std::vector<float> logits_of(CpuSession& session, const Tensor& image) {
  session.run_tensors({{"image", image}}, {});
  return copy(session.output("logits"));
}

TEST(CpuExecutor, EveryLayoutGivesTheSame) {
  const auto graph = small_network();
  const Tensor image = random_tensor({2, 3, 32, 48}, 1);
  const auto want =
      logits_of(*make_cpu_executor(graph, {.threads = 1, .block = 16, .guards = true})->cpu_session(), image);
  for (const int block : {-1, 0, 8})
    for (const int threads : {1, 2}) {
      const auto got = logits_of(
          *make_cpu_executor(graph, {.threads = threads, .block = block, .guards = true})->cpu_session(),
          image);
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-4) << "block " << block;
    }
}

TEST(CpuExecutor, ShapesMayChangeBetweenRuns) {
  const auto executor = make_cpu_executor(small_network(), {.threads = 2, .guards = true});
  const auto session = executor->cpu_session();
  std::map<std::pair<int, int>, std::vector<float>> first;
  for (int round = 0; round < 2; ++round)
    for (const auto& [h, w] : {std::pair{16, 24}, {64, 32}, {8, 8}, {40, 72}}) {
      const auto got = logits_of(*session, random_tensor({1, 3, h, w}, static_cast<unsigned>(h)));
      const auto [it, fresh] = first.try_emplace({h, w}, got);
      EXPECT_EQ(it->second, got) << fresh;  // bit for bit
    }
}

TEST(CpuExecutor, MorePlansThanAreKept) {
  const auto session = make_cpu_executor(small_network(), {.threads = 1})->cpu_session();
  const auto before = logits_of(*session, random_tensor({1, 3, 8, 8}, 1));
  for (int w = 2; w < 24; ++w) logits_of(*session, random_tensor({1, 3, 8, 8 * w}, 1));
  EXPECT_EQ(logits_of(*session, random_tensor({1, 3, 8, 8}, 1)), before);
}

TEST(CpuExecutor, ABatchGivesWhatItsPhotosGive) {
  const auto session = make_cpu_executor(small_network(), {.threads = 2})->cpu_session();
  const Tensor batch = random_tensor({3, 3, 16, 16}, 4);
  const auto all = logits_of(*session, batch);
  const std::size_t pixels = 3 * 16 * 16, outputs = all.size() / 3;
  for (std::size_t n = 0; n < 3; ++n) {
    const auto one = logits_of(
        *session, Tensor::from<float>(batch.values<float>().subspan(n * pixels, pixels), {1, 3, 16, 16}));
    for (std::size_t i = 0; i < outputs; ++i) ASSERT_EQ(one[i], all[n * outputs + i]);
  }
}

TEST(CpuExecutor, SessionsOnTwoThreads) {
  const auto executor = make_cpu_executor(small_network(), {.threads = 1});
  const Tensor image = random_tensor({1, 3, 32, 32}, 1);
  const auto want = logits_of(*executor->cpu_session(), image);
  std::vector<std::vector<float>> got(2);
  std::vector<std::thread> threads;
  for (auto& out : got)
    threads.emplace_back([&] {
      const auto session = executor->cpu_session();
      for (int i = 0; i < 5; ++i) out = logits_of(*session, image);
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(got[0], want);
  EXPECT_EQ(got[1], want);
}

TEST(CpuExecutor, AllocatesNothingAfterTheFirstRun) {
  const auto session = make_cpu_executor(small_network(), {.threads = 2})->cpu_session();
  const Tensor image = random_tensor({1, 3, 32, 32}, 1);
  const std::map<std::string, Tensor> feed{{"image", image}};
  session->run_tensors(feed, {});
  const std::size_t arena = session->arena_bytes();
  largest_allocation = 0;
  allocations = 0;
  for (int i = 0; i < 10; ++i) session->run_tensors(feed, {});
  // What is left: the symbols' bindings, and the small tables of arguments that oneDNN makes for each call.
  EXPECT_LE(largest_allocation.load(), 1024u);
  EXPECT_LE(allocations.load(), 10 * 8 * 30u);
  EXPECT_EQ(session->arena_bytes(), arena);
}

TEST(CpuExecutor, ObserversSeeValuesInCOrder) {
  const auto graph = small_network();
  const Tensor image = random_tensor({1, 3, 16, 16}, 1);
  std::map<std::string, Tensor> seen;
  RunOptions options;
  options.wanted = {"blocks", "stem", "logits"};
  options.observe = [&](const std::string& name, const Tensor& value) { seen[name] = value; };
  for (const int block : {0, 16}) {
    seen.clear();
    const auto session =
        make_cpu_executor(graph, {.threads = 1, .block = block, .guards = true})->cpu_session();
    const auto without = logits_of(*session, image);
    session->run_tensors({{"image", image}}, options);
    EXPECT_EQ(copy(session->output("logits")), without);
    EXPECT_EQ(copy(seen.at("logits")), without);
    EXPECT_EQ(seen.at("blocks").shape(), (Shape{1, 32, 8, 8}));
    EXPECT_EQ(seen.at("stem").shape(), (Shape{1, 32, 8, 8}));
  }
}

TEST(CpuExecutor, TimesItsNodes) {
  const auto executor = make_cpu_executor(small_network(), {.threads = 1});
  const auto session = executor->cpu_session();
  logits_of(*session, random_tensor({1, 3, 64, 64}, 1));
  RunOptions options;
  options.time_nodes = true;
  const RunTimes times = session->run_tensors({{"image", random_tensor({1, 3, 64, 64}, 1)}}, options);
  EXPECT_EQ(
      std::count_if(times.nodes.begin(), times.nodes.end(), [](const NodeTime& n) { return n.op == "conv"; }),
      8);
  for (const NodeTime& n : times.nodes)
    EXPECT_FALSE(n.detail.starts_with("ref")) << n.name << ": " << n.detail;
  EXPECT_GT(times.network, 0);
}

TEST(CpuExecutor, RowsFollowTheInput) {
  Graph g("rows");
  const ValueId x = g.add_input("x", {DType::kF32, {Dim::at_most(100), 16}});
  const ValueId w = g.add_weight("w", random_tensor({8, 16}, 2));
  g.add_output(g.add_node(Linear{}, {x, w}, "y").outputs[0]);
  const auto session =
      make_cpu_executor(std::make_shared<const Graph>(std::move(g)), {.threads = 2, .guards = true})
          ->cpu_session();
  for (const std::int64_t rows : {7, 0, 100, 1}) {
    session->run_tensors({{"x", random_tensor({rows, 16}, 3)}}, {});
    EXPECT_EQ(session->output("y").shape(), (Shape{rows, 8}));
  }
  EXPECT_THROW(session->run_tensors({{"x", random_tensor({101, 16}, 3)}}, {}), Error);
  EXPECT_THROW(session->run_tensors({}, {}), Error);
  EXPECT_THROW(session->output("z"), Error);
}

#if defined(__x86_64__)
// What this thread and the OpenMP threads behind it make of a denormal product.
std::vector<float> denormals() {
  std::vector<float> out(2);
#pragma omp parallel num_threads(2)
  {
    volatile float small = 1e-30f;
    out[static_cast<std::size_t>(omp_get_thread_num())] = small * 1e-10f;
  }
  return out;
}

// 1e-30 times 1e-10, a denormal number, times 1e10.
TEST(CpuExecutor, DenormalsAreZeroWhileItRunsAndNowhereElse) {
  auto g = std::make_shared<Graph>("denormals");
  const auto scale = [&](ValueId x, float by, const std::string& name) {
    Tensor w = Tensor::zeros(DType::kF32, {16, 16, 1, 1});
    for (std::size_t c = 0; c < 16; ++c) w.mutable_values<float>()[c * 17] = by;
    return g->add_node(Conv{}, {x, g->add_weight(name + ".w", w)}, name).outputs[0];
  };
  const ValueId x = g->add_input("x", {DType::kF32, {1, 16, 8, 64}});
  g->add_output(scale(scale(x, 1e-10f, "small"), 1e10f, "y"));
  const Tensor ones = Tensor::from<float>(std::vector<float>(16 * 8 * 64, 1e-30f), {1, 16, 8, 64});
  const auto session = make_cpu_executor(g, {.threads = 2})->cpu_session();
  const std::vector<float> before = denormals();
  EXPECT_GT(*std::min_element(before.begin(), before.end()), 0);
  session->run_tensors({{"x", ones}}, {});
  for (const float v : session->output("y").values<float>()) ASSERT_EQ(v, 0);
  EXPECT_EQ(denormals(), before);
  RunOptions options{.wanted = {"small"}};
  options.observe = [](const std::string&, const Tensor&) { throw std::runtime_error("from an observer"); };
  EXPECT_THROW(session->run_tensors({{"x", ones}}, options), std::runtime_error);
  EXPECT_EQ(denormals(), before);
}
#endif

TEST(CpuExecutor, DeclinesWhatItHasNoKernelFor) {
  Graph g("f16");
  const ValueId x = g.add_input("x", {DType::kF16, {1, 16, 4, 4}});
  g.add_output(g.add_node(Activate{}, {x}, "layer").outputs[0]);
  try {
    make_cpu_executor(std::make_shared<const Graph>(std::move(g)));
    FAIL() << "f16 was taken";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "layer: the CPU's activate does not take f16");
  }
}

}  // namespace
}  // namespace osprey::testing

#include "cpu/expand_depthwise.h"

#include "cpu/testing.h"
#include "cpu/vectors.h"

namespace osprey::testing {
namespace {

struct PairCase {
  std::string what;
  std::int64_t images, inputs, channels, kernel, stride, height, width;
  Activation expanded = Activation::kSwish, summed = Activation::kSwish;
  bool factors = true, bias = true;
  Padding padding = Padding::kSame;
  std::vector<int> pads{0, 0, 0, 0};
  std::int64_t window = 1, step = 1;  // of the first
};

const std::vector<PairCase>& pair_cases() {
  constexpr Activation kNone = Activation::kNone, kRelu = Activation::kRelu, kRelu6 = Activation::kRelu6;
  static const std::vector<PairCase> cases{
      {"three registers a panel", 1, 24, 144, 3, 1, 16, 24},
      {"two", 1, 40, 64, 3, 1, 20, 19},
      {"one", 1, 7, 80, 5, 2, 13, 9},
      {"rows of few pixels", 2, 40, 48, 5, 1, 6, 5},
      {"one pixel", 1, 16, 48, 3, 1, 1, 1},
      {"same, even, stride 2", 3, 16, 96, 3, 2, 32, 40},
      {"same, odd, stride 2", 1, 16, 96, 5, 2, 33, 41},
      {"pads of its own",
       1,
       16,
       32,
       3,
       2,
       128,
       132,
       kRelu6,
       kRelu6,
       false,
       true,
       Padding::kExplicit,
       {0, 1, 1, 0}},
      {"pads beyond the window",
       1,
       8,
       16,
       3,
       1,
       181,
       183,
       kRelu,
       kNone,
       false,
       true,
       Padding::kExplicit,
       {4, 5, 4, 3}},
      {"no bias, no activation", 1, 33, 48, 3, 1, 99, 113, kNone, kRelu, false, false},
      {.what = "stem, even",
       .images = 2,
       .inputs = 3,
       .channels = 32,
       .kernel = 3,
       .stride = 1,
       .height = 40,
       .width = 56,
       .window = 3,
       .step = 2},
      {.what = "stem, odd",
       .images = 1,
       .inputs = 3,
       .channels = 48,
       .kernel = 3,
       .stride = 2,
       .height = 41,
       .width = 31,
       .window = 3,
       .step = 2},
      {.what = "stem of 5x5",
       .images = 1,
       .inputs = 3,
       .channels = 16,
       .kernel = 5,
       .stride = 1,
       .height = 9,
       .width = 8,
       .window = 5,
       .step = 1},
      {.what = "stem smaller than its window",
       .images = 1,
       .inputs = 1,
       .channels = 16,
       .kernel = 3,
       .stride = 1,
       .height = 2,
       .width = 1,
       .window = 3,
       .step = 1},
  };
  return cases;
}

std::shared_ptr<const Graph> pair_graph(const PairCase& c) {
  auto g = std::make_shared<Graph>("pair");
  unsigned seed = 1;
  const auto layer = [&](const Conv& op, ValueId x, const Shape& weight, const std::string& name) {
    const auto channels = [&](bool there, const char* what) {
      return there ? g->add_weight(name + what, random_tensor({weight[0]}, ++seed, 2)) : kNoValue;
    };
    std::vector<ValueId> in{x, g->add_weight(name + ".w", random_tensor(weight, ++seed, 0.4f)),
                            channels(c.bias, ".bias")};
    if (c.factors) {
      in.push_back(kNoValue);
      in.push_back(channels(true, ".factor"));
      in.push_back(channels(true, ".offset"));
    }
    return g->add_node(op, in, name).outputs[0];
  };
  const ValueId x = g->add_input("x", {DType::kF32, {c.images, c.inputs, c.height, c.width}});
  const int step = static_cast<int>(c.step);
  const Conv first{.stride = {step, step}, .padding = Padding::kSame, .activation = c.expanded};
  const ValueId map = layer(first, x, {c.channels, c.inputs, c.window, c.window}, "map");
  const int stride = static_cast<int>(c.stride);
  const Conv depthwise{.stride = {stride, stride},
                       .pads = c.pads,
                       .padding = c.padding,
                       .groups = static_cast<int>(c.channels),
                       .activation = c.summed};
  g->add_output(layer(depthwise, map, {c.channels, 1, c.kernel, c.kernel}, "y"));
  return g;
}

struct Ran {
  std::vector<float> y;
  std::vector<std::string> steps;
  std::size_t observed = 0;
};

// What the session gives with the map between the two inside a step, and outside when it is observed.
Ran run(CpuSession& session, const Tensor& x, bool observed) {
  Ran out;
  RunOptions options{.time_nodes = true};
  if (observed) {
    options.wanted = {"map"};
    options.observe = [&](const std::string&, const Tensor& map) {
      out.observed += map.values<float>().size();
    };
  }
  for (const NodeTime& node : session.run_tensors({{"x", x}}, options).nodes)
    out.steps.push_back(node.detail);
  const Tensor y = session.output("y");
  out.y.assign(y.values<float>().begin(), y.values<float>().end());
  return out;
}

bool together(const Ran& ran) {
  return std::count(ran.steps.begin(), ran.steps.end(), "expand_depthwise:avx512") == 1;
}

TEST(CpuExpandDepthwise, GivesWhatTheTwoGive) {
  for (const PairCase& c : pair_cases()) {
    const auto graph = pair_graph(c);
    const Tensor x = random_tensor({c.images, c.inputs, c.height, c.width}, 5, 3);
    const CpuOptions options{.threads = 2, .block = 0, .guards = true};
    const auto session = make_cpu_executor(graph, options)->cpu_session();
    const Ran pair = run(*session, x, false), apart = run(*session, x, true);
    EXPECT_EQ(together(pair), vector_set() == VectorSet::kAvx512) << c.what;
    EXPECT_FALSE(together(apart)) << c.what;
    EXPECT_EQ(apart.observed,
              static_cast<std::size_t>(c.images * c.channels * ((c.height + c.step - 1) / c.step) *
                                       ((c.width + c.step - 1) / c.step)))
        << c.what;
    const auto shape = Shape{static_cast<std::int64_t>(pair.y.size())};
    expect_near(Tensor::from<float>(pair.y, shape), Tensor::from<float>(apart.y, shape), 1e-6, c.what);
    EXPECT_EQ(run(*session, x, false).y, pair.y) << c.what << ": after the run that observed";
  }
}

TEST(CpuExpandDepthwise, NeitherThreadsNorImagesMatter) {
  for (PairCase c : pair_cases()) {
    const auto run_with = [&](int threads, std::int64_t images) {
      c.images = images;
      const Tensor all = random_tensor({3, c.inputs, c.height, c.width}, 5, 3);
      const std::int64_t each = all.size() / 3;
      const Tensor x = Tensor::from<float>(all.values<float>().first(static_cast<std::size_t>(images * each)),
                                           {images, c.inputs, c.height, c.width});
      return run(*make_cpu_executor(pair_graph(c), {.threads = threads, .block = 0})->cpu_session(), x, false)
          .y;
    };
    const auto one = run_with(1, 1);
    for (const int threads : {1, 2, 5}) {
      auto batch = run_with(threads, 3);
      batch.resize(one.size());
      EXPECT_EQ(batch, one) << c.what << ", threads " << threads;
    }
  }
}

// oneDNN is faster there.
TEST(CpuExpandDepthwise, LeavesSmallMapsWithoutSwishes) {
  const PairCase c{"small", 1, 24, 144, 3, 1, 16, 24, Activation::kRelu6, Activation::kRelu6};
  const auto session = make_cpu_executor(pair_graph(c), {.threads = 1, .block = 0})->cpu_session();
  EXPECT_FALSE(together(run(*session, random_tensor({1, 24, 16, 24}), false)));
}

// A map that something else reads, too, stays.
TEST(CpuExpandDepthwise, LeavesMapsThatOthersRead) {
  const auto graph = std::make_shared<Graph>(*pair_graph(pair_cases()[0]));
  graph->add_output(graph->find("map"));
  const auto session = make_cpu_executor(graph, {.threads = 1, .block = 0})->cpu_session();
  EXPECT_FALSE(together(run(*session, random_tensor({1, 24, 16, 24}), false)));
}

TEST(CpuExpandDepthwise, ExtremesStayWhatTheyAre) {
  const PairCase c{"extremes", 1, 16, 32, 3, 1, 4, 8, Activation::kSwish, Activation::kSwish, false};
  const auto session = make_cpu_executor(pair_graph(c), {.threads = 1, .block = 0})->cpu_session();
  for (const float v : {1e30f, -1e30f, 100.f, -100.f, std::nanf("")}) {
    const Tensor x = Tensor::from<float>(std::vector<float>(16 * 4 * 8, v), {1, 16, 4, 8});
    const Ran pair = run(*session, x, false), apart = run(*session, x, true);
    EXPECT_EQ(together(pair), vector_set() == VectorSet::kAvx512);
    for (std::size_t i = 0; i < pair.y.size(); ++i) {
      EXPECT_EQ(std::isnan(pair.y[i]), std::isnan(apart.y[i])) << v;
      const float most = 1e-6f * std::max(1.f, std::abs(apart.y[i]));
      EXPECT_FALSE(std::abs(pair.y[i] - apart.y[i]) > most) << v << ": " << pair.y[i] << ", " << apart.y[i];
    }
  }
}

}  // namespace
}  // namespace osprey::testing

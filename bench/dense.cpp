// The dense part of Faster and Mask R-CNN R50-FPN (trunk, pyramid, RPN head) on the CPU with random weights:
// time of every layer, GFLOP/s, and the whole.
//
//   bench_dense [height width [runs [threads [block [f32|bf16 [groups width]]]]]]
//
// With 0 runs it answers requests, for scripts that take turns between programs: after "ready GFLOP" it makes
// one run for each line that it reads and writes the run's seconds.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <random>
#include <string>

#include <fmt/core.h>

#include "cpu/executor.h"
#include "ops/cast.h"
#include "ops/conv.h"
#include "ops/max_pool.h"

namespace osprey {
namespace {

struct Settings {
  std::int64_t height = 800, width = 1344;
  int runs = 5, threads = 2, block = -1;
  bool bf16 = false;
  int groups = 1, group_width = 64;  // 32 and 8: ResNeXt-50 32x8d
};

class Builder {
 public:
  explicit Builder(const Settings& s) : s_(s), graph_("dense") {}

  std::shared_ptr<const Graph> build() {
    ValueId x = graph_.add_input(
        "image", {DType::kF32, {Dim::symbol("N"), 3, Dim::symbol("h") * 32, Dim::symbol("w") * 32}});
    if (s_.bf16) x = graph_.add_node(Cast{.to = FloatType::kBF16}, {x}, "cast").outputs[0];
    x = conv("stem", x, 64, 7, {.stride = {2, 2}, .pads = {3, 3, 3, 3}, .activation = Activation::kRelu});
    x = graph_.add_node(MaxPool{.pads = {1, 1, 1, 1}}, {x}, "pool").outputs[0];
    std::vector<ValueId> stages;
    const int blocks[]{3, 4, 6, 3};
    for (int stage = 0; stage < 4; ++stage) {
      for (int b = 0; b < blocks[stage]; ++b)
        x = bottleneck(fmt::format("res{}.{}", stage + 2, b), x, stage, b == 0);
      stages.push_back(x);
    }
    pyramid(stages);
    return std::make_shared<const Graph>(std::move(graph_));
  }

 private:
  ValueId conv(const std::string& name, ValueId x, std::int64_t out, int kernel, Conv op,
               ValueId residual = kNoValue) {
    const std::int64_t in = graph_.value(x).type.dims[1].constant() / op.groups;
    const float scale = std::sqrt(2.f / static_cast<float>(in * kernel * kernel));
    if (kernel == 3) op.pads = {1, 1, 1, 1};
    const ValueId w = graph_.add_weight(name + ".weight", random({out, in, kernel, kernel}, scale));
    const ValueId b = graph_.add_weight(name + ".bias", random({out}, 0.1f));
    return graph_.add_node(op, {x, w, b, residual}, name).outputs[0];
  }

  ValueId bottleneck(const std::string& name, ValueId x, int stage, bool first) {
    const std::int64_t inner = (std::int64_t{s_.groups} * s_.group_width) << stage,
                       outer = std::int64_t{256} << stage;
    const int stride = first && stage > 0 ? 2 : 1;
    const ValueId shortcut = first ? conv(name + ".shortcut", x, outer, 1, {.stride = {stride, stride}}) : x;
    const bool early = s_.groups == 1;  // Detectron2's STRIDE_IN_1X1
    ValueId y = conv(name + ".conv1", x, inner, 1,
                     {.stride = {early ? stride : 1, early ? stride : 1}, .activation = Activation::kRelu});
    y = conv(name + ".conv2", y, inner, 3,
             {.stride = {early ? 1 : stride, early ? 1 : stride},
              .groups = s_.groups,
              .activation = Activation::kRelu});
    return conv(name + ".conv3", y, outer, 1, {.activation = Activation::kRelu}, shortcut);
  }

  void pyramid(const std::vector<ValueId>& stages) {
    std::vector<ValueId> maps;
    ValueId above = kNoValue;
    for (int l = 3; l >= 0; --l) {
      Conv op;
      if (above != kNoValue) op.residual_scale = 2;
      above = conv(fmt::format("lateral{}", l + 2), stages[static_cast<std::size_t>(l)], 256, 1, op, above);
      maps.insert(maps.begin(), conv(fmt::format("output{}", l + 2), above, 256, 3, {}));
    }
    maps.push_back(graph_.add_node(MaxPool{.kernel = {1, 1}}, {maps.back()}, "p6").outputs[0]);
    for (std::size_t l = 0; l < maps.size(); ++l) {
      const ValueId t =
          conv(fmt::format("rpn{}.conv", l + 2), maps[l], 256, 3, {.activation = Activation::kRelu});
      graph_.add_output(conv(fmt::format("rpn{}.logits", l + 2), t, 3, 1, {.f32_out = true}));
      graph_.add_output(conv(fmt::format("rpn{}.deltas", l + 2), t, 12, 1, {.f32_out = true}));
    }
  }

  Tensor random(const Shape& shape, float scale) {
    std::uniform_real_distribution<float> uniform(-scale, scale);
    Tensor out = Tensor::zeros(DType::kF32, shape);
    for (float& v : out.mutable_values<float>()) v = uniform(random_);
    return out;
  }

  Settings s_;
  Graph graph_;
  std::minstd_rand random_{1};
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Of the process, all threads: on a machine that others use too, this with one thread is what can be
// compared.
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

void report(const std::vector<NodeTime>& nodes) {
  fmt::print("{:<24}{:>9}{:>9}{:>9}  {}\n", "layer", "ms", "GFLOP/s", "GB/s", "implementation");
  for (const NodeTime& n : nodes)
    fmt::print("{:<24}{:>9.2f}{:>9.0f}{:>9.1f}  {}\n", n.op == "conv" ? n.name : n.op + " " + n.name,
               n.seconds * 1e3, n.flops / n.seconds * 1e-9, n.bytes / n.seconds * 1e-9, n.detail);
}

// Times the runs alone: no clock around the layers.
int serve(CpuSession& session, const Tensor& image) {
  RunOptions timed;
  timed.time_nodes = true;
  double flops = 0;
  for (const NodeTime& n : session.run_tensors({{"image", image}}, timed).nodes) flops += n.flops;
  fmt::print("ready {:.3f}\n", flops * 1e-9);
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    const double start = now();
    session.run_tensors({{"image", image}}, {});
    fmt::print("{:.6f}\n", now() - start);
    std::fflush(stdout);
  }
  return 0;
}

int run(const Settings& s) {
  const auto graph = Builder(s).build();
  Tensor image = Tensor::zeros(DType::kF32, {1, 3, s.height, s.width});
  std::minstd_rand random(2);
  for (float& v : image.mutable_values<float>()) v = std::uniform_real_distribution<float>(-2, 2)(random);

  double start = now();
  const auto executor = make_cpu_executor(graph, {.threads = s.threads, .block = s.block});
  const auto session = executor->cpu_session();
  session->run_tensors({{"image", image}}, {});
  const double first = now() - start;
  if (s.runs == 0) return serve(*session, image);

  double best = 1e9, best_cpu = 1e9;
  std::vector<NodeTime> nodes;
  for (int i = 0; i < s.runs; ++i) {
    start = now();
    const double cpu_start = cpu_seconds();
    RunOptions options;
    options.time_nodes = true;
    RunTimes times = session->run_tensors({{"image", image}}, options);
    const double seconds = now() - start;
    best_cpu = std::min(best_cpu, cpu_seconds() - cpu_start);
    if (nodes.empty()) nodes = times.nodes;
    for (std::size_t k = 0; k < nodes.size(); ++k)
      if (times.nodes[k].seconds < nodes[k].seconds) nodes[k] = times.nodes[k];
    best = std::min(best, seconds);
  }
  report(nodes);
  double flops = 0, sum = 0;
  for (const NodeTime& n : nodes) flops += n.flops, sum += n.seconds;
  fmt::print(
      "first run {:.2f} s, best {:.3f} s, {:.3f} s of processor time ({:.3f} s as the sum of the layers' "
      "best), {:.1f} GFLOP, {:.0f} "
      "GFLOP/s, arena {} MiB\n",
      first, best, best_cpu, sum, flops * 1e-9, flops / best * 1e-9, session->arena_bytes() >> 20);
  return 0;
}

}  // namespace
}  // namespace osprey

int main(int argc, char** argv) {
  osprey::Settings s;
  if (argc > 2) s.height = std::atoi(argv[1]), s.width = std::atoi(argv[2]);
  if (argc > 3) s.runs = std::atoi(argv[3]);
  if (argc > 4) s.threads = std::atoi(argv[4]);
  if (argc > 5) s.block = std::atoi(argv[5]);
  if (argc > 6) s.bf16 = std::string(argv[6]) == "bf16";
  if (argc > 8) s.groups = std::atoi(argv[7]), s.group_width = std::atoi(argv[8]);
  return osprey::run(s);
}

// Which convolutions run together, and what they give: as the CPU's, and for each photo what it gives alone.
#include "cuda/hopper/conv_group.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "cuda/check.h"
#include "cuda/cuda_harness.h"
#include "cuda/device_buffer.h"
#include "cuda/executor.h"
#include "cuda/guarded_device.h"
#include "cuda/packed_weights.h"
#include "cuda/schedule.h"
#include "ops/conv.h"

namespace osprey {
namespace {

// --- The schedule
// ---------------------------------------------------------------------------------------------

std::string op_name(const Node& node) { return node.op.as<Conv>() ? "conv" : ""; }

std::string text_of(const std::vector<std::vector<const Node*>>& schedule) {
  std::string out;
  for (const auto& nodes : schedule) {
    if (!out.empty()) out += " | ";
    for (std::size_t i = 0; i < nodes.size(); ++i) out += (i ? "+" : "") + nodes[i]->name;
  }
  return out;
}

struct Network {
  Graph graph;

  ValueId input(const std::string& name) {
    return graph.add_input(name, {DType::kF16, {Dim(1), Dim(4), Dim(8), Dim(8)}});
  }
  ValueId weight(const std::string& name) {
    return graph.add_weight(name, Tensor::zeros(DType::kF16, {4, 4, 1, 1}));
  }
  ValueId conv(ValueId x, ValueId w, const std::string& name) {
    return graph.add_node(Conv{}, {x, w}, name).outputs[0];
  }
};

TEST(CudaSchedule, LevelsOfAHeadAndHeadsOfOneMapStandTogether) {
  Network n;
  const ValueId p3 = n.input("p3"), w0 = n.weight("w0"), w1 = n.weight("w1"), v0 = n.weight("v0");
  const ValueId p4 = n.conv(p3, n.weight("down"), "down");
  for (const auto& [level, x] : {std::pair("3", p3), std::pair("4", p4)}) {
    n.graph.add_output(n.conv(n.conv(x, w0, std::string("a") + level), w1, std::string("b") + level));
    n.graph.add_output(n.conv(x, v0, std::string("c") + level));
  }
  EXPECT_EQ(text_of(scheduled(n.graph, op_name, 16)), "down | a3+c3+a4+c4 | b3+b4");
  EXPECT_EQ(text_of(scheduled(n.graph, op_name, 3)), "down | a3+c3+a4 | c4 | b3+b4");
  EXPECT_EQ(text_of(scheduled(
                n.graph, [](const Node&) { return ""; }, 16)),
            "down | a3 | b3 | c3 | a4 | b4 | c4");
}

TEST(CudaSchedule, AWeightUsedTwiceOnOneWay) {
  Network n;
  const ValueId x = n.input("x"), w = n.weight("w");
  n.graph.add_output(n.conv(n.conv(x, w, "first"), w, "second"));
  EXPECT_EQ(text_of(scheduled(n.graph, op_name, 16)), "first | second");
}

// --- The kernel
// -----------------------------------------------------------------------------------------------

struct GroupCase {
  std::int64_t images, height, width, channels, outputs;
  int side;
  bool bias;
  Activation activation;
  bool f32_out;
  int residual_scale = 0;  // 0: no residual
  std::array<int, 2> predicted{};
};

constexpr Activation kNone = Activation::kNone, kRelu = Activation::kRelu;

// Each list is one launch.
const std::vector<std::vector<GroupCase>>& group_cases() {
  static const std::vector<std::vector<GroupCase>> cases{
      {{1, 1, 1, 64, 8, 1, true, kNone, false}},
      {{1, 1, 1, 64, 1, 3, false, kRelu, true}},
      {{1, 13, 21, 256, 256, 3, true, kRelu, false}},
      // the levels of two towers: tiles that end within a row, an image and a pair of tiles
      {{1, 20, 30, 64, 256, 3, true, kRelu, false},
       {1, 20, 30, 64, 256, 3, true, kRelu, false},
       {1, 10, 15, 64, 256, 3, true, kRelu, false},
       {1, 5, 8, 64, 256, 3, true, kRelu, false},
       {1, 2, 4, 64, 256, 3, true, kRelu, false}},
      // predictors: scores, box deltas
      {{2, 17, 23, 128, 720, 3, true, kNone, true},
       {2, 17, 23, 128, 36, 3, true, kNone, true},
       {2, 3, 5, 128, 720, 3, true, kNone, true},
       {2, 3, 5, 128, 36, 3, true, kNone, true}},
      {{3, 19, 27, 256, 3, 1, true, kNone, true}, {3, 19, 27, 256, 12, 1, true, kNone, true}},
      // outputs that no width of a tile divides, and rows that do not begin at multiples of 16 bytes
      {{1, 9, 7, 64, 81, 3, true, kNone, true}, {1, 40, 40, 64, 819, 1, true, kNone, true}},
      {{2, 7, 9, 64, 90, 1, true, kRelu, false}, {1, 12, 12, 192, 33, 3, false, kRelu, false}},
      // the last chunk of channels is not full, or the only one; every activation
      {{1, 12, 20, 224, 224, 1, true, Activation::kSwish, false},
       {1, 6, 10, 224, 224, 3, true, Activation::kRelu6, false}},
      {{1, 9, 11, 88, 88, 3, true, Activation::kSwish, false},
       {1, 9, 11, 72, 88, 1, true, Activation::kSigmoid, false}},
      {{1, 9, 11, 40, 810, 1, true, Activation::kSigmoid, true}, {1, 9, 11, 112, 36, 3, true, kNone, true}},
      // more tiles than the chip has blocks
      {{1, 200, 336, 64, 64, 3, true, kRelu, false}, {1, 100, 168, 64, 130, 3, true, kNone, false}},
  };
  return cases;
}

struct Operands {
  Tensor x, weight, bias;  // in C order, all but bias in the kernel's type
  Tensor residual = {};
};

// Of kPredictedChannels channels.
struct Predictors {
  std::array<Tensor, 2> weight;  // [O,C,1,1]
  std::array<Tensor, 2> bias;
};

Operands operands_of(const GroupCase& c, DType type, int seed) {
  if (c.residual_scale > 0) {
    GroupCase plain = c;
    plain.residual_scale = 0;
    Operands out = operands_of(plain, type, seed);
    out.residual = rounded_to(
        random_tensor({c.images, c.outputs, c.height / c.residual_scale, c.width / c.residual_scale}, -1, 1,
                      seed + 1000),
        type);
    return out;
  }
  return {rounded_to(random_tensor({c.images, c.channels, c.height, c.width}, -1, 1, seed), type),
          rounded_to(random_tensor({c.outputs, c.channels, c.side, c.side}, -0.3f, 0.3f, seed + 1), type),
          c.bias ? random_tensor({c.outputs}, -1, 1, seed + 2) : Tensor()};
}

// On the device, ready to launch; the result between guard words.
class Placed {
 public:
  Placed(const GroupCase& c, const Operands& o, DType type)
      : case_(c),
        out_type_(c.f32_out ? DType::kF32 : type),
        x_(DeviceBuffer::holding(as_type(permuted(o.x.to_f32(), {0, 2, 3, 1}), type).bytes())),
        weight_(
            DeviceBuffer::holding(as_type(grouped_conv_weight(o.weight.to_f32(), c.f32_out), type).bytes())),
        bias_(c.bias ? DeviceBuffer::holding(o.bias.bytes()) : DeviceBuffer()),
        residual_(
            c.residual_scale > 0
                ? DeviceBuffer::holding(as_type(permuted(o.residual.to_f32(), {0, 2, 3, 1}), type).bytes())
                : DeviceBuffer()),
        y_(static_cast<std::size_t>(c.images * c.height * c.width * c.outputs) * size_of(out_type_)) {}

  GroupedConv conv() const {
    return {.x = x_.data(),
            .weight = weight_.data(),
            .bias = case_.bias ? bias_.as<float>() : nullptr,
            .y = y_.data(),
            .images = case_.images,
            .height = case_.height,
            .width = case_.width,
            .channels = case_.channels,
            .outputs = case_.outputs,
            .side = case_.side,
            .f32_out = case_.f32_out,
            .activation = case_.activation,
            .residual = case_.residual_scale > 0 ? residual_.data() : nullptr,
            .residual_scale = std::max(case_.residual_scale, 1)};
  }

  // Channels last, [N,H,W,O].
  Tensor result() const {
    return y_.result(out_type_, {case_.images, case_.height, case_.width, case_.outputs});
  }

 private:
  GroupCase case_;
  DType out_type_;
  DeviceBuffer x_, weight_, bias_, residual_;
  GuardedDevice y_;
};

std::vector<Tensor> run_group(const std::vector<GroupCase>& cases, const std::vector<Operands>& operands,
                              DType type) {
  std::vector<Placed> placed;
  std::vector<GroupedConv> convs;
  for (std::size_t i = 0; i < cases.size(); ++i) placed.emplace_back(cases[i], operands[i], type);
  for (const Placed& p : placed) convs.push_back(p.conv());
  launch_conv_group(convs, type, cuda_devices().front().multiprocessors, nullptr);
  cuda_check(cudaDeviceSynchronize(), "grouped convolutions");
  std::vector<Tensor> out;
  for (const Placed& p : placed) out.push_back(p.result());
  return out;
}

bool without_hopper() { return cuda_devices().front().major != 9; }

// Sums in f32 in another order than the CPU's, then the result's own rounding.
double tolerance(DType out) { return out == DType::kF16 ? 0x1p-10 : out == DType::kBF16 ? 0x1p-7 : 1e-5; }

void compare_groups(DType type, const std::vector<std::vector<GroupCase>>& cases) {
  int seed = 0;
  for (const std::vector<GroupCase>& group : cases) {
    std::vector<Operands> operands;
    for (const GroupCase& c : group) operands.push_back(operands_of(c, type, seed += 3));
    const std::vector<Tensor> got = run_group(group, operands, type);
    for (std::size_t i = 0; i < group.size(); ++i) {
      const GroupCase& c = group[i];
      const int border = c.side / 2;
      KernelCase oracle{.op = Conv{.pads = {border, border, border, border},
                                   .activation = c.activation,
                                   .residual_scale = std::max(c.residual_scale, 1),
                                   .f32_out = c.f32_out},
                        .inputs = {}};
      oracle.inputs.push_back({operands[i].x});
      oracle.inputs.push_back({operands[i].weight});
      oracle.inputs.push_back({operands[i].bias});
      if (c.residual_scale > 0) oracle.inputs.push_back({operands[i].residual});
      const Tensor want = permuted(run_oracle(oracle).front().to_f32(), {0, 2, 3, 1});
      expect_close({got[i]}, {want}, tolerance(got[i].dtype()),
                   fmt::format("{} images of {}x{}x{}, {} outputs, {}x{}, {}", c.images, c.height, c.width,
                               c.channels, c.outputs, c.side, c.side, name_of(type)));
    }
  }
}

TEST(CudaConvGroup, F16) {
  SKIP_WITHOUT_GPU();
  if (without_hopper()) GTEST_SKIP() << "not a Hopper GPU";
  compare_groups(DType::kF16, group_cases());
}

TEST(CudaConvGroup, BF16) {
  SKIP_WITHOUT_GPU();
  if (without_hopper()) GTEST_SKIP() << "not a Hopper GPU";
  compare_groups(DType::kBF16, group_cases());
}

const std::vector<std::vector<GroupCase>>& residual_cases() {
  static const std::vector<std::vector<GroupCase>> cases{
      {{1, 2, 2, 64, 256, 1, true, kNone, false, 2}},
      {{1, 26, 42, 512, 256, 1, true, kNone, false, 2}},
      {{3, 14, 22, 256, 256, 1, true, kRelu, false, 2}, {2, 6, 10, 64, 256, 1, true, kNone, false, 2}},
      // outputs that no width of a tile divides; a residual as large as the result
      {{2, 18, 34, 128, 88, 1, false, kNone, false, 2}},
      {{1, 12, 20, 64, 264, 1, true, kRelu, false, 2}},
      {{2, 13, 9, 64, 128, 3, true, kRelu, false, 1}},
      {{1, 1, 1, 64, 8, 1, true, kNone, false, 1}},
      // more tiles than the chip has blocks
      {{2, 150, 130, 64, 256, 1, true, kNone, false, 2}},
  };
  return cases;
}

TEST(CudaConvGroup, Residuals) {
  SKIP_WITHOUT_GPU();
  if (without_hopper()) GTEST_SKIP() << "not a Hopper GPU";
  compare_groups(DType::kF16, residual_cases());
  compare_groups(DType::kBF16, residual_cases());
}

// Predictors of the maps of a launch.
class PlacedPredictors {
 public:
  PlacedPredictors(std::array<int, 2> outputs, DType type, int seed) : outputs_(outputs) {
    for (std::size_t k = 0; k < 2; ++k) {
      if (outputs[k] == 0) continue;
      predictors.weight[k] = rounded_to(
          random_tensor({outputs[k], kPredictedChannels, 1, 1}, -0.3f, 0.3f, seed + 2 * static_cast<int>(k)),
          type);
      predictors.bias[k] = random_tensor({outputs[k]}, -1, 1, seed + 1 + 2 * static_cast<int>(k));
    }
    const auto f32 = [&](const Tensor& w) { return w.empty() ? Tensor() : w.to_f32(); };
    weight_ = DeviceBuffer::holding(
        as_type(grouped_predictor_weight(f32(predictors.weight[0]), f32(predictors.weight[1])), type)
            .bytes());
    Tensor bias = Tensor::zeros(DType::kF32, {kMostPredicted});
    auto to = bias.mutable_values<float>().begin();
    for (std::size_t k = 0; k < 2; to += outputs[k++])
      if (outputs[k] > 0) std::ranges::copy(predictors.bias[k].values<float>(), to);
    bias_ = DeviceBuffer::holding(bias.bytes());
  }

  // For a map of so many pixels.
  GroupedPredictors of_map(std::int64_t pixels) {
    GroupedPredictors out{.weight = weight_.data(), .bias = bias_.as<float>(), .outputs = outputs_};
    for (std::size_t k = 0; k < 2; ++k) {
      results_.emplace_back(static_cast<std::size_t>(pixels * outputs_[k]) * sizeof(float));
      out.y[k] = reinterpret_cast<float*>(results_.back().data());
    }
    return out;
  }
  // Of predictor k of the map that came `map`-th, channels last.
  Tensor result(std::size_t map, std::size_t k, const GroupCase& c) const {
    return results_[2 * map + k].result(DType::kF32, {c.images, c.height, c.width, outputs_[k]});
  }

  Predictors predictors;

 private:
  std::array<int, 2> outputs_;
  DeviceBuffer weight_, bias_;
  std::vector<GuardedDevice> results_;
};

// With maps kept and without: predictors give the same, of the maps as they were kept.
void compare_predictors(const std::vector<GroupCase>& maps, std::array<int, 2> outputs, DType type) {
  std::vector<Operands> operands;
  std::vector<Placed> placed;
  for (const GroupCase& c : maps)
    placed.emplace_back(c, operands.emplace_back(operands_of(c, type, 3 * static_cast<int>(operands.size()))),
                        type);
  PlacedPredictors kept(outputs, type, 77), alone(outputs, type, 77);
  for (PlacedPredictors* p : {&kept, &alone}) {
    std::vector<GroupedConv> convs;
    for (std::size_t i = 0; i < maps.size(); ++i) {
      GroupedConv& c = convs.emplace_back(placed[i].conv());
      if (p == &alone) c.y = nullptr;
      c.predictors = p->of_map(maps[i].images * maps[i].height * maps[i].width);
    }
    launch_conv_group(convs, type, cuda_devices().front().multiprocessors, nullptr);
    cuda_check(cudaDeviceSynchronize(), "predictors");
  }
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const GroupCase& c = maps[i];
    const std::string what = fmt::format("{} images of {}x{}, {} and {} outputs, {}", c.images, c.height,
                                         c.width, outputs[0], outputs[1], name_of(type));
    const Tensor map = placed[i].result();
    const Tensor want = run_group({c}, {operands[i]}, type).front();
    EXPECT_TRUE(std::ranges::equal(map.bytes(), want.bytes())) << what;
    for (std::size_t k = 0; k < 2; ++k) {
      if (outputs[k] == 0) continue;
      const Tensor got = kept.result(i, k, c);
      EXPECT_TRUE(std::ranges::equal(got.bytes(), alone.result(i, k, c).bytes())) << what;
      KernelCase oracle{.op = Conv{.f32_out = true}, .inputs = {}};
      oracle.inputs.push_back({rounded_to(permuted(map.to_f32(), {0, 3, 1, 2}), type)});
      oracle.inputs.push_back({kept.predictors.weight[k]});
      oracle.inputs.push_back({kept.predictors.bias[k]});
      expect_close({got}, {permuted(run_oracle(oracle).front().to_f32(), {0, 2, 3, 1})}, 1e-5, what);
    }
  }
}

TEST(CudaConvGroup, PredictorsOfMaps) {
  SKIP_WITHOUT_GPU();
  if (without_hopper()) GTEST_SKIP() << "not a Hopper GPU";
  const std::vector<GroupCase> levels{{2, 20, 30, 64, 256, 3, true, kRelu, false},
                                      {2, 10, 15, 64, 256, 3, true, kRelu, false},
                                      {2, 1, 1, 64, 256, 3, true, kRelu, false}};
  const std::vector<GroupCase> many{{1, 200, 180, 64, 256, 1, false, kNone, false}};
  for (const DType type : {DType::kF16, DType::kBF16}) {
    compare_predictors(levels, {12, 3}, type);
    compare_predictors(many, {16, 0}, type);
    compare_predictors(many, {4, 1}, type);
    compare_predictors({levels[2]}, {8, 8}, type);
  }
}

// A pyramid's top-down path and a proposal network over it, as the executor joins them.
TEST(CudaConvGroup, PyramidWithPredictors) {
  SKIP_WITHOUT_GPU();
  if (without_hopper()) GTEST_SKIP() << "not a Hopper GPU";
  const DType type = DType::kF16;
  Network n;
  std::map<std::string, Tensor> maps;
  std::map<std::string, Tensor> wanted;
  std::vector<std::string> outputs;
  int seed = 0;
  const auto weight = [&](const Shape& dims, const std::string& name) {
    const Tensor t = rounded_to(random_tensor(dims, -0.1f, 0.1f, ++seed), type);
    return std::pair(n.graph.add_weight(name, t), t);
  };
  const auto [head, head_values] = weight({256, 256, 3, 3}, "head");
  const auto [boxes, box_values] = weight({12, 256, 1, 1}, "boxes");
  const auto [scores, score_values] = weight({3, 256, 1, 1}, "scores");
  const auto conv = [&](const Conv& op, const std::vector<std::pair<ValueId, Tensor>>& in,
                        const std::string& name) {
    KernelCase oracle{.op = op, .inputs = {}};
    std::vector<ValueId> ids;
    for (const auto& [id, values] : in) {
      ids.push_back(id);
      oracle.inputs.push_back({values});
    }
    const ValueId y = n.graph.add_node(op, ids, name).outputs[0];
    const Tensor want = run_oracle(oracle).front();
    wanted[n.graph.value(y).name] = want;
    return std::pair(y, op.f32_out ? want : rounded_to(want.to_f32(), type));
  };
  const Conv plain{}, lateral{.residual_scale = 2};
  const Conv same{.pads = {1, 1, 1, 1}, .activation = kRelu};
  const Conv predict{.f32_out = true};
  std::pair<ValueId, Tensor> above{kNoValue, {}};
  std::vector<std::pair<ValueId, Tensor>> levels;
  for (const auto& [height, width] : {std::pair{5, 7}, {10, 14}, {20, 28}}) {
    const std::string level = fmt::format("c{}", height);
    maps[level] = rounded_to(random_tensor({2, 128, height, width}, -1, 1, ++seed), type);
    const ValueId x = n.graph.add_input(level, {type, {Dim(2), Dim(128), Dim(height), Dim(width)}});
    const auto w = weight({256, 128, 1, 1}, level + ".w");
    std::vector<std::pair<ValueId, Tensor>> in{{x, maps[level]}, w};
    if (!levels.empty()) in.insert(in.end(), {{kNoValue, {}}, levels.back()});
    levels.push_back(conv(levels.empty() ? plain : lateral, in, "lateral" + level));
  }
  for (const auto& level : levels) {
    const std::string name = n.graph.value(level.first).name;
    const auto hidden = conv(same, {level, {head, head_values}}, "head." + name);
    for (const auto& [id, values] : {std::pair(boxes, box_values), std::pair(scores, score_values)}) {
      const ValueId y = conv(predict, {hidden, {id, values}}, n.graph.value(id).name + "." + name).first;
      n.graph.add_output(y);
      outputs.push_back(n.graph.value(y).name);
    }
  }
  const auto executor =
      make_cuda_executor(std::make_shared<const Graph>(std::move(n.graph)), {.tuning_budget = 0});
  const auto session = executor->cuda_session();
  const RunTimes times = session->run_tensors(maps, {.time_nodes = true});
  EXPECT_EQ(times.nodes.size(), 4);  // three laterals, and the network over them
  EXPECT_EQ(times.nodes.back().detail, "own, 3 and their predictors in one launch");
  for (const bool replayed : {false, true}) {
    if (replayed) session->replay(1);
    for (const std::string& name : outputs)
      expect_close({session->value(name)}, {wanted.at(name)}, 2e-3, name);
  }
}

// Levels and heads of depthwise convolutions, as the executor runs them together.
TEST(CudaConvGroup, DepthwiseInOneLaunch) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16})
    for (const int side : {3, 5})
      for (const int stride : {1, 2}) {
        Network n;
        std::map<std::string, Tensor> maps;
        std::map<std::string, KernelCase> oracles;
        int seed = 0;
        for (const auto& [height, width] : {std::pair{1, 1}, {5, 7}, {40, 61}, {2, 3}}) {
          const std::string level = fmt::format("p{}", height);
          maps[level] = rounded_to(random_tensor({2, 24, height, width}, -1, 1, ++seed), type);
          const ValueId x = n.graph.add_input(level, {type, {Dim(2), Dim(24), Dim(height), Dim(width)}});
          for (const Activation kind : {kNone, Activation::kSwish}) {
            const std::string name = fmt::format("{} {}", level, kind == kNone);
            const Conv op{
                .stride = {stride, stride}, .padding = Padding::kSame, .groups = 24, .activation = kind};
            const Tensor weight = rounded_to(random_tensor({24, 1, side, side}, -1, 1, ++seed), type),
                         bias = random_tensor({24}, -1, 1, ++seed);
            const ValueId y = n.graph
                                  .add_node(op,
                                            {x, n.graph.add_weight(name + ".w", weight),
                                             n.graph.add_weight(name + ".b", bias)},
                                            name)
                                  .outputs[0];
            n.graph.add_output(y);
            oracles.emplace(n.graph.value(y).name,
                            KernelCase{.op = op, .inputs = {{maps[level]}, {weight}, {bias}}});
          }
        }
        const auto executor =
            make_cuda_executor(std::make_shared<const Graph>(std::move(n.graph)), {.tuning_budget = 0});
        const auto session = executor->cuda_session();
        session->run_tensors(maps, {});
        for (const auto& [name, oracle] : oracles)
          expect_close({session->value(name)}, run_oracle(oracle), type == DType::kF32 ? 3e-6 : 0x1p-10,
                       fmt::format("{}, {}x{}, stride {}, {}", name, side, side, stride, name_of(type)));
      }
}

TEST(CudaConvGroup, APhotoGivesTheSameAloneAndInABatch) {
  SKIP_WITHOUT_GPU();
  if (without_hopper()) GTEST_SKIP() << "not a Hopper GPU";
  const GroupCase batch{3, 19, 27, 128, 256, 3, true, kRelu, false};
  const Operands operands = operands_of(batch, DType::kF16, 7);
  const Tensor together = run_group({batch}, {operands}, DType::kF16).front();
  GroupCase alone = batch;
  alone.images = 1;
  const Tensor x = operands.x.to_f32();
  const std::size_t x_count = x.values<float>().size() / 3, y_bytes = together.bytes().size() / 3;
  for (std::size_t i = 0; i < 3; ++i) {
    Operands one = operands;
    one.x = Tensor::zeros(DType::kF32, {1, batch.channels, batch.height, batch.width});
    std::copy_n(x.values<float>().begin() + static_cast<std::ptrdiff_t>(i * x_count), x_count,
                one.x.mutable_values<float>().begin());
    const Tensor got = run_group({alone}, {one}, DType::kF16).front();
    EXPECT_TRUE(std::ranges::equal(got.bytes(), together.bytes().subspan(i * y_bytes, y_bytes))) << i;
  }
}

}  // namespace
}  // namespace osprey

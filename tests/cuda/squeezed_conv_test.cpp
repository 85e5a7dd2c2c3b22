// A block of a depthwise convolution, squeeze and excitation and a 1x1 convolution as the executor runs it:
// as the CPU's three ops, in a graph as without one, and for each photo what it gives alone.
#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "cuda/cuda_harness.h"
#include "cuda/executor.h"
#include "cuda/schedule.h"
#include "cuda/squeezed_conv_step.h"
#include "ops/conv.h"
#include "ops/squeeze_excite.h"

namespace osprey {
namespace {

struct Block {
  std::int64_t images, channels, hidden, outputs, height, width;
  int side, stride;
  bool residual;
};

struct Operands {
  Tensor x, depthwise, depthwise_bias, squeeze, squeeze_bias, expand, expand_bias, weight, bias, residual;
};

std::int64_t strided(std::int64_t extent, int stride) { return (extent + stride - 1) / stride; }

Operands operands_of(const Block& b, DType type) {
  unsigned seed = 0;
  const auto layer = [&](const Shape& shape, std::int64_t inputs) {
    const float most = 1 / std::sqrt(static_cast<float>(inputs));
    return rounded_to(random_tensor(shape, -most, most, ++seed), type);
  };
  const auto bias = [&](std::int64_t count) {
    return rounded_to(random_tensor({count}, -1, 1, ++seed), type).to_f32();
  };
  return {.x = rounded_to(random_tensor({b.images, b.channels, b.height, b.width}, -2, 2, ++seed), type),
          .depthwise = layer({b.channels, 1, b.side, b.side}, b.side),
          .depthwise_bias = bias(b.channels),
          .squeeze = layer({b.hidden, b.channels}, b.channels),
          .squeeze_bias = bias(b.hidden),
          .expand = layer({b.channels, b.hidden}, b.hidden),
          .expand_bias = bias(b.channels),
          .weight = layer({b.outputs, b.channels, 1, 1}, b.channels),
          .bias = bias(b.outputs),
          .residual = rounded_to(
              random_tensor({b.images, b.outputs, strided(b.height, b.stride), strided(b.width, b.stride)},
                            -1, 1, ++seed),
              type)};
}

Conv depthwise_of(const Block& b) {
  return {.stride = {b.stride, b.stride},
          .padding = Padding::kSame,
          .groups = static_cast<int>(b.channels),
          .activation = Activation::kSwish};
}

// By the CPU, each map rounded as it would be stored.
Tensor wanted(const Block& b, const Operands& o, DType type) {
  const auto run = [&](auto op, std::vector<Tensor> inputs) {
    KernelCase test{.op = std::move(op)};
    for (Tensor& in : inputs) test.inputs.push_back({std::move(in)});
    return rounded_to(run_oracle(test).front().to_f32(), type);
  };
  const Tensor map = run(depthwise_of(b), {o.x, o.depthwise, o.depthwise_bias});
  const Tensor scaled = run(SqueezeExcite{}, {map, o.squeeze, o.squeeze_bias, o.expand, o.expand_bias});
  std::vector<Tensor> inputs{scaled, o.weight, o.bias};
  if (b.residual) inputs.push_back(o.residual);
  return run(Conv{}, std::move(inputs));
}

struct Network {
  Graph graph;
  std::map<std::string, Tensor> maps;
  std::string output;
};

Network network_of(const Block& b, const Operands& o, DType type) {
  Network n;
  const auto input = [&](const std::string& name, const Tensor& values) {
    std::vector<Dim> dims;
    for (const std::int64_t d : values.shape()) dims.emplace_back(d);
    n.maps[name] = values;
    return n.graph.add_input(name, {type, dims});
  };
  const auto weight = [&](const std::string& name, const Tensor& values) {
    return n.graph.add_weight(name, values);
  };
  const ValueId x = input("x", o.x);
  const ValueId map =
      n.graph.add_node(depthwise_of(b), {x, weight("d.w", o.depthwise), weight("d.b", o.depthwise_bias)}, "d")
          .outputs[0];
  const ValueId scaled = n.graph
                             .add_node(SqueezeExcite{},
                                       {map, weight("s.w", o.squeeze), weight("s.b", o.squeeze_bias),
                                        weight("e.w", o.expand), weight("e.b", o.expand_bias)},
                                       "se")
                             .outputs[0];
  std::vector<ValueId> ins{scaled, weight("p.w", o.weight), weight("p.b", o.bias)};
  if (b.residual) ins.push_back(input("residual", o.residual));
  const ValueId y = n.graph.add_node(Conv{}, ins, "p").outputs[0];
  n.graph.add_output(y);
  n.output = n.graph.value(y).name;
  return n;
}

// The map of `photo` alone.
Tensor part(const Tensor& maps, std::int64_t photo) {
  Shape shape = maps.shape();
  shape[0] = 1;
  Tensor out = Tensor::zeros(maps.dtype(), shape);
  const std::size_t bytes = out.bytes().size();
  std::ranges::copy(maps.bytes().subspan(static_cast<std::size_t>(photo) * bytes, bytes), out.mutable_data());
  return out;
}

class Session {
 public:
  Session(const Block& b, const Operands& o, DType type) : network_(network_of(b, o, type)) {
    executor_ = make_cuda_executor(std::make_shared<const Graph>(std::move(network_.graph)),
                                   {.tf32 = true, .tuning_budget = 0});
    session_ = executor_->cuda_session();
  }
  RunTimes run() { return session_->run_tensors(network_.maps, {.time_nodes = true}); }
  Tensor result() { return session_->value(network_.output); }
  void replay() { session_->replay(2); }

 private:
  Network network_;
  std::unique_ptr<CudaExecutor> executor_;
  std::unique_ptr<CudaSession> session_;
};

std::size_t steps(const Block& b, const Operands& o, DType type, bool tf32) {
  const Graph graph = network_of(b, o, type).graph;
  auto groups = scheduled(
      graph, [](const Node&) { return ""; }, 1);
  join_squeezed_convs(graph, tf32, groups);
  return groups.size();
}

TEST(CudaSqueezedConv, WhatAPlanJoins) {
  const Block block{1, 16, 4, 8, 5, 7, 3, 1, true};
  const Operands operands = operands_of(block, DType::kF16);
  EXPECT_EQ(steps(block, operands, DType::kF16, false), 1u);
  EXPECT_EQ(steps(block, operands_of(block, DType::kF32), DType::kF32, true), 1u);
  EXPECT_EQ(steps(block, operands_of(block, DType::kF32), DType::kF32, false), 3u);
  const Block wide{1, 8192, 4, 8, 2, 2, 3, 1, false};  // more than its gates' kernel takes
  EXPECT_EQ(steps(wide, operands_of(wide, DType::kF16), DType::kF16, true), 3u);
  Operands pairs = operands;  // as many groups as outputs, of two channels each
  pairs.x = rounded_to(random_tensor({1, 32, 5, 7}, -2, 2, 1), DType::kF16);
  pairs.depthwise = rounded_to(random_tensor({16, 2, 3, 3}, -1, 1, 2), DType::kF16);
  EXPECT_EQ(steps(block, pairs, DType::kF16, true), 3u);
}

std::vector<Block> blocks() {
  if (short_cases()) return {{2, 72, 20, 24, 15, 18, 3, 2, true}};
  return {{1, 32, 8, 16, 40, 61, 3, 1, false},   {2, 96, 4, 24, 33, 18, 3, 2, false},
          {3, 240, 10, 40, 9, 17, 5, 1, true},   {1, 8, 1, 8, 1, 1, 3, 1, true},
          {2, 1152, 48, 320, 5, 7, 3, 1, false}, {1, 1632, 68, 272, 16, 16, 5, 1, true}};
}

TEST(CudaSqueezedConv, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const Block& b : blocks())
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      const std::string what = fmt::format("{} channels, {}", b.channels, name_of(type));
      const Operands operands = operands_of(b, type);
      Session session(b, operands, type);
      EXPECT_EQ(session.run().nodes.size(), 1) << what;
      const Tensor got = session.result();
      expect_close({got}, {wanted(b, operands, type)}, type == DType::kBF16 ? 1.2e-2 : 2e-3, what);
      session.replay();
      EXPECT_TRUE(std::ranges::equal(session.result().bytes(), got.bytes())) << what << ", replayed";
      for (std::int64_t i = 0; b.images > 1 && i < b.images; ++i) {
        Block one = b;
        one.images = 1;
        Operands of_one = operands;
        of_one.x = part(operands.x, i), of_one.residual = part(operands.residual, i);
        Session alone(one, of_one, type);
        alone.run();
        EXPECT_TRUE(std::ranges::equal(alone.result().bytes(), part(got, i).bytes()))
            << what << ", photo " << i;
      }
    }
}

}  // namespace
}  // namespace osprey

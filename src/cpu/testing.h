// For tests of CPU kernels: one op run by the executor as part of a small graph, in every layout and type,
// against a plain reference.
#pragma once

#include <atomic>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cpu/executor.h"
#include "graph/graph.h"
#include "ops/cast.h"
#include "ops/conv.h"

namespace osprey::testing {

// What operator new was asked for since they were last set to 0.
extern std::atomic<std::size_t> largest_allocation, allocations;

inline Tensor random_tensor(const Shape& shape, unsigned seed = 1, float scale = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  Tensor out = Tensor::zeros(DType::kF32, shape);
  for (float& v : out.mutable_values<float>()) v = uniform(random);
  return out;
}

// Rounded to the type and widened again: what a kernel of that type sees of f32 values.
inline Tensor as_seen(const Tensor& values, DType type) {
  if (values.shape().empty()) return {};
  Tensor out = Tensor::from<float>(values.values<float>(), values.shape());
  if (type == DType::kBF16)
    for (float& v : out.mutable_values<float>()) v = to_float(to_bfloat16(v));
  return out;
}

// How an op is put to the test.
struct OpCase {
  Op op;
  std::vector<Tensor> inputs;     // f32; cast to `type` in the graph
  std::vector<Tensor> weights;    // the inputs after them, f32; an empty tensor leaves one out
  DType type = DType::kF32;       // that the op computes in
  std::int64_t bound = 0;         // > 0: dims[0] of the inputs is at most that
  std::vector<Tensor> tail = {};  // inputs after the weights; an empty tensor leaves one out
  CpuOptions options{.threads = 2, .block = 16, .guards = true};
  std::string* detail = nullptr;  // is told how the op was run
  std::vector<Tensor> last = {};  // weights after the tail
};

inline TensorType type_of(const Tensor& t, std::int64_t bound) {
  TensorType type{DType::kF32, {}};
  for (const auto d : t.shape()) type.dims.emplace_back(d);
  if (bound > 0 && !type.dims.empty()) type.dims[0] = Dim::at_most(bound);
  return type;
}

inline ValueId identity(Graph& graph, ValueId x, std::int64_t channels, const std::string& name) {
  Tensor eye = Tensor::zeros(DType::kF32, {channels, channels, 1, 1});
  for (std::int64_t c = 0; c < channels; ++c)
    eye.mutable_values<float>()[static_cast<std::size_t>(c * channels + c)] = 1;
  const ValueId w = graph.add_weight(name + ".weight", eye);
  return graph.add_node(Conv{}, {x, w}, name).outputs[0];
}

// input (-> cast) (-> identity convolution, which brings 4-D values into the block layout) -> op -> (cast) ->
// y
inline Tensor run_case(const OpCase& c) {
  auto graph = std::make_shared<Graph>("case");
  std::map<std::string, Tensor> feed;
  std::vector<ValueId> ids;
  const auto add_input = [&](const Tensor& x, const std::string& name) {
    if (x.shape().empty()) return ids.push_back(kNoValue);
    ValueId id = graph->add_input(name, type_of(x, c.bound));
    feed[name] = x;
    if (c.type != DType::kF32)
      id = graph->add_node(Cast{.to = FloatType::kBF16}, {id}, name + ".cast").outputs[0];
    if (x.shape().size() == 4) id = identity(*graph, id, x.dim(1), name + ".identity");
    ids.push_back(id);
  };
  for (std::size_t i = 0; i < c.inputs.size(); ++i) add_input(c.inputs[i], "x" + std::to_string(i));
  for (std::size_t i = 0; i < c.weights.size(); ++i)
    ids.push_back(c.weights[i].empty() ? kNoValue : graph->add_weight("w" + std::to_string(i), c.weights[i]));
  for (std::size_t i = 0; i < c.tail.size(); ++i) add_input(c.tail[i], "t" + std::to_string(i));
  for (std::size_t i = 0; i < c.last.size(); ++i)
    ids.push_back(graph->add_weight("l" + std::to_string(i), c.last[i]));
  ValueId y = graph->add_node(c.op, ids, "op").outputs[0];
  if (graph->value(y).type.dtype == DType::kBF16) y = graph->add_node(Cast{}, {y}, "y.cast").outputs[0];
  graph->rename(y, "y");
  graph->add_output(y);
  const auto session = make_cpu_executor(graph, c.options)->cpu_session();
  RunOptions run;
  run.time_nodes = c.detail != nullptr;
  for (const NodeTime& node : session->run_tensors(feed, run).nodes)
    if (node.name == "op") *c.detail = node.detail;
  const Tensor borrowed = session->output("y");
  return Tensor::from<float>(borrowed.values<float>(), borrowed.shape());
}

// Every element within `tolerance` of the largest magnitude.
inline void expect_near(const Tensor& got, const Tensor& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  double largest = 1e-6, worst = 0;
  for (const float v : want.values<float>()) largest = std::max(largest, std::abs(double{v}));
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double d = std::abs(double{got.values<float>()[at]} - double{want.values<float>()[at]});
    worst = std::isnan(d) ? 1e30 : std::max(worst, d);
  }
  EXPECT_LE(worst, tolerance * largest) << what;
}

}  // namespace osprey::testing

#include "cuda/squeezed_conv_step.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "cuda/alignment.h"
#include "cuda/depthwise_conv.h"
#include "cuda/early_launch.h"
#include "cuda/gated_weights.h"
#include "cuda/gemm.h"
#include "cuda/joined_steps.h"
#include "cuda/packed_weights.h"
#include "ops/conv.h"
#include "ops/squeeze_excite.h"

namespace osprey {
namespace {

bool has_input(const Node& node, std::size_t i) {
  return i < node.inputs.size() && node.inputs[i] != kNoValue;
}

bool is_projection(const Graph& graph, const Node& node) {
  const auto* op = node.op.as<Conv>();
  return op && graph.weight(node.inputs[1]) && is_pointwise(graph, node) &&
         op->activation == Activation::kNone && !op->f32_out && !has_input(node, 4);
}

bool is_depthwise(const Graph& graph, const Node& node) {
  const auto* op = node.op.as<Conv>();
  if (!op) return false;
  const std::vector<Dim>& x = graph.value(node.inputs[0]).type.dims;
  return x[0].is_exact() && !has_input(node, 3) && !has_input(node, 4) && graph.weight(node.inputs[1]) &&
         is_depthwise_step(*op, weight_dims(graph, node), x[1].constant());
}

// As far as its layers tell.
bool takes_gates(const Graph& graph, const Node& squeeze) {
  const Shape layer = weight_dims(graph, squeeze);
  return gates_weights(
      {.pixels = 1, .channels = static_cast<int>(layer[1]), .hidden = static_cast<int>(layer[0])});
}

// The three nodes around a squeeze_excite; empty where they are not what a step takes.
std::vector<const Node*> members_around(const Graph& graph, bool tf32, const Node& squeeze) {
  const Node* const depthwise = graph.producer(squeeze.inputs[0]);
  const Node* const projection = sole_reader(graph, squeeze.outputs[0]);
  if (!depthwise || !projection || sole_reader(graph, squeeze.inputs[0]) != &squeeze) return {};
  if (!is_depthwise(graph, *depthwise) || !is_projection(graph, *projection) ||
      projection->inputs[0] != squeeze.outputs[0] || !takes_gates(graph, squeeze))
    return {};
  const auto type_of = [&](ValueId id) { return graph.value(id).type.dtype; };
  const DType type = type_of(squeeze.inputs[0]);
  const bool is_one_type = type_of(depthwise->inputs[0]) == type && type_of(squeeze.outputs[0]) == type &&
                           type_of(projection->outputs[0]) == type;
  if (!is_one_type || (type == DType::kF32 && !tf32)) return {};
  return {depthwise, &squeeze, projection};
}

class SqueezedConvStep final : public CudaStep {
 public:
  explicit SqueezedConvStep(std::span<CudaPrepare* const> members)
      : images_(members[1]->input(0).dims[0]), shape_(shape_of(members)) {
    CudaPrepare &depthwise = *members[0], &squeeze = *members[1], &projection = *members[2];
    inputs_ = {depthwise.node().inputs.size(), squeeze.node().inputs.size()};
    check(gates_weights(shape_), "{}: squeezing {} channels", squeeze.node().name, shape_.channels);
    sums_ = zeros(squeeze, static_cast<std::size_t>(sums()) * sizeof(long long));
    readers_ = zeros(squeeze, static_cast<std::size_t>(images_) * sizeof(unsigned));
    depthwise_ = summed_depthwise_step(depthwise, sums_.as<long long>());
    const DType type = shape_.type;
    layers_ = {packed_vector(squeeze, 1, type),
               packed_weight(squeeze, 3, fmt::format("transposed {}", name_of(type)),
                             [&](const Tensor& f32) { return as_type(transposed(f32), type); }),
               packed_vector(squeeze, 2, DType::kF32), packed_vector(squeeze, 4, DType::kF32)};
    weight_ =
        packed_weight(projection, 1, fmt::format("channels last {}", name_of(type)), [&](const Tensor& f32) {
          return as_type(permuted(f32, {0, 2, 3, 1}), type);
        });
    residual_ = projection.has_input(3);
    const Gemm gemm{.rows = images_ * shape_.pixels,
                    .inputs = shape_.channels,
                    .outputs = shape_.outputs,
                    .type = type,
                    .out_type = type,
                    .residual = residual_,
                    .tf32 = projection.tf32(),
                    .bias = projection.has_input(2) ? packed_vector(projection, 2, type) : nullptr,
                    .products = images_,
                    .own_weights = true};
    flops_ = gemm.flops();
    product_ = fastest_gemm(projection, gemm, weight_->data());
    projection.request_scratch(product_at() + product_->workspace());
  }

  void launch(CudaRun& run) override {
    depthwise_->launch(run);
    auto* const gates = reinterpret_cast<float*>(run.scratch());
    std::byte* const gated = run.scratch() + gates_bytes();
    launch_gated_weights(shape_,
                         {.sums = sums_.as<long long>() + run.lane() * sums(),
                          .readers = readers_.as<unsigned>() + run.lane() * images_,
                          .squeeze = layers_[0]->data(),
                          .expand = layers_[1]->data(),
                          .squeeze_bias = layers_[2]->as<float>(),
                          .expand_bias = layers_[3]->as<float>(),
                          .weights = weight_->data(),
                          .gated = gated,
                          .gates = gates},
                         images_, run.stream());
    const CudaValue& map = run.out(0);
    product_->run({.x = map.data,
                   .weight = gated,
                   .residual = residual_ ? run.in(inputs_[0] + inputs_[1] + 3).data : nullptr,
                   .y = run.out(2).data},
                  run.scratch() + product_at(), run.stream());
    if (!is_captured(run.stream()))
      launch_gated_map(shape_, gates, map.data, run.out(1).data, images_, run.stream());
  }
  std::string detail() const override {
    return fmt::format("{}, gates on weights, {}", depthwise_->detail(), product_->name());
  }
  double flops() const override { return depthwise_->flops() + flops_; }

 private:
  static GatesShape shape_of(std::span<CudaPrepare* const> members) {
    const Shape &x = members[1]->input(0).dims, &hidden = members[1]->input(1).dims,
                &y = members[2]->output(0).dims;
    return {.type = members[1]->input(0).dtype,
            .pixels = static_cast<int>(x[2] * x[3]),
            .channels = static_cast<int>(x[1]),
            .hidden = static_cast<int>(hidden[0]),
            .outputs = static_cast<int>(y[1]),
            .activation = members[1]->op<SqueezeExcite>().activation,
            .early = may_launch_early(members[1]->device())};
  }
  // For each lane.
  static DeviceBuffer zeros(const CudaPrepare& p, std::size_t bytes) {
    DeviceBuffer out(kCudaLanes * bytes);
    cuda_check(cudaMemsetAsync(out.data(), 0, out.size(), p.stream()), "squeezed convolution");
    return out;
  }
  std::int64_t sums() const { return images_ * shape_.channels; }

  // Of the scratch: gates, gated weights, the product's own.
  std::size_t gates_bytes() const {
    return device_aligned(static_cast<std::size_t>(images_ * shape_.channels) * sizeof(float));
  }
  std::size_t product_at() const {
    const std::int64_t count = images_ * shape_.outputs * shape_.channels;
    return gates_bytes() + device_aligned(static_cast<std::size_t>(count) * size_of(shape_.type));
  }

  const std::int64_t images_;
  const GatesShape shape_;
  std::array<std::size_t, 2> inputs_{};  // of the first two members
  DeviceBuffer sums_, readers_;          // of each lane; zero between launches
  std::unique_ptr<CudaStep> depthwise_;
  std::array<std::shared_ptr<const DeviceBuffer>, 4> layers_;  // of the gates, then their biases
  std::shared_ptr<const DeviceBuffer> weight_;
  bool residual_ = false;
  std::unique_ptr<MatrixCall> product_;
  double flops_ = 0;
};

}  // namespace

void join_squeezed_convs(const Graph& graph, bool tf32, std::vector<std::vector<const Node*>>& groups) {
  const auto group_of = [&](const Node* node) {
    return std::ranges::find_if(groups, [&](const auto& g) { return g.size() == 1 && g.front() == node; });
  };
  for (const Node& squeeze : graph.nodes()) {
    if (!squeeze.op.as<SqueezeExcite>()) continue;
    const std::vector<const Node*> members = members_around(graph, tf32, squeeze);
    if (members.empty() ||
        std::ranges::any_of(members, [&](const Node* node) { return group_of(node) == groups.end(); }))
      continue;
    *group_of(members[2]) = members;
    for (const Node* node : {members[0], members[1]}) groups.erase(group_of(node));
  }
}

bool is_squeezed_conv(std::span<const Node* const> nodes) {
  return nodes.size() == 3 && nodes[1]->op.as<SqueezeExcite>();
}

std::unique_ptr<CudaStep> squeezed_conv_step(std::span<CudaPrepare* const> members) {
  return std::make_unique<SqueezedConvStep>(members);
}

}  // namespace osprey

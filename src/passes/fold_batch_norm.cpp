// conv followed by batch_norm: with f = scale / sqrt(variance + epsilon), per output channel,
//   weight' = weight * f,  bias' = (bias_conv - mean) * f + bias_norm.
// The factors are computed in double; each product is rounded to float once. Convolutions of the same weights
// under the same norm (Mask R-CNN's second stage, which runs twice) share what is folded.
//
// Where the norm asks for an exact factor, weights stay: the convolution adds -mean to its sums, then
// multiplies by f and adds the norm's bias, as TensorFlow does (kernels/fused_batch_norm_op.cc); or the norm
// stays as it is (PassOptions::exact_factors).
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "ops/batch_norm.h"
#include "ops/conv.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace osprey {
namespace {

using Load = std::function<Tensor()>;

struct Norm {
  Load scale, bias, mean, variance;
  float epsilon;
};

std::vector<double> factors(const Norm& norm) {
  const Tensor scale = norm.scale(), variance = norm.variance();
  const auto s = scale.values<float>(), v = variance.values<float>();
  std::vector<double> out(s.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = s[i] / std::sqrt(static_cast<double>(v[i]) + norm.epsilon);
  return out;
}

Tensor scaled_weight(const Load& weight, const Norm& norm) {
  const Tensor in = weight().to_f32();
  Tensor out = Tensor::zeros(DType::kF32, in.shape());
  const std::vector<double> f = factors(norm);
  const auto from = in.values<float>();
  const auto to = out.mutable_values<float>();
  const std::size_t each = from.size() / f.size();
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<float>(from[i] * f[i / each]);
  return out;
}

Tensor factor_tensor(const Norm& norm) {
  const std::vector<double> f = factors(norm);
  Tensor out = Tensor::zeros(DType::kF32, {static_cast<std::int64_t>(f.size())});
  std::transform(f.begin(), f.end(), out.mutable_values<float>().begin(),
                 [](double value) { return static_cast<float>(value); });
  return out;
}

// What is added to the sums before the factor.
Tensor centre(const Load& bias, const Norm& norm) {
  const Tensor mean = norm.mean(), own = bias ? bias().to_f32() : Tensor::zeros(DType::kF32, mean.shape());
  Tensor out = Tensor::zeros(DType::kF32, mean.shape());
  for (std::size_t i = 0; i < mean.values<float>().size(); ++i)
    out.mutable_values<float>()[i] = own.values<float>()[i] - mean.values<float>()[i];
  return out;
}

Tensor shifted_bias(const Load& bias, const Norm& norm) {
  const std::vector<double> f = factors(norm);
  const Tensor mean = norm.mean(), shift = norm.bias();
  const Tensor own = bias ? bias().to_f32() : Tensor::zeros(DType::kF32, mean.shape());
  Tensor out = Tensor::zeros(DType::kF32, mean.shape());
  const auto to = out.mutable_values<float>();
  for (std::size_t i = 0; i < f.size(); ++i)
    to[i] =
        static_cast<float>((static_cast<double>(own.values<float>()[i]) - mean.values<float>()[i]) * f[i] +
                           shift.values<float>()[i]);
  return out;
}

// The weights of a convolution and of the norm behind it, and the norm's epsilon.
using Sources = std::pair<std::vector<ValueId>, float>;

// What the convolution has instead.
struct Folded {
  std::vector<ValueId> inputs;  // but its x
};

// A convolution that nothing has been fused into, so that the normalisation is the first thing after it.
bool bare(const Node& node) {
  const Conv* conv = node.op.as<Conv>();
  return conv && conv->activation == Activation::kNone && node.inputs.size() <= 3;
}

}  // namespace

void fold_batch_norm(Graph& graph, const PassOptions& options) {
  const Uses uses(graph);
  std::vector<bool> gone(graph.nodes().size(), false);
  std::map<Sources, Folded> done;
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node norm_node = graph.nodes()[i];
    const BatchNorm* op = norm_node.op.as<BatchNorm>();
    if (!op) continue;
    const bool exact = op->exact_factor && options.precision == DType::kF32;
    if (exact && options.exact_factors == ExactFactors::kInNorm) continue;
    const bool in_conv = exact && options.exact_factors == ExactFactors::kInConv;
    const int at = uses.sole_producer(norm_node.inputs[0]);
    if (at < 0 || !bare(graph.nodes()[static_cast<std::size_t>(at)])) continue;
    const auto load = [&](ValueId id) -> Load {
      const Weight* weight = id == kNoValue ? nullptr : graph.weight(id);
      return weight ? weight->load : Load{};
    };
    const Norm norm{load(norm_node.inputs[1]), load(norm_node.inputs[2]), load(norm_node.inputs[3]),
                    load(norm_node.inputs[4]), op->epsilon};
    const Node conv = graph.nodes()[static_cast<std::size_t>(at)];
    const Load weight = load(conv.inputs[1]), bias = conv.inputs.size() > 2 ? load(conv.inputs[2]) : Load{};
    if (!norm.scale || !norm.bias || !norm.mean || !norm.variance || !weight) continue;

    Sources sources{{conv.inputs.begin() + 1, conv.inputs.end()}, op->epsilon};
    sources.first.insert(sources.first.end(), norm_node.inputs.begin() + 1, norm_node.inputs.end());
    auto [folded, fresh] = done.try_emplace(std::move(sources));
    if (fresh) {
      const Value weight_value = graph.value(conv.inputs[1]);
      const TensorType channels{DType::kF32, {weight_value.type.dims[0]}};
      std::vector<ValueId>& inputs = folded->second.inputs;
      const auto add = [&](const std::string& name, const TensorType& type, Load made) {
        inputs.push_back(graph.add_weight(name, type, std::move(made)));
      };
      if (in_conv) {
        inputs = {conv.inputs[1]};
        add(conv.name + ".centre", channels, [bias, norm] { return centre(bias, norm); });
        inputs.push_back(kNoValue);  // no residual
        add(conv.name + ".factor", channels, [norm] { return factor_tensor(norm); });
        inputs.push_back(norm_node.inputs[2]);
      } else {
        add(weight_value.name + "/folded", weight_value.type,
            [weight, norm] { return scaled_weight(weight, norm); });
        add(conv.name + ".bias/folded", channels, [bias, norm] { return shifted_bias(bias, norm); });
      }
    }
    Node& node = graph.mutable_nodes()[static_cast<std::size_t>(at)];
    node.inputs = {conv.inputs[0]};
    node.inputs.insert(node.inputs.end(), folded->second.inputs.begin(), folded->second.inputs.end());
    node.outputs = norm_node.outputs;
    gone[i] = true;
  }
  erase_nodes(graph, gone);
}

}  // namespace osprey

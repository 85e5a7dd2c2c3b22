// Convolutions (transposed ones whose windows do not overlap, too) and fully connected layers whose input has
// a limit compute in integers: weights with one scale for each channel of the result, activations with one
// for all. A value that only such layers read is stored in 8 bits; one that others read stays a float and is
// quantised beside it. Ops that only move values work in 8 bits where nobody needs their floats; what they
// join shares one scale. Scores, deltas and whatever is no such layer stay floats.
//
// Beside f16, which is to say on a GPU, RoIAlign reads what a convolution stores in 8 bits
// (cuda/conversions.h).
#include "passes/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "core/error.h"
#include "ops/activate.h"
#include "ops/concat.h"
#include "ops/conv.h"
#include "ops/conv_transpose.h"
#include "ops/dequantize.h"
#include "ops/flatten.h"
#include "ops/linear.h"
#include "ops/max_pool.h"
#include "ops/quantize.h"
#include "ops/quantized_conv.h"
#include "ops/quantized_conv_transpose.h"
#include "ops/quantized_linear.h"
#include "ops/roi_align.h"
#include "ops/upsample.h"
#include "passes/narrowed.h"
#include "passes/pass.h"

namespace osprey {
namespace {

// Weights use -127..127, so that their negatives exist, too.
constexpr float kLargestWeight = 127;

bool moves_values(const Node& node) {
  const auto* upsample = node.op.as<Upsample>();
  return node.op.as<MaxPool>() || node.op.as<Concat>() || node.op.as<Flatten>() ||
         (upsample && upsample->mode == Interpolation::kNearest);
}

bool is_non_negative(Activation kind) {
  return kind == Activation::kRelu || kind == Activation::kRelu6 || kind == Activation::kSigmoid;
}

// What a layer's integers and scales are made of. The least of the scales of what it reads counts: layers may
// share a weight.
struct WeightSource {
  std::function<Tensor()> weight, bias;  // without a bias: empty
  float x_scale = 1;
};

// The largest of a channel is kLargestWeight. A channel that vanishes beside its bias has a larger scale: the
// bias is to fit an i32 of steps x_scale * scale, as those who read exported layers have it.
std::vector<float> channel_scales(const Tensor& weight, const WeightSource& source) {
  constexpr float kLargestBias = 1 << 30;
  const auto values = weight.values<float>();
  const Tensor bias = source.bias ? source.bias().to_f32() : Tensor();
  const auto channels = static_cast<std::size_t>(weight.dim(0));
  const std::size_t each = values.size() / channels;
  std::vector<float> out(channels);
  for (std::size_t o = 0; o < channels; ++o) {
    float largest = 0;
    for (const float v : values.subspan(o * each, each)) largest = std::max(largest, std::abs(v));
    const float for_bias =
        bias.empty() ? 0 : std::abs(bias.values<float>()[o]) / (source.x_scale * kLargestBias);
    const float of_weights = largest > 0 ? largest / kLargestWeight : 1;
    out[o] = std::max({of_weights, for_bias, std::numeric_limits<float>::min()});
  }
  return out;
}

Tensor integers(const WeightSource& source) {
  const Tensor wide = source.weight().to_f32();
  const std::vector<float> scales = channel_scales(wide, source);
  const auto from = wide.values<float>();
  const std::size_t each = from.size() / scales.size();
  Tensor out = Tensor::zeros(DType::kI8, wide.shape());
  const auto to = out.mutable_values<std::int8_t>();
  for (std::size_t i = 0; i < from.size(); ++i)
    to[i] = static_cast<std::int8_t>(
        std::clamp(std::nearbyint(from[i] / scales[i / each]), -kLargestWeight, kLargestWeight));
  return out;
}

Tensor scale_tensor(const WeightSource& source) {
  const Tensor wide = source.weight().to_f32();
  const std::vector<float> scales = channel_scales(wide, source);
  return Tensor::from<float>(std::span<const float>(scales), {wide.dim(0)});
}

std::function<Tensor()> widest(const std::function<Tensor()>& load) {
  const Narrowed* narrow = load.target<Narrowed>();
  return narrow ? narrow->wide : load;
}

// [C,O,kh,kw] with the channels of the result first.
Tensor result_first(const Tensor& given) {
  const Tensor f32 = given.to_f32();
  const std::int64_t channels = f32.dim(0), outputs = f32.dim(1), taps = f32.dim(2) * f32.dim(3);
  Tensor out = Tensor::zeros(DType::kF32, {outputs, channels, f32.dim(2), f32.dim(3)});
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t o = 0; o < outputs; ++o)
      std::copy_n(f32.values<float>().data() + (c * outputs + o) * taps, taps,
                  out.mutable_values<float>().data() + (o * channels + c) * taps);
  return out;
}

StoredType stored_type(DType type) {
  return type == DType::kF16 ? StoredType::kF16 : type == DType::kBF16 ? StoredType::kBF16 : StoredType::kF32;
}

class Quantizer {
 public:
  Quantizer(Graph& graph, const PassOptions& options)
      : graph_(graph),
        plan_(options.quantization),
        beside_f16_(options.precision == DType::kF16),
        scale_class_(graph.values().size()),
        needs_(graph.values().size()) {
    std::iota(scale_class_.begin(), scale_class_.end(), 0);
    for (const Node& node : graph_.nodes())
      if (moves_values(node))
        for (const ValueId in : node.inputs) join(in, node.outputs[0]);
    for (std::size_t v = 0; v < graph_.values().size(); ++v) {
      const auto id = static_cast<ValueId>(v);
      Class& of = classes_[find(id)];
      if (const auto it = plan_.limits.find(graph_.value(id).name); it != plan_.limits.end())
        of.limit = std::max(of.limit, it->second);
      of.non_negative = of.non_negative && osprey::is_non_negative(graph_, id);
    }
    for (const Node& node : graph_.nodes()) {
      if (!quantizes(node)) continue;
      const auto [least, first] = least_x_scales_.try_emplace(node.inputs[1], scale(node.inputs[0]));
      if (!first) least->second = std::min(least->second, scale(node.inputs[0]));
    }
    find_needs();
  }

  void run() {
    std::vector<Node> nodes = std::move(graph_.mutable_nodes());
    graph_.mutable_nodes().clear();
    for (Node& node : nodes) rewrite(std::move(node));
    graph_.infer_types();
  }

 private:
  // Values that share a scale.
  struct Class {
    float limit = 0;
    bool non_negative = true;
  };
  // How the readers of a value want it.
  struct Need {
    bool real = false, integer = false;
  };

  ValueId find(ValueId id) const {
    while (scale_class_[static_cast<std::size_t>(id)] != id) id = scale_class_[static_cast<std::size_t>(id)];
    return id;
  }
  void join(ValueId a, ValueId b) { scale_class_[static_cast<std::size_t>(find(a))] = find(b); }

  Need& need(ValueId id) { return needs_[static_cast<std::size_t>(id)]; }
  bool has_limit(ValueId id) const { return classes_.at(find(id)).limit > 0; }
  IntegerType integer_type(ValueId id) const {
    return classes_.at(find(id)).non_negative ? IntegerType::kU8 : IntegerType::kI8;
  }
  float scale(ValueId id) const {
    const Class& of = classes_.at(find(id));
    return of.limit / (of.non_negative ? 255.f : 127.f);
  }

  bool quantizes(const Node& node) const {
    return is_quantizable(graph_, node) && has_limit(node.inputs[0]) &&
           !plan_.kept.contains(graph_.value(node.outputs[0]).name);
  }
  bool aligns(const Node& node) const {
    const auto* op = node.op.as<RoiAlign>();
    return beside_f16_ && op && op->sampling == RoiSampling::kBins;
  }
  static ValueId residual(const Node& node) { return node.inputs.size() > 3 ? node.inputs[3] : kNoValue; }

  // Whether a node stores its result in 8 bits.
  bool makes_integers(const Node& node) {
    const Need& y = need(node.outputs[0]);
    if (!y.integer || y.real) return false;
    if (moves_values(node)) return true;
    const ValueId added = residual(node);
    return quantizes(node) && (added == kNoValue || has_limit(added));
  }

  // Whether a layer makes a value, which it could store in 8 bits.
  bool will_be_integer(ValueId id) {
    const Node* maker = graph_.producer(id);
    return maker && quantizes(*maker) && (residual(*maker) == kNoValue || has_limit(residual(*maker)));
  }

  // From the last node to the first, so that a value's readers are known before its maker.
  void find_needs() {
    for (const ValueId id : graph_.outputs()) need(id).real = true;
    for (auto node = graph_.nodes().rbegin(); node != graph_.nodes().rend(); ++node) {
      const bool integers = makes_integers(*node);
      for (std::size_t i = 0; i < node->inputs.size(); ++i) {
        const ValueId in = node->inputs[i];
        if (in == kNoValue || graph_.weight(in)) continue;
        const bool wants_integer =
            integers || (i == 0 && quantizes(*node)) || (aligns(*node) && will_be_integer(in));
        (wants_integer ? need(in).integer : need(in).real) = true;
      }
    }
  }

  void rewrite(Node node) {
    const bool integers = makes_integers(node);
    if (integers && moves_values(node)) {
      for (ValueId& in : node.inputs) in = integer(in);
    } else if (quantizes(node)) {
      node = quantized(node, integers);
    } else if (aligns(node)) {
      for (ValueId& in : node.inputs) in = real(in);
    }
    if (integers) {
      const ValueId y = node.outputs[0];
      integers_[y] = y;
      graph_.set_type(y, {dtype_of(integer_type(y)), graph_.value(y).type.dims});
    }
    graph_.mutable_nodes().push_back(std::move(node));
  }

  Node quantized(const Node& node, bool integers) {
    const ValueId added = residual(node), bias = node.inputs.size() > 2 ? node.inputs[2] : kNoValue;
    const bool transposed = node.op.as<ConvTranspose>() != nullptr;
    const auto [weight, scales] = weights(node.inputs[1], bias, transposed);
    std::vector<ValueId> inputs{integer(node.inputs[0]), weight, scales, bias};
    if (added != kNoValue) inputs.push_back(integers ? integer(added) : added);
    if (inputs.back() == kNoValue) inputs.pop_back();
    Op op = node.op.as<Conv>() ? Op(quantized_conv(node, integers))
            : transposed       ? Op(plain_layer<QuantizedConvTranspose, ConvTranspose>(node, integers))
                               : Op(plain_layer<QuantizedLinear, Linear>(node, integers));
    return {std::move(op), node.name, std::move(inputs), node.outputs};
  }

  QuantizedConv quantized_conv(const Node& node, bool integers) const {
    const Conv& op = *node.op.as<Conv>();
    const ValueId y = node.outputs[0], added = residual(node);
    QuantizedConv out{.stride = op.stride,
                      .dilation = op.dilation,
                      .pads = op.pads,
                      .padding = op.padding,
                      .groups = op.groups,
                      .activation = op.activation,
                      .residual_upsampling = op.residual_scale,
                      .to = stored_type(y, integers),
                      .x_scale = scale(node.inputs[0])};
    if (integers) out.y_scale = scale(y);
    if (integers && added != kNoValue) out.residual_scale = scale(added);
    return out;
  }

  // Of a layer without a residual or a window of its own.
  template <class Quantized, class Floats>
  Quantized plain_layer(const Node& node, bool integers) const {
    const ValueId y = node.outputs[0];
    Quantized out{.activation = node.op.as<Floats>()->activation,
                  .to = stored_type(y, integers),
                  .x_scale = scale(node.inputs[0])};
    if (integers) out.y_scale = scale(y);
    return out;
  }

  StoredType stored_type(ValueId y, bool integers) const {
    if (integers) return integer_type(y) == IntegerType::kU8 ? StoredType::kU8 : StoredType::kI8;
    return osprey::stored_type(graph_.value(y).type.dtype);
  }

  // A weight's integers and scales, made once however many layers share it with its bias.
  std::pair<ValueId, ValueId> weights(ValueId id, ValueId bias, bool transposed) {
    if (const auto done = weights_.find({id, bias, transposed}); done != weights_.end()) return done->second;
    const Value value = graph_.value(id);
    std::function<Tensor()> floats = widest(graph_.weight(id)->load);
    auto dims = value.type.dims;
    if (transposed) {
      std::swap(dims[0], dims[1]);
      if (floats) floats = [floats] { return result_first(floats()); };
    }
    const WeightSource source{floats, bias == kNoValue ? nullptr : graph_.weight(bias)->load,
                              least_x_scales_.at(id)};
    const auto made = [&](Tensor (*make)(const WeightSource&)) -> std::function<Tensor()> {
      if (!source.weight) return nullptr;  // of a graph from text
      return [source, make] { return make(source); };
    };
    const ValueId weight = graph_.add_weight(value.name + "/i8", {DType::kI8, dims}, made(integers));
    const ValueId scales =
        graph_.add_weight(value.name + "/scale", {DType::kF32, {dims[0]}}, made(scale_tensor));
    return weights_[{id, bias, transposed}] = {weight, scales};
  }

  // The value in 8 bits, quantised where it is first needed.
  ValueId integer(ValueId id) {
    if (const auto done = integers_.find(id); done != integers_.end()) return done->second;
    const IntegerType type = integer_type(id);
    const std::string name = fmt::format("{}/{}", graph_.value(id).name, name_of(dtype_of(type)));
    return integers_[id] = graph_.add_node(Quantize{.to = type, .scale = scale(id)}, {id}, name).outputs[0];
  }

  // The value in floats, where it was stored in 8 bits.
  ValueId real(ValueId id) {
    const auto stored = integers_.find(id);
    if (stored == integers_.end() || stored->second != id) return id;
    const auto [done, first] = reals_.try_emplace(id, kNoValue);
    if (first)
      done->second = graph_
                         .add_node(Dequantize{.to = FloatType::kF16, .scale = scale(id)}, {id},
                                   graph_.value(id).name + "/f16")
                         .outputs[0];
    return done->second;
  }

  Graph& graph_;
  const Quantization& plan_;
  const bool beside_f16_;
  std::vector<ValueId> scale_class_;  // a forest; its roots are the keys of classes_
  std::map<ValueId, Class> classes_;
  std::vector<Need> needs_;
  std::map<ValueId, ValueId> integers_, reals_;
  std::map<ValueId, float> least_x_scales_;  // of each weight
  std::map<std::tuple<ValueId, ValueId, bool>, std::pair<ValueId, ValueId>> weights_;
};

// Products that a number of a layer's result is the sum of.
std::int64_t products_of(const Node& node, const std::vector<Dim>& weight) {
  if (node.op.as<ConvTranspose>()) return weight[0].constant();
  std::int64_t out = 1;
  for (std::size_t i = 1; i < weight.size(); ++i) out *= weight[i].constant();
  return out;
}

}  // namespace

bool is_quantizable(const Graph& graph, const Node& node) {
  if (node.inputs.size() < 2 || !graph.weight(node.inputs[1])) return false;
  const auto& weight = graph.value(node.inputs[1]).type.dims;
  constexpr std::int64_t kMostProducts = std::numeric_limits<std::int32_t>::max() / (255 * 127);
  if (products_of(node, weight) > kMostProducts) return false;  // the largest would not fit their i32
  if (node.op.as<Conv>())
    return node.inputs.size() <= 4;  // beyond: a normalisation beside the weights (BatchNorm::exact_factor)
  if (const auto* op = node.op.as<ConvTranspose>())
    return !op->f32_out && op->pads == std::vector{0, 0, 0, 0} && weight[2].constant() == op->stride[0] &&
           weight[3].constant() == op->stride[1];
  // Of few inputs a layer gains nothing; of a DETR's those are boxes, whose eighth bit is seen.
  constexpr std::int64_t kFewInputs = 32;
  const Linear* linear = node.op.as<Linear>();
  return linear && !linear->f32_out && weight[1].constant() > kFewInputs;
}

std::vector<std::string> values_to_calibrate(const Graph& graph) {
  std::set<ValueId> wanted;
  for (const Node& node : graph.nodes()) {
    if (!is_quantizable(graph, node)) continue;
    wanted.insert({node.inputs[0], node.outputs[0]});
    if (node.inputs.size() > 3 && node.inputs[3] != kNoValue) wanted.insert(node.inputs[3]);
  }
  std::vector<std::string> out;
  for (const ValueId id : wanted)
    if (graph.producer(id)) out.push_back(graph.value(id).name);
  return out;
}

bool is_non_negative(const Graph& graph, ValueId value) {
  const Node* node = graph.producer(value);
  if (!node) return false;
  if (const auto* conv = node->op.as<Conv>()) return is_non_negative(conv->activation);
  if (const auto* linear = node->op.as<Linear>()) return is_non_negative(linear->activation);
  if (const auto* transposed = node->op.as<ConvTranspose>()) return is_non_negative(transposed->activation);
  if (const auto* activate = node->op.as<Activate>()) return is_non_negative(activate->kind);
  return moves_values(*node) && std::all_of(node->inputs.begin(), node->inputs.end(),
                                            [&](ValueId in) { return is_non_negative(graph, in); });
}

void quantize(Graph& graph, const PassOptions& options) {
  if (options.quantization.empty()) return;
  Quantizer(graph, options).run();
  graph.compact(options.kept);
}

}  // namespace osprey

#include "engine/int8_speed.h"

#include <algorithm>
#include <limits>
#include <map>
#include <vector>

#include "engine/mixed_precision.h"
#include "ops/conv.h"
#include "ops/conv_transpose.h"
#include "ops/squeeze_excite.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

// Multiplications of a layer over `photos`; infinite where they depend on the photos' sizes.
double work_of(const Graph& graph, const Node& node, int photos) {
  double out = 1;
  const auto times = [&](const Dim& d) {
    const bool known = d.kind() != Dim::Kind::kUnknown && (d.symbol().empty() || d.symbol() == "N");
    out *= known ? static_cast<double>(d.evaluate({{"N", photos}})) : std::numeric_limits<double>::infinity();
  };
  for (const Dim& d : graph.value(node.outputs[0]).type.dims) times(d);
  const auto& weight = graph.value(node.inputs[1]).type.dims;
  if (node.op.as<ConvTranspose>()) {  // [C,O,kh,kw], of windows that do not overlap
    times(weight[0]);
  } else {
    for (std::size_t i = 1; i < weight.size(); ++i) times(weight[i]);
  }
  return out;
}

bool is_fused_in_floats(const Op& op) { return op.as<SqueezeExcite>() || op.as<WeightedSum>(); }

// The layers that could compute in integers whose results a value is made of, by other ops if any.
class Makers {
 public:
  explicit Makers(const Graph& graph) : graph_(graph) {}

  void add(ValueId value) {
    const Node* node = graph_.producer(value);
    if (!node || !seen_.insert(value).second) return;
    if (is_quantizable(graph_, *node)) {
      found_.insert(graph_.value(value).name);
      return;
    }
    for (const ValueId in : node->inputs)
      if (in != kNoValue && !graph_.weight(in)) add(in);
  }
  const std::set<std::string>& found() const { return found_; }

 private:
  const Graph& graph_;
  std::set<ValueId> seen_;
  std::set<std::string> found_;
};

struct Unit {
  std::vector<const Node*> nodes;
  std::vector<std::string> values;
};

void add_to_unit(std::vector<Unit>& units, const Node& node, const std::string& made) {
  auto it = std::ranges::find_if(units, [&](const Unit& u) { return u.nodes[0]->name == node.name; });
  if (it == units.end()) it = units.insert(units.end(), Unit{});
  it->nodes.push_back(&node);
  it->values.push_back(made);
}

// Over so few channels that the units that multiply integers would mostly see padding.
bool is_stem(const Conv& conv, const TensorType& weight) {
  constexpr std::int64_t kFewChannels = 4;
  return conv.groups == 1 && weight.dims[1].constant() <= kFewChannels;
}

bool is_point(const TensorType& weight) {
  return weight.dims[2].constant() == 1 && weight.dims[3].constant() == 1;
}

bool follows_transposed(const Graph& graph, const Node& node) {
  const Node* maker = graph.producer(node.inputs[0]);
  return maker && maker->op.as<ConvTranspose>();
}

// A fully connected layer that takes no longer than a launch.
bool is_small(const TensorType& weight) {
  constexpr std::int64_t kFewWeights = 1 << 19;
  return weight.dims[0].constant() * weight.dims[1].constant() < kFewWeights;
}

}  // namespace

std::set<std::string> sooner_in_floats(const Graph& graph) {
  std::set<std::string> out;
  for (const Node& node : graph.nodes()) {
    if (!is_quantizable(graph, node)) continue;
    const TensorType& weight = graph.value(node.inputs[1]).type;
    const Conv* conv = node.op.as<Conv>();
    const bool keep = conv ? is_stem(*conv, weight) || (is_point(weight) && follows_transposed(graph, node))
                           : node.op.as<ConvTranspose>() || is_small(weight);
    if (keep) out.insert(graph.value(node.outputs[0]).name);
  }
  return out;
}

std::set<std::string> sooner_beside_floats(const Graph& graph, const Quantization& plan, int photos) {
  constexpr double kLeastWork = 4e8;   // 2 us at 400 TFLOP/s
  std::map<std::string, double> work;  // of layers by what they make
  std::vector<Unit> levels;            // layers of one name: those of a head's levels
  Makers makers(graph);
  std::set<std::string> beside;
  for (const Node& node : graph.nodes()) {
    if (is_fused_in_floats(node.op)) makers.add(node.inputs[0]);
    if (!is_quantizable(graph, node)) continue;
    const std::string& made = graph.value(node.outputs[0]).name;
    work[made] = work_of(graph, node, photos);
    add_to_unit(levels, node, made);
    const Node* from = graph.producer(node.inputs[0]);
    if (from && is_fused_in_floats(from->op)) beside.insert(made);
  }
  beside.insert(makers.found().begin(), makers.found().end());
  const auto has_little_work = [&](const std::vector<std::string>& values) {
    double sum = 0;
    for (const std::string& value : values) sum += work.at(value);
    return sum < kLeastWork;
  };
  std::set<std::string> out;
  for (const Block& block : blocks_of(graph, plan)) {
    const bool fused = std::ranges::any_of(block.values, [&](const auto& v) { return beside.contains(v); });
    if (fused && has_little_work(block.values)) out.insert(block.values.begin(), block.values.end());
  }
  for (const Unit& unit : levels) {
    Makers read(graph);
    for (const Node* node : unit.nodes) read.add(node->inputs[0]);
    const bool follows = std::ranges::all_of(read.found(), [&](const auto& v) { return out.contains(v); });
    if (follows && !read.found().empty() && has_little_work(unit.values))
      out.insert(unit.values.begin(), unit.values.end());
  }
  return out;
}

}  // namespace osprey

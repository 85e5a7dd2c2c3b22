#include "passes/keep_f32.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "ops/cast.h"

namespace osprey {
namespace {

class Keeper {
 public:
  Keeper(Graph& graph, const std::vector<std::string>& values) : graph_(graph), values_(values) {
    for (const std::string& name : values)
      check(graph.producer(graph.find(name)), "no node makes a value '{}'", name);
    for (const Node& node : graph.nodes())
      if (kept(node)) made_.insert(node.outputs.begin(), node.outputs.end());
  }

  void run() {
    std::vector<Node> nodes = std::move(graph_.mutable_nodes());
    graph_.mutable_nodes().clear();
    for (Node& node : nodes) {
      for (ValueId& in : node.inputs)
        if (in != kNoValue && is_narrow(in) && made_.contains(in) != kept(node)) in = cast(in, kept(node));
      graph_.mutable_nodes().push_back(std::move(node));
    }
    graph_.infer_types();
  }

 private:
  bool kept(const Node& node) const { return makes_any(graph_, node, values_); }
  bool is_narrow(ValueId id) const {
    const DType type = graph_.value(id).type.dtype;
    return type == DType::kF16 || type == DType::kBF16;
  }
  // The value in the other type, made where it is first needed.
  ValueId cast(ValueId id, bool widen) {
    if (const auto done = casts_.find(id); done != casts_.end()) return done->second;
    const Value value = graph_.value(id);
    const DType type = widen ? DType::kF32 : value.type.dtype;
    const FloatType to = widen ? FloatType::kF32 : type == DType::kF16 ? FloatType::kF16 : FloatType::kBF16;
    return casts_[id] = graph_.add_node(Cast{.to = to}, {id}, fmt::format("{}/{}", value.name, name_of(type)))
                            .outputs[0];
  }

  Graph& graph_;
  const std::vector<std::string>& values_;
  std::set<ValueId> made_;  // by kept nodes
  std::map<ValueId, ValueId> casts_;
};

}  // namespace

bool makes_any(const Graph& graph, const Node& node, const std::vector<std::string>& values) {
  return std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
    return std::find(values.begin(), values.end(), graph.value(id).name) != values.end();
  });
}

void keep_f32(Graph& graph, const std::vector<std::string>& values) {
  if (!values.empty()) Keeper(graph, values).run();
}

}  // namespace osprey

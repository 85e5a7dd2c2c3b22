// The graph: values, and the nodes that make them, in an order in which they can run.
//
// A value is an input of the graph, a weight, or an output of a node. It has one name, unique in the graph;
// names of stages ("res2", "rpn_logits_p3") are the ones users ask for with --dump, names of weights are the
// checkpoint's own.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "graph/op.h"

namespace osprey {

using ValueId = int;
inline constexpr ValueId kNoValue = -1;  // an optional input that is absent

struct Value {
  std::string name;
  TensorType type;
};

struct Node {
  Op op;
  std::string name;             // of the layer, for tables and errors: "backbone.bottom_up.res2.0.conv1"
  std::vector<ValueId> inputs;  // kNoValue where an optional one is absent
  std::vector<ValueId> outputs;
};

// A constant: its data are read when they are needed, and may be read more than once. `load` is empty only in
// graphs that were parsed from text without data.
struct Weight {
  ValueId value;
  std::function<Tensor()> load;
};

class Graph {
 public:
  explicit Graph(std::string name = "graph") : name_(std::move(name)) {}

  const std::string& name() const { return name_; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Weight>& weights() const { return weights_; }
  const std::vector<ValueId>& inputs() const { return inputs_; }
  const std::vector<ValueId>& outputs() const { return outputs_; }
  const Value& value(ValueId id) const { return values_.at(static_cast<std::size_t>(id)); }

  // Building. Names that are taken get a number behind them; an empty name is made from the node's.
  ValueId add_input(std::string name, TensorType type);
  ValueId add_weight(std::string name, TensorType type, std::function<Tensor()> load);
  ValueId add_weight(std::string name, Tensor data);
  // Infers the types of the outputs; an error names the node.
  const Node& add_node(Op op, std::vector<ValueId> inputs, std::string name);
  void add_output(ValueId value) { outputs_.push_back(value); }
  void rename(ValueId value, const std::string& name);

  // Lookups. The producer or weight of a value is null when it has none.
  ValueId find(std::string_view name) const;  // kNoValue when absent
  const Node* producer(ValueId value) const;
  const Weight* weight(ValueId value) const;
  std::vector<const Node*> users(ValueId value) const;
  bool is_output(ValueId value) const;

  // Rewriting, for passes: values keep their ids, unused ones stay until compact() drops them.
  std::vector<Node>& mutable_nodes() { return nodes_; }
  void replace_uses(ValueId from, ValueId to);
  void set_type(ValueId value, TensorType type) {
    values_.at(static_cast<std::size_t>(value)).type = std::move(type);
  }
  // Removes nodes and weights whose results nobody uses and renumbers the values. `kept` names values that
  // must survive.
  void compact(const std::vector<std::string>& kept = {});
  // Infers every type again, after inputs' types or attributes changed.
  void infer_types();

 private:
  ValueId add_value(std::string name, TensorType type);
  std::string unique(std::string name) const;
  std::vector<TensorType> infer_node(const Node& node) const;

  std::string name_;
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<Weight> weights_;
  std::vector<ValueId> inputs_, outputs_;
  std::map<std::string, ValueId, std::less<>> by_name_;
};

// Throws when the graph is not well formed: a value used before it is made or made twice, names that clash,
// types that the ops' own rules do not give, outputs that nothing makes. Run after import and every pass.
void verify(const Graph& graph);

// The text form: one line a value or node, attributes only where they differ from their defaults. What is
// printed reads back to an equal graph; f32 weights of up to 16 elements carry their values, others their
// type only.
std::string to_text(const Graph& graph);
Graph parse_graph(std::string_view text);

}  // namespace osprey

#include "graph/graph.h"

#include <algorithm>
#include <set>

namespace osprey {

std::string Graph::unique(std::string name) const {
  if (!by_name_.contains(name)) return name;
  for (int i = 2;; ++i) {
    std::string candidate = fmt::format("{}.{}", name, i);
    if (!by_name_.contains(candidate)) return candidate;
  }
}

ValueId Graph::add_value(std::string name, TensorType type) {
  const auto id = static_cast<ValueId>(values_.size());
  name = unique(std::move(name));
  by_name_.emplace(name, id);
  values_.push_back({std::move(name), std::move(type)});
  return id;
}

ValueId Graph::add_input(std::string name, TensorType type) {
  inputs_.push_back(add_value(std::move(name), std::move(type)));
  return inputs_.back();
}

ValueId Graph::add_weight(std::string name, TensorType type, std::function<Tensor()> load) {
  const ValueId id = add_value(std::move(name), std::move(type));
  weights_.push_back({id, std::move(load)});
  return id;
}

ValueId Graph::add_weight(std::string name, Tensor data) {
  TensorType type{data.dtype(), {}};
  for (const auto d : data.shape()) type.dims.emplace_back(d);
  return add_weight(std::move(name), std::move(type), [data = std::move(data)] { return data; });
}

std::vector<TensorType> Graph::infer_node(const Node& node) const {
  std::vector<const TensorType*> types;
  for (const ValueId in : node.inputs) types.push_back(in == kNoValue ? nullptr : &value(in).type);
  return in_context(node.name, [&] { return node.op.infer(OpInputs(node.op.name(), std::move(types))); });
}

const Node& Graph::add_node(Op op, std::vector<ValueId> inputs, std::string name) {
  while (!inputs.empty() && inputs.back() == kNoValue) inputs.pop_back();
  Node node{std::move(op), std::move(name), std::move(inputs), {}};
  if (node.name.empty()) node.name = std::string(node.op.name());
  const std::vector<TensorType> types = infer_node(node);
  for (std::size_t i = 0; i < types.size(); ++i)
    node.outputs.push_back(add_value(i == 0 ? node.name : fmt::format("{}.{}", node.name, i), types[i]));
  nodes_.push_back(std::move(node));
  return nodes_.back();
}

void Graph::rename(ValueId id, const std::string& name) {
  Value& v = values_.at(static_cast<std::size_t>(id));
  if (v.name == name) return;
  by_name_.erase(v.name);
  v.name = unique(name);
  by_name_.emplace(v.name, id);
}

ValueId Graph::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? kNoValue : it->second;
}

const Node* Graph::producer(ValueId id) const {
  for (const Node& node : nodes_)
    if (std::find(node.outputs.begin(), node.outputs.end(), id) != node.outputs.end()) return &node;
  return nullptr;
}

const Weight* Graph::weight(ValueId id) const {
  for (const Weight& w : weights_)
    if (w.value == id) return &w;
  return nullptr;
}

std::vector<const Node*> Graph::users(ValueId id) const {
  std::vector<const Node*> out;
  for (const Node& node : nodes_)
    if (std::find(node.inputs.begin(), node.inputs.end(), id) != node.inputs.end()) out.push_back(&node);
  return out;
}

bool Graph::is_output(ValueId id) const {
  return std::find(outputs_.begin(), outputs_.end(), id) != outputs_.end();
}

void Graph::replace_uses(ValueId from, ValueId to) {
  for (Node& node : nodes_) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  std::replace(outputs_.begin(), outputs_.end(), from, to);
}

void Graph::compact(const std::vector<std::string>& kept) {
  std::vector<bool> live(values_.size(), false);
  const auto mark = [&](ValueId id) {
    if (id != kNoValue) live[static_cast<std::size_t>(id)] = true;
  };
  for (const ValueId id : inputs_) mark(id);
  for (const ValueId id : outputs_) mark(id);
  for (const std::string& name : kept) mark(find(name));
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    const bool used = std::any_of(node->outputs.begin(), node->outputs.end(),
                                  [&](ValueId id) { return live[static_cast<std::size_t>(id)]; });
    if (!used) continue;
    for (const ValueId id : node->inputs) mark(id);
    for (const ValueId id : node->outputs) mark(id);
  }
  std::erase_if(nodes_,
                [&](const Node& node) { return !live[static_cast<std::size_t>(node.outputs.front())]; });
  std::erase_if(weights_, [&](const Weight& w) { return !live[static_cast<std::size_t>(w.value)]; });

  std::vector<ValueId> renumbered(values_.size(), kNoValue);
  std::vector<Value> values;
  by_name_.clear();
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (!live[i]) continue;
    renumbered[i] = static_cast<ValueId>(values.size());
    by_name_.emplace(values_[i].name, renumbered[i]);
    values.push_back(std::move(values_[i]));
  }
  values_ = std::move(values);
  const auto map = [&](ValueId& id) {
    if (id != kNoValue) id = renumbered[static_cast<std::size_t>(id)];
  };
  for (Node& node : nodes_) {
    std::for_each(node.inputs.begin(), node.inputs.end(), map);
    std::for_each(node.outputs.begin(), node.outputs.end(), map);
  }
  for (Weight& w : weights_) map(w.value);
  std::for_each(inputs_.begin(), inputs_.end(), map);
  std::for_each(outputs_.begin(), outputs_.end(), map);
}

void Graph::infer_types() {
  for (const Node& node : nodes_) {
    const auto types = infer_node(node);
    for (std::size_t i = 0; i < types.size(); ++i) set_type(node.outputs[i], types[i]);
  }
}

void verify(const Graph& graph) {
  std::vector<bool> made(graph.values().size(), false);
  std::set<std::string_view> names;
  for (const Value& v : graph.values())
    check(names.insert(v.name).second, "graph: two values are named '{}'", v.name);
  const auto make = [&](ValueId id, std::string_view where) {
    check(id >= 0 && static_cast<std::size_t>(id) < made.size(), "{}: value {} does not exist", where, id);
    check(!made[static_cast<std::size_t>(id)], "{}: value '{}' is made twice", where, graph.value(id).name);
    made[static_cast<std::size_t>(id)] = true;
  };
  const auto is_made = [&](ValueId id) {
    return id >= 0 && static_cast<std::size_t>(id) < made.size() && made[static_cast<std::size_t>(id)];
  };
  for (const ValueId id : graph.inputs()) make(id, "inputs");
  for (const Weight& w : graph.weights()) make(w.value, "weights");
  for (const Node& node : graph.nodes()) {
    std::vector<const TensorType*> types;
    for (const ValueId id : node.inputs) {
      check(id == kNoValue || is_made(id), "{}: uses a value before it is made", node.name);
      types.push_back(id == kNoValue ? nullptr : &graph.value(id).type);
    }
    const auto inferred =
        in_context(node.name, [&] { return node.op.infer(OpInputs(node.op.name(), std::move(types))); });
    check(inferred.size() == node.outputs.size(), "{}: has {} outputs, {} gives {}", node.name,
          node.outputs.size(), node.op.name(), inferred.size());
    for (std::size_t i = 0; i < inferred.size(); ++i) {
      make(node.outputs[i], node.name);
      check(graph.value(node.outputs[i]).type == inferred[i], "{}: output {} is {}, {} gives {}", node.name,
            i, to_string(graph.value(node.outputs[i]).type), node.op.name(), to_string(inferred[i]));
    }
  }
  for (const ValueId id : graph.outputs()) check(is_made(id), "graph: an output that nothing makes");
}

}  // namespace osprey

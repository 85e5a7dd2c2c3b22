#include "graph/net.h"

namespace osprey {
namespace {

void append_section(std::string& text, std::string_view title, const std::vector<std::string>& names) {
  if (names.empty()) return;
  text += fmt::format("{} ({}):\n", title, names.size());
  for (const std::string& name : names) text += "  " + name + "\n";
}

}  // namespace

std::string to_text(const WeightAccount& account) {
  std::string text;
  append_section(text, "missing from the checkpoint", account.missing);
  append_section(text, "of another shape than the config says", account.misshapen);
  append_section(text, "in the checkpoint but not used by the model", account.unused);
  return text;
}

Net::Net(std::string name, const std::vector<NamedTensor>& tensors) : graph_(std::move(name)) {
  for (const NamedTensor& t : tensors)
    require(tensors_.emplace(t.name, &t).second, "the checkpoint holds two tensors named '{}'", t.name);
}

Shape Net::shape_of(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? Shape{} : it->second->shape;
}

ValueId Net::weight(const std::string& name, const Shape& shape) {
  if (const auto it = values_.find(name); it != values_.end()) return it->second;
  TensorType type{DType::kF32, {}};
  for (const auto d : shape) type.dims.emplace_back(d);
  std::function<Tensor()> load = [name]() -> Tensor {
    fail(ErrorCode::kInternal, "weight {} was missing", name);
  };
  if (const auto it = tensors_.find(name); it == tensors_.end()) {
    missing_.push_back(fmt::format("{}: {}", name, to_string(shape)));
  } else if (it->second->shape != shape) {
    misshapen_.push_back(fmt::format("{}: the file has {}, the model needs {}", name,
                                     to_string(it->second->shape), to_string(shape)));
  } else {
    load = [load = it->second->load] { return load().to_f32(); };
  }
  const ValueId id = graph_.add_weight(name, std::move(type), std::move(load));
  values_.emplace(name, id);
  return id;
}

ValueId Net::add(Op op, std::vector<ValueId> inputs, const std::string& name) {
  return graph_.add_node(std::move(op), std::move(inputs), name).outputs.front();
}

std::vector<ValueId> Net::add_all(Op op, std::vector<ValueId> inputs, const std::string& name) {
  return graph_.add_node(std::move(op), std::move(inputs), name).outputs;
}

ValueId Net::stage(const std::string& name, ValueId value) {
  graph_.rename(value, name);
  return value;
}

WeightAccount Net::account() const {
  WeightAccount out;
  out.missing = missing_;
  out.misshapen = misshapen_;
  for (const auto& [name, tensor] : tensors_) {
    if (values_.contains(name))
      out.used.push_back(name);
    else if (!ignored_.contains(name))
      out.unused.push_back(name);
  }
  return out;
}

Graph Net::finish() {
  const WeightAccount result = account();
  require(result.complete(), "the checkpoint does not fit the config\n{}", to_text(result));
  verify(graph_);
  return std::move(graph_);
}

}  // namespace osprey

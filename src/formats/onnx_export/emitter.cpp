#include "formats/onnx_export/emitter.h"

#include <limits>

#include "formats/onnx_ops.h"

namespace osprey {

std::string Emitter::unique(const std::string& name) {
  const int count = counts_[name]++;
  return count == 0 ? name : fmt::format("{}:{}", name, count);
}

std::vector<std::string> Emitter::ops(const char* type, const std::vector<std::string>& inputs,
                                      std::size_t results, const Attributes& attributes) {
  onnx::NodeProto& node = *file_.model.mutable_graph()->add_node();
  node.set_name(unique(fmt::format("{}/{}", layer_, type)));
  node.set_op_type(type);
  for (const std::string& in : inputs) node.add_input(in);
  for (const Attribute& a : attributes) set_attribute(node, a.name, a.value);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < results; ++i) {
    out.push_back(i == 0 ? node.name() : fmt::format("{}/result{}", node.name(), i));
    node.add_output(out.back());
  }
  return out;
}

std::string Emitter::op(const char* type, const std::vector<std::string>& inputs,
                        const Attributes& attributes) {
  return ops(type, inputs, 1, attributes).front();
}

template <class T>
std::string Emitter::constant(const std::vector<T>& values, Shape shape) {
  Tensor data = Tensor::from<T>(values, shape);
  const DType dtype = data.dtype();
  const std::string key = fmt::format("{}{}", name_of(dtype), to_string(shape)).append(as_text(data.bytes()));
  const auto [it, is_new] = constants_.emplace(key, fmt::format("osprey.constant.{}", constants_.size()));
  if (is_new)
    file_.weights.push_back(
        {.name = it->second, .dtype = dtype, .shape = std::move(shape), .load = [data] { return data; }});
  return it->second;
}
template std::string Emitter::constant(const std::vector<float>&, Shape);
template std::string Emitter::constant(const std::vector<std::int64_t>&, Shape);
template std::string Emitter::constant(const std::vector<std::int8_t>&, Shape);
template std::string Emitter::constant(const std::vector<std::uint8_t>&, Shape);

const std::string& Emitter::name(ValueId id) const {
  const auto it = names_.find(id);
  check(it != names_.end(), "export: the value {} was not lowered", graph_.value(id).name);
  return it->second;
}

std::string Emitter::columns(const std::string& x, std::int64_t begin, std::int64_t end) {
  return op("Slice", {x, ints({begin}), ints({end}), ints({1})});
}

std::string Emitter::length(const std::string& x) {
  return op("Shape", {x}, {{"start", std::int64_t{0}}, {"end", std::int64_t{1}}});
}

std::string Emitter::where_true(const std::string& condition) {
  return reshape(op("NonZero", {condition}), {-1});
}

std::vector<std::string> Emitter::top(const std::string& x, const std::string& k, bool largest) {
  return ops("TopK", {x, k}, 2, {{"axis", std::int64_t{0}}, {"largest", std::int64_t{largest}}});
}

std::string Emitter::finite_rows(const std::string& rows) {
  // A row's sum is finite only if all of it is; no coordinate comes near the largest float.
  const std::string sum = op("ReduceSum", {op("Abs", {rows}), ints({1})}, {{"keepdims", std::int64_t{0}}});
  return op("LessOrEqual", {sum, number(std::numeric_limits<float>::max())});
}

}  // namespace osprey

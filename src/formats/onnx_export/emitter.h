// Writing ONNX nodes one after the other, for lowerings: an op's inputs and its result are names of values.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "formats/onnx_file.h"
#include "graph/graph.h"

namespace osprey {

class Emitter {
 public:
  explicit Emitter(const Graph& graph) : graph_(graph) {
    file_.model.mutable_graph()->set_name(graph.name());
  }

  const Graph& graph() const { return graph_; }
  OnnxFile& file() { return file_; }

  // The nodes that follow belong to this layer and are named after it.
  void enter(const std::string& layer) { layer_ = layer; }

  // A name for a node, which ONNX Runtime wants to be unique, while heads that levels share run under one.
  std::string unique(const std::string& name);

  // Adds a node; the name of its result, or of all results.
  std::string op(const char* type, const std::vector<std::string>& inputs, const Attributes& attributes = {});
  std::vector<std::string> ops(const char* type, const std::vector<std::string>& inputs, std::size_t results,
                               const Attributes& attributes = {});

  // Constants: equal ones are written once.
  std::string number(float value) { return constant(std::vector<float>{value}, {}); }
  std::string number(std::int64_t value) { return constant(std::vector<std::int64_t>{value}, {}); }
  std::string floats(const std::vector<float>& values) {
    return constant(values, {static_cast<std::int64_t>(values.size())});
  }
  std::string floats(const std::vector<float>& values, Shape shape) {
    return constant(values, std::move(shape));
  }
  std::string ints(const std::vector<std::int64_t>& values) {
    return constant(values, {static_cast<std::int64_t>(values.size())});
  }

  std::string zero_point(DType type) {  // of i8 or u8
    return type == DType::kI8 ? constant(std::vector<std::int8_t>{0}, {})
                              : constant(std::vector<std::uint8_t>{0}, {});
  }

  // The ONNX value that stands for one of the graph.
  const std::string& name(ValueId id) const;
  void bind(ValueId id, std::string name) { names_[id] = std::move(name); }

  // What lowerings say often.
  std::string columns(const std::string& x, std::int64_t begin, std::int64_t end);  // x[:, begin:end]
  std::string take(const std::string& x, const std::string& rows) { return op("Gather", {x, rows}); }
  std::string length(const std::string& x);              // i64[1]: the first extent
  std::string where_true(const std::string& condition);  // i64[n]: indices of a vector's true elements
  std::string reshape(const std::string& x, const std::vector<std::int64_t>& shape) {
    return op("Reshape", {x, ints(shape)});
  }
  std::string add_axis(const std::string& x, std::int64_t axis) { return op("Unsqueeze", {x, ints({axis})}); }
  std::string cast(const std::string& x, DType to) {
    return op("Cast", {x}, {{"to", std::int64_t{onnx_type(to)}}});
  }
  // Values and indices of the k largest (smallest) elements of a vector, in order; of equal ones the first
  // first.
  std::vector<std::string> top(const std::string& x, const std::string& k, bool largest = true);
  // bool[n]: whether every number of each row is finite.
  std::string finite_rows(const std::string& rows);

 private:
  template <class T>
  std::string constant(const std::vector<T>& values, Shape shape);

  const Graph& graph_;
  OnnxFile file_;
  std::string layer_;
  std::map<std::string, int> counts_;
  std::map<std::string, std::string> constants_;
  std::map<ValueId, std::string> names_;
};

}  // namespace osprey

// Building a graph as data flow over a checkpoint's own weight names, with an account of every weight.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/named_tensor.h"
#include "graph/graph.h"

namespace osprey {

// What became of the tensors of a checkpoint.
struct WeightAccount {
  std::vector<std::string> used;
  std::vector<std::string> unused;     // in the file, not in the model
  std::vector<std::string> missing;    // "name: [64, 3, 7, 7]", in the model, not in the file
  std::vector<std::string> misshapen;  // "name: the file has [81, 1024], the model needs [21, 1024]"

  bool complete() const { return missing.empty() && misshapen.empty(); }
};

// One message with everything that is wrong, each name on a line of its own.
std::string to_text(const WeightAccount& account);

class Net {
 public:
  // `tensors` must outlive the building, not the graph.
  Net(std::string name, const std::vector<NamedTensor>& tensors);

  Graph& graph() { return graph_; }

  // The weight of that name as f32, which must have that shape. One that is missing or misshapen is noted,
  // and building goes on, so that all of them are reported at once. Asking twice gives the same value: that
  // is how heads are shared between levels.
  ValueId weight(const std::string& name, const Shape& shape);
  bool has(const std::string& name) const { return tensors_.contains(name); }
  // The shape in the file; empty when absent.
  Shape shape_of(const std::string& name) const;
  // Names that the account should call neither used nor unused.
  void ignore(const std::string& name) { ignored_.insert(name); }

  // Adds a node; its first output, or all of them.
  ValueId add(Op op, std::vector<ValueId> inputs, const std::string& name);
  std::vector<ValueId> add_all(Op op, std::vector<ValueId> inputs, const std::string& name);
  // Gives a value the name that users know the stage by ("res2", "p3"), and returns it.
  ValueId stage(const std::string& name, ValueId value);
  const TensorType& type(ValueId value) const { return graph_.value(value).type; }
  std::int64_t channels(ValueId value) const { return type(value).dims.at(1).constant(); }

  WeightAccount account() const;
  // The finished graph; throws the account's text when a weight is missing or misshapen.
  Graph finish();

 private:
  Graph graph_;
  std::map<std::string, const NamedTensor*, std::less<>> tensors_;
  std::map<std::string, ValueId, std::less<>> values_;
  std::set<std::string, std::less<>> ignored_;
  std::vector<std::string> missing_, misshapen_;
};

}  // namespace osprey

// How ops are spelt in ONNX: one table for both directions, and the domain "osprey" for what it does not
// hold.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <onnx/onnx_pb.h>

#include "graph/graph.h"

namespace osprey {

inline constexpr const char* kOspreyDomain = "osprey";
// Of ONNX's own ops. 17 is the last in which ReduceMean has its axes as attribute, and old enough for every
// runtime in use.
inline constexpr int kOnnxOpset = 17;

// An op of ours that is an op of ONNX, with the same inputs and outputs. It fits a node whose attributes are
// those of `ours`, or are renamed, or have their defaults.
struct OnnxSpelling {
  std::string_view op, onnx;
  Attributes ours;  // what ours must be for the row to fit: {"kind", "relu"}
  struct Renamed {
    std::string_view ours, onnx;
  };
  std::vector<Renamed> renamed;  // {"stride", "strides"}: the same value under another name
  Attributes fixed;              // what ONNX's op needs besides: {"transB", 1}
  // Our attribute that ONNX wants as a third input, a constant [1, 1, s, s] (Resize); empty elsewhere.
  std::string_view scale = {};
};
const std::vector<OnnxSpelling>& onnx_spellings();

// The row that fits a node of the graph; null when ONNX has no such op.
const OnnxSpelling* find_spelling(const Node& node);

// Op type, domain and attributes of a node; for a `scale`, also the name of the constant it takes.
struct SpeltNode {
  onnx::NodeProto proto;  // without inputs and outputs
  std::int64_t scale = 0;
};
SpeltNode spell(const Node& node);

// The op of a node. `scale_of` gives the whole factor that a constant input holds. Unknown op types and
// attributes are bad input.
struct ReadNode {
  Op op;
  bool takes_scale = false;  // inputs 1 and 2 are ONNX's alone
};
ReadNode read_node(const onnx::NodeProto& node,
                   const std::function<std::int64_t(const std::string&)>& scale_of);

void set_attribute(onnx::NodeProto& node, std::string_view name, const AttributeValue& value);

}  // namespace osprey

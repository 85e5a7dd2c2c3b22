#include <set>

#include <nlohmann/json.hpp>

#include "formats/onnx.h"
#include "formats/onnx_file.h"
#include "formats/onnx_keys.h"
#include "formats/onnx_ops.h"
#include "osprey/version.h"

namespace osprey {
namespace {

using Json = nlohmann::json;

void add_metadata(onnx::ModelProto& to, const char* key, std::string value) {
  auto& entry = *to.add_metadata_props();
  entry.set_key(key);
  entry.set_value(std::move(value));
}

std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

void describe(onnx::ModelProto& to, const Model& model) {
  to.set_doc_string(model.description);
  add_metadata(to, onnx_keys::kFormat, onnx_keys::kFormatVersion);
  add_metadata(to, onnx_keys::kFamily, model.family);
  add_metadata(to, onnx_keys::kDescription, model.description);
  Json categories = Json::array();
  for (const Category& c : model.categories) categories.push_back({{"id", c.id}, {"name", c.name}});
  add_metadata(to, onnx_keys::kCategories, text_of(categories));
  add_metadata(to, onnx_keys::kMetadata, text_of(Json(model.metadata)));
  const WeightAccount& w = model.weights;
  add_metadata(
      to, onnx_keys::kWeights,
      text_of(
          Json{{"used", w.used}, {"unused", w.unused}, {"missing", w.missing}, {"misshapen", w.misshapen}}));
}

OnnxWeight weight_of(const Graph& graph, const Weight& weight) {
  const Value& value = graph.value(weight.value);
  check(weight.load != nullptr, "weight {} has no data", value.name);
  OnnxWeight out{.name = value.name, .dtype = value.type.dtype, .shape = {}, .load = weight.load};
  for (const Dim& d : value.type.dims) out.shape.push_back(d.constant());
  return out;
}

// Writes a graph's nodes, and the constants that only ONNX needs.
class NodeWriter {
 public:
  NodeWriter(const Graph& graph, OnnxFile& to) : graph_(graph), to_(to) {}

  void write(const Node& node) {
    SpeltNode spelt = spell(node);
    for (const ValueId id : node.inputs) spelt.proto.add_input(id == kNoValue ? "" : graph_.value(id).name);
    for (const ValueId id : node.outputs) spelt.proto.add_output(graph_.value(id).name);
    if (spelt.scale != 0) {
      spelt.proto.add_input("");
      spelt.proto.add_input(scales(spelt.scale));
    }
    *to_.model.mutable_graph()->add_node() = std::move(spelt.proto);
  }

 private:
  std::string scales(std::int64_t scale) {
    std::string name = onnx_keys::kScales + std::to_string(scale);
    if (!scales_.insert(scale).second) return name;
    check(graph_.find(name) == kNoValue, "ONNX: the name {} is taken", name);
    const float s = static_cast<float>(scale);
    Tensor data = Tensor::from<float>(std::array<float, 4>{1, 1, s, s}, {4});
    to_.weights.push_back(
        {.name = name, .dtype = DType::kF32, .shape = {4}, .load = [data = std::move(data)] {
           return data;
         }});
    return name;
  }

  const Graph& graph_;
  OnnxFile& to_;
  std::set<std::int64_t> scales_;
};

}  // namespace

void write_model_onnx(const std::filesystem::path& file, const Model& model,
                      const std::function<void(double)>& progress) {
  const Graph& graph = model.graph;
  OnnxFile out;
  out.model.set_ir_version(8);
  out.model.set_producer_name("osprey");
  out.model.set_producer_version(kVersion);
  auto& standard = *out.model.add_opset_import();
  standard.set_domain("");
  standard.set_version(kOnnxOpset);
  auto& ours = *out.model.add_opset_import();
  ours.set_domain(kOspreyDomain);
  ours.set_version(1);
  describe(out.model, model);

  onnx::GraphProto& to = *out.model.mutable_graph();
  to.set_name(graph.name());
  for (const ValueId id : graph.inputs())
    set_onnx_type(*to.add_input(), graph.value(id).name, graph.value(id).type);
  for (const Weight& w : graph.weights()) out.weights.push_back(weight_of(graph, w));
  NodeWriter nodes(graph, out);
  for (const Node& node : graph.nodes()) {
    nodes.write(node);
    for (const ValueId id : node.outputs)
      if (!graph.is_output(id))
        set_onnx_type(*to.add_value_info(), graph.value(id).name, graph.value(id).type);
  }
  for (const ValueId id : graph.outputs())
    set_onnx_type(*to.add_output(), graph.value(id).name, graph.value(id).type);
  write_onnx_file(file, out, progress);
}

}  // namespace osprey

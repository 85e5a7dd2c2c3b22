#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "formats/onnx.h"
#include "formats/onnx_file.h"
#include "formats/onnx_keys.h"
#include "formats/onnx_ops.h"

namespace osprey {
namespace {

using Json = nlohmann::json;

const std::string* find_metadata(const onnx::ModelProto& model, std::string_view key) {
  for (const auto& entry : model.metadata_props())
    if (entry.key() == key) return &entry.value();
  return nullptr;
}

const std::string& metadata(const onnx::ModelProto& model, const char* key) {
  const std::string* value = find_metadata(model, key);
  require(value != nullptr, "has no entry '{}' in its metadata", key);
  return *value;
}

// The part of an ONNX file that a reader of Models cannot make sense of, for the message.
std::string not_understood(const onnx::GraphProto& graph) {
  std::set<std::string> unknown;
  for (const auto& node : graph.node()) {
    const auto& rows = onnx_spellings();
    const bool known =
        node.domain().empty() && std::any_of(rows.begin(), rows.end(),
                                             [&](const OnnxSpelling& r) { return r.onnx == node.op_type(); });
    if (!known) unknown.insert(printable(node.op_type(), 40));
  }
  if (unknown.empty()) return "what its inputs and outputs mean";
  std::string out = "the op";
  std::size_t listed = 0;
  for (const std::string& op : unknown) {
    if (listed++ == 6) return out + fmt::format(" and {} more", unknown.size() - 6);
    out += (listed == 1 ? (unknown.size() > 1 ? "s " : " ") : ", ") + op;
  }
  return out;
}

void require_ours(const onnx::ModelProto& model) {
  const std::string* format = find_metadata(model, onnx_keys::kFormat);
  if (!format)
    bad_input(
        "is an ONNX file, but no Model of Osprey (it was made by '{}'), and Osprey does not understand {} in "
        "it; "
        "import the framework's own checkpoint and config instead",
        printable(model.producer_name(), 40), not_understood(model.graph()));
  require(*format == onnx_keys::kFormatVersion,
          "was written in format {}, this Osprey reads format {}; import the checkpoint again",
          printable(*format, 20), onnx_keys::kFormatVersion);
}

// Rebuilds the graph through its own builders, so that every rule they hold is held here.
class GraphReader {
 public:
  explicit GraphReader(const OnnxFile& in) : in_(in), graph_(in.model.graph().name()) {}

  Graph read() {
    const onnx::GraphProto& from = in_.model.graph();
    for (const auto& input : from.input()) {
      const ValueId id = graph_.add_input(input.name(), type_of_onnx(input));
      expect_name(id, input.name());
    }
    for (const OnnxWeight& w : in_.weights) weight(w);
    for (const auto& n : from.node())
      in_context(fmt::format("node '{}'", printable(n.name())), [&] { node(n); });
    for (const auto& output : from.output()) {
      require(!output.name().empty(), "an output has no name");
      const ValueId id = value(output.name());
      graph_.add_output(id);
      require(graph_.value(id).type == type_of_onnx(output), "output '{}' is {}, not {}",
              printable(output.name()), to_string(graph_.value(id).type), to_string(type_of_onnx(output)));
    }
    verify(graph_);
    return std::move(graph_);
  }

 private:
  ValueId value(const std::string& name) const {
    if (name.empty()) return kNoValue;
    const ValueId id = graph_.find(name);
    require(id != kNoValue, "the value '{}' is used before it is made", printable(name));
    return id;
  }
  void expect_name(ValueId id, const std::string& name) const {
    require(!name.empty() && graph_.value(id).name == name, "two values are named '{}'", printable(name));
  }

  void weight(const OnnxWeight& w) {
    if (w.name.starts_with(onnx_keys::kScales)) {
      scales_.emplace(w.name, w.load());
      return;
    }
    TensorType type{w.dtype, {}};
    for (const auto d : w.shape) type.dims.emplace_back(d);
    expect_name(graph_.add_weight(w.name, std::move(type), w.load), w.name);
  }

  std::int64_t scale(const std::string& name) const {
    const auto it = scales_.find(name);
    require(it != scales_.end() && it->second.dtype() == DType::kF32 && it->second.size() == 4,
            "'{}' holds no scales", printable(name));
    const auto s = it->second.values<float>();
    require(s[0] == 1 && s[1] == 1 && s[2] == s[3] && s[2] >= 1 && s[2] <= 1024 && s[2] == std::floor(s[2]),
            "'{}' holds no whole scale of both axes", printable(name));
    return static_cast<std::int64_t>(s[2]);
  }

  void node(const onnx::NodeProto& n) {
    ReadNode read = read_node(n, [this](const std::string& name) { return scale(name); });
    std::vector<ValueId> inputs;
    for (int i = 0; i < (read.takes_scale ? 1 : n.input_size()); ++i) inputs.push_back(value(n.input(i)));
    require(!n.name().empty(), "has no name");
    const std::vector<ValueId> made =
        graph_.add_node(std::move(read.op), std::move(inputs), n.name()).outputs;
    require(made.size() == static_cast<std::size_t>(n.output_size()), "has {} outputs, {} gives {}",
            n.output_size(), n.op_type(), made.size());
    for (std::size_t i = 0; i < made.size(); ++i) {
      const std::string& name = n.output(static_cast<int>(i));
      graph_.rename(made[i], name);
      expect_name(made[i], name);
    }
  }

  const OnnxFile& in_;
  Graph graph_;
  std::map<std::string, Tensor> scales_;
};

void read_description(const onnx::ModelProto& from, Model& to) {
  to.family = metadata(from, onnx_keys::kFamily);
  to.description = metadata(from, onnx_keys::kDescription);
  try {
    for (const Json& c : Json::parse(metadata(from, onnx_keys::kCategories)))
      to.categories.push_back({c.at("name").get<std::string>(), c.at("id").get<int>()});
    Json::parse(metadata(from, onnx_keys::kMetadata)).get_to(to.metadata);
    const Json weights = Json::parse(metadata(from, onnx_keys::kWeights));
    weights.at("used").get_to(to.weights.used);
    weights.at("unused").get_to(to.weights.unused);
    weights.at("missing").get_to(to.weights.missing);
    weights.at("misshapen").get_to(to.weights.misshapen);
  } catch (const Json::exception& e) {
    bad_input("its metadata are malformed: {}", printable(e.what()));
  }
}

Model read(const Source& source) {
  require(looks_like_onnx(source.bytes), "is no ONNX file");
  const OnnxFile file = read_onnx_file(source);
  require_ours(file.model);
  Model out;
  out.graph = GraphReader(file).read();
  read_description(file.model, out);
  return out;
}

}  // namespace

Model read_model_onnx(const Source& source) {
  try {
    return read(source);
  } catch (const Error& e) {
    // Whatever rule a file from outside breaks, it is the file that is bad.
    throw Error(ErrorCode::kBadInput, fmt::format("{}: {}", source.name, e.what()));
  }
}

Model read_model_onnx(const std::filesystem::path& file) { return read_model_onnx(open_source(file)); }

bool is_onnx_model(Bytes bytes) { return looks_like_onnx(bytes); }

}  // namespace osprey

// osprey inspect: what a file holds, never running anything from it.
#include <nlohmann/json.hpp>

#include "cli/support/verb.h"
#include "core/file.h"
#include "engine/engine_file.h"
#include "formats/checkpoint.h"
#include "formats/onnx.h"
#include "formats/tf_checkpoint.h"

namespace osprey {
namespace {

using nlohmann::json;

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1u << 20) return fmt::format("{:.1f} KiB", static_cast<double>(bytes) / (1 << 10));
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::uint64_t bytes_of(const NamedTensor& t) {
  return static_cast<std::uint64_t>(element_count(t.shape)) * size_of(t.dtype);
}

json tensor_json(const NamedTensor& t) {
  json out{{"section", t.section}, {"name", t.name}, {"dtype", name_of(t.dtype)}, {"shape", t.shape}};
  if (!t.full_name.empty()) out["full_name"] = t.full_name;
  return out;
}

int inspect_checkpoint(const std::string& file, const CommonOptions& common) {
  const Checkpoint checkpoint = read_checkpoint(file);
  std::uint64_t bytes = 0;
  for (const NamedTensor& t : checkpoint.tensors) bytes += bytes_of(t);
  if (common.json) {
    json tensors = json::array();
    for (const NamedTensor& t : checkpoint.tensors) tensors.push_back(tensor_json(t));
    fmt::print("{}\n", json{{"file", file},
                            {"format", checkpoint.format},
                            {"tensors", tensors},
                            {"values", checkpoint.scalars}}
                           .dump(2, ' ', false, json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{}: a checkpoint ({}), {} tensors, {}\n", file, checkpoint.format, checkpoint.tensors.size(),
             size_text(bytes));
  for (const auto& [key, value] : checkpoint.scalars) fmt::print("  {} = {}\n", key, value);
  for (const NamedTensor& t : checkpoint.tensors)
    fmt::print("  {}{}{}: {}{}{}\n", t.section, t.section.empty() ? "" : "/", t.name, name_of(t.dtype),
               to_string(t.shape), t.full_name.empty() ? "" : "  (" + t.full_name + ')');
  return 0;
}

// What a model and an engine have in common.
json model_json(const Model& model, bool layers) {
  const Graph& graph = model.graph;
  json categories = json::array(), outputs = json::array();
  for (const Category& c : model.categories) categories.push_back({{"id", c.id}, {"name", c.name}});
  for (const ValueId id : graph.outputs())
    outputs.push_back({{"name", graph.value(id).name}, {"type", to_string(graph.value(id).type)}});
  std::uint64_t bytes = 0;
  for (const Weight& w : graph.weights()) bytes += w.load().bytes().size();
  json out{
      {"family", model.family},   {"description", model.description}, {"weights", graph.weights().size()},
      {"weight_bytes", bytes},    {"nodes", graph.nodes().size()},    {"outputs", outputs},
      {"categories", categories}, {"metadata", model.metadata}};
  if (layers) out["graph"] = to_text(graph);
  return out;
}

void print_model(const Model& model, bool layers) {
  const json facts = model_json(model, layers);
  fmt::print("  {}: {}\n  {} layers, {} weights, {}\n", model.family, model.description,
             model.graph.nodes().size(), model.graph.weights().size(),
             size_text(facts["weight_bytes"].get<std::uint64_t>()));
  for (const auto& [key, value] : model.metadata) fmt::print("  {}: {}\n", key, value);
  std::string names;
  for (const Category& c : model.categories) names += (names.empty() ? "" : ", ") + c.name;
  fmt::print("  {} classes: {}\n", model.categories.size(), names);
  for (const auto& output : facts["outputs"])
    fmt::print("  output {}: {}\n", output["name"].get<std::string>(), output["type"].get<std::string>());
  if (layers) fmt::print("{}", facts["graph"].get<std::string>());
}

void print_json(const json& facts) {
  fmt::print("{}\n", facts.dump(2, ' ', false, json::error_handler_t::replace));
}

int inspect_engine(const std::string& file, bool layers, const CommonOptions& common) {
  const EngineData engine = read_engine(file);
  if (common.json) {
    json facts = model_json(engine.model, layers);
    facts.update({{"file", file},
                  {"kind", "engine"},
                  {"version", engine.version},
                  {"device", engine.device},
                  {"precision", engine.precision}});
    print_json(facts);
    return 0;
  }
  fmt::print("{}: an engine for {} in {}, built by Osprey {}\n", file, engine.device, engine.precision,
             engine.version);
  print_model(engine.model, layers);
  return 0;
}

int inspect_model(const std::string& file, bool layers, const CommonOptions& common) {
  const Model model = read_model_onnx(std::filesystem::path(file));
  if (common.json) {
    json facts = model_json(model, layers);
    facts.update({{"file", file}, {"kind", "model"}});
    print_json(facts);
    return 0;
  }
  fmt::print("{}: a model, as `osprey import` writes it\n", file);
  print_model(model, layers);
  return 0;
}

int inspect(const std::string& file, bool layers, const CommonOptions& common) {
  if (find_tf_checkpoint(file)) return inspect_checkpoint(file, common);
  const auto map = MappedFile::open(file);
  if (is_engine(map->bytes())) return inspect_engine(file, layers, common);
  if (is_onnx_model(map->bytes())) return inspect_model(file, layers, common);
  return inspect_checkpoint(file, common);
}

}  // namespace

Verb inspect_verb() {
  return {
      "inspect", "What a checkpoint, model or engine holds",
      "  osprey inspect model_final.pkl\n"
      "  osprey inspect saved_model/\n"
      "  osprey inspect m.osprey --layers\n"
      "  osprey inspect m.osprey --json\n",
      [](CLI::App& app, const CommonOptions& common) {
        auto file = std::make_shared<std::string>();
        auto layers = std::make_shared<bool>(false);
        app.add_option("FILE", *file, "Any file Osprey can read, or a folder of TensorFlow's")->required();
        app.add_flag("--layers", *layers, "The graph, a line a layer");
        return [file, layers, &common] { return inspect(*file, *layers, common); };
      }};
}

}  // namespace osprey

// osprey inspect: what a file holds, never running anything from it.
#include <nlohmann/json.hpp>

#include "cli/support/verb.h"
#include "core/file.h"
#include "engine/engine_file.h"
#include "formats/checkpoint.h"

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

int inspect_checkpoint(const std::string& file, const CommonOptions& common) {
  const Checkpoint checkpoint = read_checkpoint(file);
  std::uint64_t bytes = 0;
  for (const NamedTensor& t : checkpoint.tensors) bytes += bytes_of(t);
  if (common.json) {
    json tensors = json::array();
    for (const NamedTensor& t : checkpoint.tensors)
      tensors.push_back(
          {{"section", t.section}, {"name", t.name}, {"dtype", name_of(t.dtype)}, {"shape", t.shape}});
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
    fmt::print("  {}{}{}: {}{}\n", t.section, t.section.empty() ? "" : "/", t.name, name_of(t.dtype),
               to_string(t.shape));
  return 0;
}

int inspect_engine(const std::string& file, bool layers, const CommonOptions& common) {
  const EngineData engine = read_engine(file);
  const Graph& graph = engine.model.graph;
  std::uint64_t bytes = 0;
  for (const Weight& w : graph.weights()) bytes += w.load().bytes().size();
  if (common.json) {
    json categories = json::array(), outputs = json::array();
    for (const Category& c : engine.model.categories) categories.push_back({{"id", c.id}, {"name", c.name}});
    for (const ValueId id : graph.outputs())
      outputs.push_back({{"name", graph.value(id).name}, {"type", to_string(graph.value(id).type)}});
    json out{{"file", file},
             {"version", engine.version},
             {"device", engine.device},
             {"precision", engine.precision},
             {"family", engine.model.family},
             {"description", engine.model.description},
             {"weights", graph.weights().size()},
             {"weight_bytes", bytes},
             {"nodes", graph.nodes().size()},
             {"outputs", outputs},
             {"categories", categories},
             {"metadata", engine.model.metadata}};
    if (layers) out["graph"] = to_text(graph);
    fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{}: an engine for {} in {}, built by Osprey {}\n", file, engine.device, engine.precision,
             engine.version);
  fmt::print("  {}: {}\n  {} layers, {} weights, {}\n", engine.model.family, engine.model.description,
             graph.nodes().size(), graph.weights().size(), size_text(bytes));
  for (const auto& [key, value] : engine.model.metadata) fmt::print("  {}: {}\n", key, value);
  fmt::print("  {} classes:", engine.model.categories.size());
  for (const Category& c : engine.model.categories)
    fmt::print(" {}{}", c.name, &c == &engine.model.categories.back() ? "\n" : ",");
  if (engine.model.categories.empty()) fmt::print("\n");
  for (const ValueId id : graph.outputs())
    fmt::print("  output {}: {}\n", graph.value(id).name, to_string(graph.value(id).type));
  if (layers) fmt::print("{}", to_text(graph));
  return 0;
}

int inspect(const std::string& file, bool layers, const CommonOptions& common) {
  if (is_engine(MappedFile::open(file)->bytes())) return inspect_engine(file, layers, common);
  return inspect_checkpoint(file, common);
}

}  // namespace

Verb inspect_verb() {
  return {"inspect", "What a checkpoint, model or engine holds",
          "  osprey inspect model_final.pkl\n"
          "  osprey inspect m.osprey --layers\n"
          "  osprey inspect m.osprey --json\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto file = std::make_shared<std::string>();
            auto layers = std::make_shared<bool>(false);
            app.add_option("FILE", *file, "Any file Osprey can read")->required();
            app.add_flag("--layers", *layers, "The graph, a line a layer");
            return [file, layers, &common] { return inspect(*file, *layers, common); };
          }};
}

}  // namespace osprey

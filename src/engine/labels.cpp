#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "engine/source.h"
#include "formats/config_reader.h"
#include "formats/protobuf_text.h"

namespace osprey {
namespace {

using nlohmann::json;

// {"categories": [{"id": 1, "name": "cat"}, ...], ...}; everything else in the file is passed over unread.
std::vector<Category> from_coco(std::string_view text) {
  // Only the categories are kept while parsing, so that a large annotations file stays cheap.
  const auto keep = [](int depth, json::parse_event_t event, json& parsed) {
    return !(depth == 1 && event == json::parse_event_t::key && parsed != json("categories"));
  };
  const json file = json::parse(text, keep, /*allow_exceptions=*/false);
  require(file.is_object() && file.contains("categories") && file["categories"].is_array(),
          "is no COCO annotations file: it has no list of \"categories\"");
  std::vector<Category> out;
  for (const json& c : file["categories"]) {
    require(c.is_object() && c.contains("id") && c["id"].is_number_integer() && c.contains("name") &&
                c["name"].is_string(),
            "category {} needs an \"id\" and a \"name\"", out.size());
    out.push_back({c["name"].get<std::string>(), c["id"].get<int>()});
  }
  return out;
}

// TensorFlow's label map: `item { id: 1 name: "/m/01g317" display_name: "Person" }`, ids from 1.
std::vector<Category> from_label_map(std::string_view text) {
  const ProtobufText map = parse_protobuf_text(text, "label map");
  ConfigReader reader(map.tree);
  std::vector<Category> out;
  for (const ConfigTree* item : reader.repeated("item")) {
    const std::int64_t id = reader.at(*item, "id").as_int();
    require(id >= 1 && id <= 1'000'000, "{}: the id {} (they count from 1)", item->where(), id);
    const ConfigTree& name = reader.at(*item, "name");
    const ConfigTree* shown = reader.find(*item, "display_name");
    out.push_back({(shown ? *shown : name).as_string(), static_cast<int>(id)});
    for (const char* known : {"keypoints", "ancestor_ids", "descendant_ids", "frequency", "instance_count"})
      if (const ConfigTree* node = item->child(known)) reader.ignore(node->path);
  }
  for (const ConfigTree* unread : reader.unread())
    bad_input("{}: is no field of a label map", unread->where());
  return out;
}

// Whether the first word is `item`, of a message.
bool is_label_map(std::string_view text) {
  const auto skip_space = [&] {
    text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    while (text.starts_with('#')) {
      text.remove_prefix(std::min(text.find('\n'), text.size()));
      text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    }
  };
  skip_space();
  if (!text.starts_with("item")) return false;
  text.remove_prefix(4);
  skip_space();
  return text.starts_with('{') || text.starts_with(':');
}

// Class by class. Where the ids leave gaps and the model has classes for them (TensorFlow's 90 for COCO's
// 80), an id is a class's number and the classes in the gaps have no name of their own.
std::vector<Category> by_id(std::vector<Category> named, std::size_t classes) {
  std::stable_sort(named.begin(), named.end(),
                   [](const Category& a, const Category& b) { return a.id < b.id; });
  for (std::size_t i = 1; i < named.size(); ++i)
    require(named[i - 1].id != named[i].id, "has two classes with the id {}", named[i].id);
  const bool gaps = named.size() < classes && !named.empty() && named.front().id >= 1 &&
                    static_cast<std::size_t>(named.back().id) <= classes;
  if (!gaps || static_cast<std::size_t>(named.back().id) == named.size()) return named;
  std::vector<Category> out;
  for (std::size_t i = 0; i < classes; ++i)
    out.push_back({fmt::format("class {}", i + 1), static_cast<int>(i) + 1});
  for (Category& c : named) out[static_cast<std::size_t>(c.id) - 1].name = std::move(c.name);
  return out;
}

std::vector<Category> from_lines(std::string_view text) {
  std::vector<Category> out;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) out.push_back({std::string(line), static_cast<int>(out.size()) + 1});
  }
  return out;
}

}  // namespace

std::vector<Category> read_labels(const std::filesystem::path& file, std::size_t classes) {
  const std::string text = read_text(file, std::size_t{1} << 30);
  return in_context(file.string(), [&] {
    const auto first = text.find_first_not_of(" \t\r\n");
    require(first != std::string::npos, "holds no class names");
    std::vector<Category> out;
    if (text[first] == '{') {
      out = by_id(from_coco(text), classes);
    } else if (is_label_map(text)) {
      out = by_id(from_label_map(text), classes);
    } else {
      out = from_lines(text);
    }
    require(out.size() == classes, "has {} class names, but the model has {} classes", out.size(), classes);
    return out;
  });
}

}  // namespace osprey

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "engine/source.h"

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
  std::stable_sort(out.begin(), out.end(), [](const Category& a, const Category& b) { return a.id < b.id; });
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
    std::vector<Category> out = text[first] == '{' ? from_coco(text) : from_lines(text);
    require(out.size() == classes, "has {} class names, but the model has {} classes", out.size(), classes);
    return out;
  });
}

}  // namespace osprey

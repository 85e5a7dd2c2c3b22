#include "arch/tfod/config.h"

#include <filesystem>
#include <limits>

#include "arch/tfod/zoo.h"
#include "core/error.h"
#include "core/file.h"
#include "formats/protobuf_text.h"
#include "formats/tf_checkpoint.h"

namespace osprey::tfod {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxText = std::size_t{4} << 20;

ProtobufText read_config(const std::string& config, std::string& name) {
  if (fs::is_regular_file(config)) {
    name = fs::path(config).filename().string();
    return parse_protobuf_text(read_text(config, kMaxText), config);
  }
  const Official* official = find_official(config);
  require(official != nullptr,
          "config '{}' is neither a file nor the name of an official model; the nearest of those is {}",
          config, closest_official(config));
  name = official->name;
  return parse_protobuf_text(official->text, name);
}

}  // namespace

Config::Config(ConfigTree tree)
    : tree_(std::make_unique<const ConfigTree>(std::move(tree))), reader_(*tree_) {
  for (const char* training :
       {"train_config", "train_input_reader", "eval_config", "eval_input_reader", "eval_input_configs"})
    ignore(training);
}

int Config::integer(const std::string& path, int standard, int least, int most) {
  const ConfigTree* node = reader_.find(path);
  const std::int64_t value = node ? node->as_int() : standard;
  if (value >= least && value <= most) return static_cast<int>(value);
  if (!node) bad_input("{}: has no value, expected a number from {} to {}", path, least, most);
  node->refuse(fmt::format("a number from {} to {}", least, most));
}

float Config::number(const std::string& path, float standard) {
  const ConfigTree* node = reader_.find(path);
  if (!node) return standard;
  const double value = node->as_double();
  if (!(std::abs(value) <= std::numeric_limits<float>::max())) node->refuse("a number of 32 bits");
  return static_cast<float>(value);
}

float Config::fraction(const std::string& path, float standard) {
  const float value = number(path, standard);
  if (!(value >= 0 && value <= 1)) reader_.at(path).refuse("a number from 0 to 1");
  return value;
}

bool Config::flag(const std::string& path, bool standard) {
  const ConfigTree* node = reader_.find(path);
  return node ? node->as_bool() : standard;
}

std::string Config::text(const std::string& path, const std::string& standard) {
  const ConfigTree* node = reader_.find(path);
  return node ? node->as_string() : standard;
}

std::vector<float> Config::numbers(const std::string& path) {
  std::vector<float> out;
  for (const ConfigTree* node : reader_.repeated(path)) out.push_back(static_cast<float>(node->as_double()));
  return out;
}

std::string Config::alternative(const std::string& path) {
  const ConfigTree* node = reader_.find(path);
  if (!node || node->is_null()) return {};
  if (!node->is_map() || node->items.size() > 1) node->refuse("one field");
  return node->items.empty() ? std::string() : node->items[0].key;
}

void Config::expect(const std::string& path, bool value, bool standard, std::string_view why) {
  if (flag(path, standard) != value) refuse(path, why);
}

void Config::refuse(const std::string& path, std::string_view why) {
  const ConfigTree* node = reader_.find(path);
  if (!node) bad_input("{}: is not given, and its default is not supported: {}", path, why);
  const std::string value = node->is_scalar() ? node->text + " " : "";
  bad_input("{}: {}is not supported: {}", node->where(), value, why);
}

void Config::close() const {
  std::string text;
  for (const ConfigTree* node : reader_.unread()) text += "\n  " + node->where();
  require(text.empty(), "fields that are not known here, or not supported:{}", text);
}

Loaded load(const std::string& config, const std::string& source,
            const std::vector<std::pair<std::string, std::string>>& overrides) {
  std::string found = config;
  if (config.empty())
    if (const auto beside = find_beside_tf_checkpoint(source, "pipeline.config")) found = beside->string();
  require(!found.empty(),
          "a model of TensorFlow's Object Detection API needs its pipeline.config, which is not beside it: "
          "give --config the file, or an official name such as {}",
          officials().front().name);
  std::string name;
  ProtobufText text = read_config(found, name);
  for (const auto& [path, value] : overrides) set_by_path(text.tree, path, value);
  if (!overrides.empty()) assign_paths(text.tree, "");
  for (std::string& warning : text.warnings)
    if (warning.starts_with(found)) warning.replace(0, found.size(), name);
  return {Config(std::move(text.tree)), std::move(name), std::move(text.warnings)};
}

}  // namespace osprey::tfod

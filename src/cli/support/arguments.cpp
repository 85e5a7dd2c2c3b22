#include "cli/support/arguments.h"

#include <algorithm>
#include <map>

namespace osprey {
namespace {

// What a flag of another command is here: a flag of ours, "" for a positional argument, kIgnored for one that
// has no meaning here (with its value), kIgnoredSwitch for one without a value.
constexpr const char* kIgnored = "(ignored)";
constexpr const char* kIgnoredSwitch = "(ignored switch)";
// Of a batch of images, N,H,W,3 or N,3,H,W: becomes --size.
constexpr const char* kInputShape = "(input shape)";

struct Alias {
  std::string verb;
  std::map<std::string, std::string> flags;
};

const std::map<std::string, Alias>& aliases() {
  static const std::map<std::string, Alias> table{
      // The sample's exported graph and sample image stood in for what is read from the config here.
      {"create_onnx",
       {"import",
        {{"--exported-onnx", kIgnored},
         {"--onnx", "-o"},
         {"--det2-config", "--config"},
         {"--det2-weights", ""},
         {"--sample-image", kIgnored},
         {"--pipeline-config", "--config"},
         {"--saved-model", ""},
         {"--input-shape", kInputShape},
         {"--nms-threshold", "--second-nms-threshold"},
         // A Model takes photos; how a tensor would lie in memory is asked by `osprey export`.
         {"--input-format", kIgnored},
         {"--tf2onnx", kIgnored},
         {"--debug", kIgnored},
         {"--legacy-plugins", kIgnoredSwitch},
         {"--first-nms-threshold", "--first-nms-threshold"},
         {"--second-nms-threshold", "--second-nms-threshold"},
         // A Model takes any batch.
         {"--batch-size", kIgnored}}}},
      {"build_engine",
       {"build",
        {{"--onnx", ""}, {"--engine", "-o"}, {"--batch-size", "--batch"}, {"--workspace", kIgnored}}}},
      {"eval_coco",
       {"eval",
        {{"--engine", ""},
         {"--input", "--images"},
         {"--det2-config", kIgnored},
         {"--det2-weights", kIgnored},
         {"--preprocessor", kIgnored},
         {"--detection-type", "--type"},
         {"--nms-threshold", "--score-threshold"},
         {"--iou-threshold", "--mask-threshold"}}}},
      {"compare_tf",
       {"compare",
        {{"--engine", ""},
         {"--saved-model", ""},
         {"--output", "-o"},
         {"--preprocessor", kIgnored},
         {"--labels", kIgnored},
         {"--nms-threshold", "--score-threshold"},
         {"--iou-threshold", "--mask-threshold"}}}},
  };
  return table;
}

// Flags that a verb of ours takes in the samples' spelling as well.
const std::map<std::string, std::map<std::string, std::string>>& spellings() {
  static const std::map<std::string, std::map<std::string, std::string>> table{
      {"infer",
       {{"--engine", ""},
        {"--input", ""},
        {"--output", "-o"},
        {"--det2-config", kIgnored},
        {"--preprocessor", kIgnored},
        {"--nms-threshold", "--score-threshold"},
        {"--iou-threshold", "--mask-threshold"}}},
      {"bench",
       {{"--loadEngine", ""},
        {"--useCudaGraph", kIgnoredSwitch},
        {"--noDataTransfers", "--no-transfers"},
        {"--avgRuns", kIgnored},
        {"--exportProfile", kIgnored},
        {"--dumpProfile", "--layers"}}},
  };
  return table;
}

bool is_flag(const std::string& text) {
  return text.size() > 1 && text[0] == '-' && !(text[1] >= '0' && text[1] <= '9');
}

void dashes_for_underscores(std::string& flag) {
  if (!flag.starts_with("--")) return;
  const auto end = std::min(flag.find('='), flag.size());
  std::replace(flag.begin(), flag.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
}

// In KEY VALUE pairs CLI11 would take a list, "[1, 2]", apart; a blank in front stops it, and is nothing to
// who reads the list. SOURCE, which may stand anywhere, drops it again.
void keep_lists_whole(std::vector<std::string>& arguments) {
  for (std::size_t i = 2; i < arguments.size(); ++i) {
    std::string& value = arguments[i];
    if (value.starts_with('[') && value.ends_with(']') && !is_flag(arguments[i - 1])) value.insert(0, " ");
  }
}

// "1,512,640,3" and "1,3,512,640": "512x640". What is no such shape stays as it is, for --size to refuse.
std::string size_of_shape(const std::string& shape) {
  std::vector<std::string> extents(1);
  for (const char c : shape) {
    if (c == ',') extents.emplace_back();
    if (c != ',' && c != ' ') extents.back() += c;
  }
  if (extents.size() != 4) return shape;
  if (extents[3] == "3") return extents[1] + "x" + extents[2];
  return extents[1] == "3" ? extents[2] + "x" + extents[3] : shape;
}

std::vector<std::string> translated(const std::vector<std::string>& in,
                                    const std::map<std::string, std::string>& flags) {
  std::vector<std::string> out{in[0]}, positional;
  for (std::size_t i = 1; i < in.size(); ++i) {
    const auto equals = in[i].find('=');
    const auto found = is_flag(in[i]) ? flags.find(in[i].substr(0, equals)) : flags.end();
    if (found == flags.end()) {
      out.push_back(in[i]);
      continue;
    }
    if (found->second == kIgnoredSwitch) continue;
    if (found->second == "--no-transfers" || found->second == "--layers") {
      out.push_back(found->second);
      continue;
    }
    std::string value;
    if (equals != std::string::npos)
      value = in[i].substr(equals + 1);
    else if (i + 1 < in.size())
      value = in[++i];
    if (found->second == kIgnored) continue;
    if (found->second == kInputShape) {
      out.insert(out.end(), {"--size", size_of_shape(value)});
      continue;
    }
    if (found->second.empty()) {
      positional.push_back(value);
    } else {
      out.push_back(found->second);
      out.push_back(value);
    }
  }
  out.insert(out.begin() + 1, positional.begin(), positional.end());
  return out;
}

}  // namespace

std::vector<std::string> normal_arguments(std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  for (std::size_t i = 1; i < arguments.size(); ++i) dashes_for_underscores(arguments[i]);
  if (const auto alias = aliases().find(arguments[0]); alias != aliases().end()) {
    arguments[0] = alias->second.verb;
    arguments = translated(arguments, alias->second.flags);
  } else if (const auto own = spellings().find(arguments[0]); own != spellings().end()) {
    arguments = translated(arguments, own->second);
  }
  if (arguments[0] == "import" || arguments[0] == "build" || arguments[0] == "export")
    keep_lists_whole(arguments);
  return arguments;
}

}  // namespace osprey

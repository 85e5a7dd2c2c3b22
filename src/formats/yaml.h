// YAML configs of detectron2, maskrcnn-benchmark and PaddleDetection, with their `_BASE_` chains.
//
// Limits: 1 MiB of text, 64 levels, 200,000 nodes after aliases are expanded, 256 bytes a key, 16 bases. A
// key that is there twice is refused (PyYAML would silently take the last). Merge keys (`<<`) and aliases
// work.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "formats/config_tree.h"

namespace osprey {

// The text of a base that is not on disk, by the path that the config gives ("../Base-RCNN-FPN.yaml"); within
// such a text, its own bases have that path's folder in front.
using FindBase = std::function<std::optional<std::string>(const std::string& base_path)>;

// One document as it stands, `_BASE_` unresolved. `name` is the file in messages. Throws Error(kBadInput).
ConfigTree parse_yaml(std::string_view text, const std::string& name);

// The file merged over its bases. `_BASE_` is one path or a list of them, later ones winning; each is
// relative to the folder of the file that names it, or found by `find_base` when no such file exists.
// Absolute paths and addresses are refused: a config must not choose what is read outside its own
// surroundings.
ConfigTree load_config(const std::filesystem::path& file, const FindBase& find_base = {});

}  // namespace osprey

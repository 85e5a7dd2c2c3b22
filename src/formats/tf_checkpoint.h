// What of TensorFlow's a path means: its checkpoints are several files under a common prefix, in folders of
// several layouts.
//
//   PREFIX, PREFIX.index, PREFIX.meta, PREFIX.data-00000-of-00001   that checkpoint
//   a folder with a file `checkpoint`           the prefix that it names (AutoML, a training's folder)
//   a folder with one *.index                   that one
//   an exported folder of the Object Detection API (checkpoint/, saved_model/, pipeline.config)
//                                               checkpoint/, else saved_model/
//   a SavedModel's folder, or saved_model.pb    its variables/variables
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "core/named_tensor.h"

namespace osprey {

struct TfCheckpointFiles {
  std::filesystem::path index;        // PREFIX.index
  std::filesystem::path saved_model;  // its saved_model.pb; empty when it is no SavedModel
};

// None when the path is a file of another kind, or is not there. A folder that holds no checkpoint, or
// several without saying which, is bad input that names it; so is a SavedModel without variables (a frozen
// graph).
std::optional<TfCheckpointFiles> find_tf_checkpoint(const std::filesystem::path& path);

// The bundle's tensors (formats/tensor_bundle.h), and what saved_model.pb says (formats/saved_model.h).
Checkpoint read_tf_checkpoint(const TfCheckpointFiles& files);

// A file that belongs to the checkpoint at `path` (as the user gave it), such as "pipeline.config": in the
// folder of the checkpoint, or above it as far as folders named checkpoint, variables and saved_model* are
// left. None when it is not there.
std::optional<std::filesystem::path> find_beside_tf_checkpoint(const std::filesystem::path& path,
                                                               std::string_view name);

}  // namespace osprey

// The command line before it is parsed: other spellings of our own verbs and flags.
#pragma once

#include <string>
#include <vector>

namespace osprey {

// --nms_threshold becomes --nms-threshold, and the commands of NVIDIA's TensorRT samples (create_onnx,
// build_engine, eval_coco with their flags; trtexec's flags under bench) become ours.
std::vector<std::string> normal_arguments(std::vector<std::string> arguments);

}  // namespace osprey

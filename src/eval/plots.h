// An evaluation as pictures in a folder: `osprey eval --plots DIR`.
#pragma once

#include <filesystem>
#include <vector>

#include "eval/coco_eval.h"
#include "eval/confusion.h"

namespace osprey {

// Writes <type>_precision_recall.png, <type>_class_ap.png and <type>_confusion.png, and returns their paths.
// The folder is made if it is not there.
std::vector<std::filesystem::path> write_plots(const std::filesystem::path& folder, const CocoEval& eval,
                                               const ConfusionMatrix& confusion);

}  // namespace osprey

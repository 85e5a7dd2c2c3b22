// A checkpoint without some of its layers, to start training from with other classes: what the scripts
// trim_detectron_model.py do. Training frameworks refuse layers of another shape, and take any name that ends
// a weight's (arch/maskrcnn_benchmark/checkpoint.h), so the tensors have to go, not be renamed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace osprey {

struct TrimOptions {
  // Globs (*, ?, [...]) of whole names of tensors, without "module."; "classes" stands for the layers of the
  // box, mask and keypoint heads that depend on the number of classes. Tensors that a `keep` glob matches
  // stay.
  std::vector<std::string> patterns, keep;
};

struct TrimReport {
  std::vector<std::string> removed;  // "name [81, 1024]", and "optimizer (12 tensors)" of other sections
  std::size_t kept = 0;
};

// From a checkpoint file to a .pth (formats/torch_write.h). A file of Detectron's gets maskrcnn-benchmark's
// names, to which the globs apply. What is beside the model (optimizer, scheduler, iteration), with which
// training would go on where it ended, is left out. A glob that matches nothing is bad input.
TrimReport trim_checkpoint(const std::filesystem::path& source, const TrimOptions& options,
                           const std::filesystem::path& file);

}  // namespace osprey

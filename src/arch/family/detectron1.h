// Files of Detectron (the Caffe2 one, 2018), which later frameworks load: dicts of "blobs", with names such
// as "res2_0_branch2a_w", "res2_0_branch2a_bn_s", "fpn_inner_res4_5_sum_lateral_w", "_[mask]_fcn1_w".
#pragma once

#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "core/named_tensor.h"

namespace osprey {

// Whether the names are Detectron's.
bool is_detectron1(const Checkpoint& checkpoint);

// A layer's name there, and the module that it becomes.
struct BlobRule {
  std::regex blob;  // of the whole name, without the ending that tells the parameter
  std::string module,
      norm;  // its own and its batch norm's; "$1" is the regex's group; norm empty: "<module>.norm"
};
// Regex, module, and perhaps norm of each.
std::vector<BlobRule> blob_rules(const std::vector<std::vector<std::string>>& table);

// The tensors under "<module>.weight", "<module>.bias" and so on; those that no rule knows keep their names,
// for the account; momenta are left out. Batch norms, which are affine there, get mean 0 and variance 1.
std::vector<NamedTensor> rename_blobs(const Checkpoint& checkpoint, const std::vector<BlobRule>& rules);

}  // namespace osprey

// Writing PyTorch's .pth, in the form of torch.save before 1.6 (formats/torch_legacy.h), which all versions
// load: {"model": OrderedDict of tensors}, as training frameworks wrap a model's weights.
#pragma once

#include <filesystem>
#include <vector>

#include "core/named_tensor.h"

namespace osprey {

// Tensors keep their names, order and element types; sections are not looked at. The file appears whole or
// not at all.
void write_torch(const std::filesystem::path& file, const std::vector<NamedTensor>& tensors);

}  // namespace osprey

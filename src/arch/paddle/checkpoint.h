// The tensors of a PaddleDetection checkpoint as our layers take them.
#pragma once

#include <vector>

#include "core/named_tensor.h"

namespace osprey::paddle {

// The two parts that an attention's fused "in_proj_weight" and "in_proj_bias" come in.
inline constexpr const char *kQueryKey = " (query, key)", *kValue = " (value)";

// Whether the names are those of RT-DETR or Mask RT-DETR.
bool is_rtdetr(const Checkpoint& checkpoint);

// Whether it is of an exported model, which does not say of what (formats/paddle_inference.h).
bool is_exported(const Checkpoint& checkpoint);

// Linear weights turned from [in, out] to [out, in]; in_proj divided into its parts. Data is turned when a
// tensor is loaded. What training alone needs (the embedding of denoising classes) is left out.
std::vector<NamedTensor> model_tensors(const Checkpoint& checkpoint);

}  // namespace osprey::paddle

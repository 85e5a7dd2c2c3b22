#include <algorithm>
#include <array>
#include <utility>

#include "formats/onnx_export/lowering.h"

namespace osprey {

Lowering find_lowering(std::string_view op) {
  static constexpr auto kTable = std::to_array<std::pair<std::string_view, Lowering>>({
      {"activate", lower_activate},
      {"attention", lower_attention},
      {"center_queries", lower_center_queries},
      {"combine_rows", lower_combine_rows},
      {"conv", lower_conv},
      {"conv_transpose", lower_conv_transpose},
      {"decode_boxes", lower_decode_boxes},
      {"deformable_attention", lower_deformable_attention},
      {"dequantize", lower_dequantize},
      {"detect_anchors", lower_detect_anchors},
      {"detect_queries", lower_detect_queries},
      {"gather_rows", lower_gather_rows},
      {"gelu", lower_gelu},
      {"group_norm", lower_group_norm},
      {"layer_norm", lower_layer_norm},
      {"linear", lower_linear},
      {"mask_boxes", lower_mask_boxes},
      {"mask_logits", lower_mask_logits},
      {"nms", lower_nms},
      {"quantize", lower_quantize},
      {"quantized_conv", lower_quantized_conv},
      {"quantized_conv_transpose", lower_quantized_conv_transpose},
      {"quantized_linear", lower_quantized_linear},
      {"refine_boxes", lower_refine_boxes},
      {"rescale_boxes", lower_rescale_boxes},
      {"roi_align", lower_roi_align},
      {"scale", lower_scale},
      {"scale_channels", lower_scale_channels},
      {"select_anchors", lower_select_anchors},
      {"select_boxes", lower_select_boxes},
      {"select_class", lower_select_class},
      {"select_queries", lower_select_queries},
      {"squeeze_excite", lower_squeeze_excite},
      {"token_map", lower_token_map},
      {"tokens", lower_tokens},
      {"upsample", lower_upsample},
      {"weighted_sum", lower_weighted_sum},
  });
  const auto it =
      std::find_if(kTable.begin(), kTable.end(), [&](const auto& row) { return row.first == op; });
  return it == kTable.end() ? nullptr : it->second;
}

}  // namespace osprey

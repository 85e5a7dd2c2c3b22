#include <algorithm>
#include <array>
#include <utility>

#include "formats/onnx_export/lowering.h"

namespace osprey {

Lowering find_lowering(std::string_view op) {
  static constexpr std::array<std::pair<std::string_view, Lowering>, 13> kTable{{
      {"activate", lower_activate},
      {"decode_boxes", lower_decode_boxes},
      {"detect_anchors", lower_detect_anchors},
      {"nms", lower_nms},
      {"rescale_boxes", lower_rescale_boxes},
      {"roi_align", lower_roi_align},
      {"scale", lower_scale},
      {"scale_channels", lower_scale_channels},
      {"select_anchors", lower_select_anchors},
      {"select_boxes", lower_select_boxes},
      {"select_class", lower_select_class},
      {"upsample", lower_upsample},
      {"weighted_sum", lower_weighted_sum},
  }};
  const auto it =
      std::find_if(kTable.begin(), kTable.end(), [&](const auto& row) { return row.first == op; });
  return it == kTable.end() ? nullptr : it->second;
}

}  // namespace osprey

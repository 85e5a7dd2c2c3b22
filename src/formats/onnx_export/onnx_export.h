// A Model spelt in ONNX's own ops alone (opset 17), for ONNX Runtime 1.15 and later: the whole detector, from
// an image already resized to its detections.
//
//   image              f32[1,3,height,width]  RGB, 0..255, of any size, or of the one that photos are
//                      stretched to; normalised and padded inside the graph. With `channels_last`
//                      f32[1,height,width,3]. For detections as the framework gives them, resize by the rule
//                      in metadata_props
//                      ("osprey.input")
//   proposals          f32[proposals,4]       of models that need them, by descending score: x0, y0, x1, y1
//                      in pixels of `image`; those outside are dropped, and the best of the rest are taken
//   num_detections     i32[1,1]               D
//   detection_boxes    f32[1,D,4]             x0, y0, x1, y1 in pixels of `image`, by descending score
//   detection_scores   f32[1,D]               of a proposal network: objectness logits
//   detection_classes  i32[1,D]               index in the list of class names in metadata_props
//                      ("names", JSON)
//   detection_masks    f32[1,D,S,S]           with masks: probabilities over the box; of a DETR
//                      u8[batch,D,height,width], 1 inside the mask and 0 outside, of the whole `image`
//   keypoint_heatmaps  f32[1,D,K,S,S]         with keypoints: logits over the box; enlarging each map to its
//                      own box by bicubic interpolation to find the peak has no ONNX op, and is left to the
//                      caller
//
// The names are those of NVIDIA's EfficientNMS plugin, whose users expect them. A batch holds one image, and
// that of a DETR, whose images have the same number D of detections, any number of them; num_detections are
// those above its threshold.
#pragma once

#include <filesystem>
#include <functional>

#include "graph/model.h"

namespace osprey {

// Writes the file, whole or not at all. Throws Error(kBadInput) naming an op that has no spelling.
void export_onnx(const Model& model, const std::filesystem::path& file, bool channels_last = false,
                 const std::function<void(double)>& progress = {});

}  // namespace osprey

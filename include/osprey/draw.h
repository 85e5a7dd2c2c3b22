// Detections onto a photo: translucent masks with smooth outlines, boxes, COCO skeletons, name tags.
//
// Line widths and font sizes follow the image's size, so that a picture reads the same when shown at the same
// size, down to the smallest legible letters on a thumbnail. Objects are drawn large to small, tags last.
// Colours are palette.h's. The same input gives the same pixels, given the same fonts.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "osprey/api.h"
#include "osprey/detections.h"
#include "osprey/image.h"

namespace osprey {

enum class ColorBy {
  kClass,     // each class its own colour, the same in every picture
  kInstance,  // each detection its own, for crowds of one class
};

struct DrawOptions {
  // Detections below are left out, as are those without a score (NaN). Scores may be negative (objectness).
  float min_score = -std::numeric_limits<float>::infinity();
  bool masks = true, boxes = true, labels = true, keypoints = true;
  ColorBy color_by = ColorBy::kClass;
  float mask_alpha = 0.4f;           // 0: outlines only; 1: opaque
  float scale = 1;                   // of lines and letters, on top of what the image's size asks for
  float min_keypoint_score = 0.05f;  // Detectron2's threshold for showing one
};

// The most tags on one picture, of the best scores; more could not be read.
inline constexpr std::size_t kMaxTags = 400;

// `labels[class_index]` names a class; beyond the list it is called "class 17". Boxes are cut to the image;
// those that have a NaN, are inside out or lie outside are left out. Without a font (fonts.h) there are no
// tags. Throws Error(kBadInput) where the view makes no sense, where the detections or a mask are of another
// size than the photo, and where a photo to draw on has a side over kMaxCanvasSide (canvas.h).
OSPREY_API Image draw_detections(ImageView photo, const Detections& detections,
                                 const std::vector<std::string>& labels, const DrawOptions& options = {});

}  // namespace osprey

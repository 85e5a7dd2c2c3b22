// Keypoints as dots, and for the 17 of COCO (and of Detectron2) the limbs between them: left, right and
// middle of the body in colours of their own, so that swapped sides show.
#pragma once

#include <span>

#include "draw/canvas.h"
#include "osprey/detections.h"

namespace osprey {

// Points below `min_score`, outside the image or not finite are left out, with their limbs. `line` is the
// width of a limb in pixels; `color` that of the dots of any other number of points.
void draw_skeleton(const Canvas& canvas, std::span<const Keypoint> points, float min_score, double line,
                   Color color);

}  // namespace osprey

// Which of a COCO file's categories are a model's classes.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/coco_data.h"
#include "graph/model.h"

namespace osprey {

// The COCO category of each class of the engine: by name where all names are known to the annotations, or all
// of theirs to the engine (its other classes, such as COCO's ids without pictures, keep their own ids); else
// by position among their ids, as Detectron2 numbers its classes; an error where the counts differ.
std::vector<std::int64_t> match_categories(const std::vector<Category>& classes,
                                           const CocoAnnotations& truth);

}  // namespace osprey

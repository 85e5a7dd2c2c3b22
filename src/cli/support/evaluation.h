// Running an engine over an annotated set of images, and reporting COCO's metrics: for eval and demo.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cli/support/proposals.h"
#include "engine/runtime.h"
#include "eval/coco_eval.h"

namespace osprey {

// The COCO category of each class of the engine: by name where all names are known to the annotations, or all
// of theirs to the engine (its other classes, such as COCO's ids without pictures, keep their own ids); else
// by position among their ids, as Detectron2 numbers its classes; an error where the counts differ.
std::vector<std::int64_t> match_categories(const std::vector<Category>& classes,
                                           const CocoAnnotations& truth);

// For engines without classes: every annotation becomes one of this category, in the order in which COCO's
// evaluator pools them.
void pool_categories(CocoAnnotations& truth, const Category& all);

// What an engine can be evaluated on: bbox, and segm or keypoints where it has them.
std::vector<CocoType> types_of(const LoadedEngine& engine);

// Called with each image of the annotations, its pixels and what was found in it.
using OnImage = std::function<void(const CocoImage& image, const Image& photo, const Detections& found,
                                   std::size_t index)>;

void detect_all(DetectionSession& session, const RunOptions& options, const CocoAnnotations& truth,
                const std::filesystem::path& folder, const OnImage& on_image,
                const ProposalSource& proposals = {});

}  // namespace osprey

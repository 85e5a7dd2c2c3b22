// Running an engine over an annotated set of images, and reporting COCO's metrics: for eval and demo.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cli/support/proposals.h"
#include "engine/runtime.h"
#include "eval/categories.h"
#include "eval/coco_eval.h"

namespace osprey {

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

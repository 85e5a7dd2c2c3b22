// An evaluation as text and as JSON.
#pragma once

#include <span>
#include <string>

#include "eval/coco_eval.h"
#include "eval/proposal_recall.h"

namespace osprey {

// The lines that pycocotools' summarize() prints: 12, for keypoints 10.
std::string summary_text(const CocoEval& eval);

// A row for each class: AP, AP50, AP75 in percent, images and instances; the classes without an instance are
// counted in a last line.
std::string class_table_text(const CocoEval& eval);

// {"bbox": {"stats": [...], "classes": [{"id", "name", "AP", "AP50", "AP75", "images", "instances"}]},
// "segm": ...}: what `osprey eval --json` prints. -1 where a value is undefined.
// Proposals add "box_proposals": {"AR@100": ..., ...}.
std::string eval_json(std::span<const CocoEval> evals, std::span<const ProposalRecall> recall = {});

}  // namespace osprey

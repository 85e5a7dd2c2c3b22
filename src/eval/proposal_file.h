// Files of proposals made beforehand, for Fast R-CNN, recognised by content:
//
// - COCO results: [{"image_id": 139, "bbox": [x, y, width, height], "score": 7.5}, ...]; "file_name" may
// stand
//   in place of "image_id", and other keys are ignored. `osprey infer --format coco` and `osprey eval
//   --save-detections` write them with an engine that proposes.
// - detections.json of `osprey infer`: by the names of the image files.
// - Detectron2's and Detectron's pickles, as DATASETS.PROPOSAL_FILES_TEST names them: a dict of "ids" (or
//   "indexes"), "boxes", "objectness_logits" (or "scores") and "bbox_mode" (XYXY_ABS or XYWH_ABS), of which
//   only numpy's arrays are understood and nothing is run.
//
// Hostile input: whatever is missing, of the wrong type or not finite is an Error(kBadInput) that names the
// file and the entry.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "formats/source.h"
#include "osprey/detections.h"

namespace osprey {

class ProposalFile {
 public:
  explicit ProposalFile(const std::filesystem::path& file);
  explicit ProposalFile(const Source& source);

  // The proposals of the image that goes by one of these names (an id is a name in decimal), the first that
  // the file has; bad input when it has none of them.
  std::vector<Proposal> of(std::span<const std::string> names) const;

 private:
  using Load = std::function<std::vector<Proposal>()>;

  std::string source_;
  std::map<std::string, Load, std::less<>> images_;
};

}  // namespace osprey

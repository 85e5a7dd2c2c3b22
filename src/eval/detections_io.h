// Detections into files and into the evaluator, and back.
//
// All writers are deterministic: floats have the shortest digits that read back as the same float. Files
// appear whole or not at all. A detection that is not finite is a bug of the model's executor, and an error
// here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "eval/coco_eval.h"
#include "osprey/detections.h"

namespace osprey {

struct ImageDetections {
  std::string file;           // as detections.json names it: "coffee.png"
  std::int64_t image_id = 0;  // as COCO names it
  Detections detections;
};

// DIR/detections.json of `osprey infer`:
//   {"engine": "...", "images": [{"file": "coffee.png", "width": 600, "height": 400, "detections": [
//     {"class": 17, "label": "cat", "score": 0.93, "box": [x0, y0, x1, y1],
//      "mask": {"size": [height, width], "counts": "<COCO compressed RLE>"}, "keypoints": [[x, y, score],
//      ...]}]}]}
// "mask" and "keypoints" only where the model has them. Images are written as they come.
class DetectionsJsonWriter {
 public:
  DetectionsJsonWriter(const std::filesystem::path& file, std::string_view engine,
                       std::vector<std::string> labels);
  void add(const std::string& image_file, const Detections& detections);
  void commit();

 private:
  AtomicFile out_;
  std::vector<std::string> labels_;
  bool first_ = true;
};

// COCO's results: a list of {"image_id", "category_id", "bbox", "score", "segmentation", "keypoints"}. The
// category of class i is category_ids[i]. As Detectron2 does, keypoints are moved by half a pixel, because
// COCO's are indices of pixels and ours are places in the image.
class CocoResultsWriter {
 public:
  CocoResultsWriter(const std::filesystem::path& file, std::vector<std::int64_t> category_ids);
  void add(std::int64_t image_id, const Detections& detections);
  void commit();

 private:
  AtomicFile out_;
  std::vector<std::int64_t> category_ids_;
  bool first_ = true;
};

// A detections.json, ours or another program's. Labels are not kept. A mask's "counts" may be a list of
// numbers as well. The file is hostile input: what is missing, not finite, or no mask of its photo's size is
// an Error(kBadInput) that names the file, the image and the key; limits as in eval/coco_data.h.
struct DetectionsFile {
  std::string engine;
  std::vector<ImageDetections> images;
};
DetectionsFile load_detections_json(const std::filesystem::path& file);
DetectionsFile parse_detections_json(std::string_view text, const std::string& source);

// A row for each detection: xmin ymin xmax ymax class score, separated by tabs.
void write_tsv(const std::filesystem::path& file, const Detections& detections);

// Appends what evaluate() takes. `type` says what for: for masks the box is left out, so that the size class
// is that of the mask's area, as in Detectron2's evaluator.
void append_coco_results(const Detections& detections, std::int64_t image_id,
                         std::span<const std::int64_t> category_ids, CocoType type, CocoResults& out);

}  // namespace osprey

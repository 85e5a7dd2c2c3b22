// COCO's files in memory: annotations (instances or person_keypoints) and results, as pycocotools 2.0.11
// reads them.
//
// The files are mapped and parsed entry by entry on several threads, so that memory holds what is kept and no
// tree of the whole text. They are hostile input: whatever is missing, of the wrong type, not finite or
// inconsistent is an Error(kBadInput) that names the file, the entry (its position, and its id where it has
// one) and the key. An entry may have at most 64 MiB of text, nested at most 1024 deep; a mask fewer than
// 2^31 pixels. Unknown keys are ignored.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "osprey/detections.h"

namespace osprey {

using XywhBox = std::array<double, 4>;  // left, top, width, height in pixels

struct CocoImage {
  std::int64_t id = 0;
  std::string file_name;      // empty where the file has none
  int width = 0, height = 0;  // 0 where the file has none
};

struct CocoCategory {
  std::int64_t id = 0;
  std::string name;
};

struct CocoAnnotation {
  std::int64_t id = 0, image_id = 0, category_id = 0;
  double area = 0;  // the file's own, which decides the size class
  bool crowd = false;
  std::optional<XywhBox> box;
  std::optional<Rle> mask;        // polygons rasterised and merged; only if asked for
  std::vector<double> keypoints;  // x, y, visibility of each point; only if asked for
  int labelled_keypoints = 0;     // "num_keypoints"
};

struct CocoAnnotations {
  std::string source;  // what messages call it: the file's name
  std::vector<CocoImage> images;
  std::vector<CocoCategory> categories;
  std::vector<CocoAnnotation> annotations;
};

struct CocoResult {
  std::int64_t image_id = 0, category_id = 0;
  double score = 0;
  std::optional<XywhBox> box;
  std::optional<Rle> mask;
  std::vector<double> keypoints;  // x, y, score of each point
};

struct CocoResults {
  std::string source;
  std::vector<CocoResult> entries;
};

// What is read beside ids, areas, scores and boxes. For annotations what is asked for must be there.
struct CocoParts {
  bool masks = false;
  bool keypoints = false;
};

CocoAnnotations load_coco_annotations(const std::filesystem::path& file, CocoParts parts);
CocoAnnotations parse_coco_annotations(std::string_view json, std::string source, CocoParts parts);

// Masks of results that have no box are always read. Result polygons are rasterised in the size of their
// image, so the annotations are needed.
CocoResults load_coco_results(const std::filesystem::path& file, const CocoAnnotations& truth,
                              CocoParts parts);
CocoResults parse_coco_results(std::string_view json, std::string source, const CocoAnnotations& truth,
                               CocoParts parts);

}  // namespace osprey

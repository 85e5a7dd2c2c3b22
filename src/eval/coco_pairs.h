// Inside of the evaluator: annotations and results in the order in which COCO's code meets them, grouped into
// cells (one category in one image), and their overlaps.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "eval/coco_eval.h"
#include "image/rle.h"

namespace osprey {

// Positions [begin, end) of CocoPairs::truths and ::found.
struct Cell {
  std::size_t category = 0;  // index into category_ids, 0 where categories are pooled
  std::size_t image = 0;     // index into image_ids
  std::size_t truth_begin = 0, truth_end = 0;
  std::size_t found_begin = 0, found_end = 0;

  std::size_t truth_count() const { return truth_end - truth_begin; }
  std::size_t found_count() const { return found_end - found_begin; }
};

struct CocoPairs {
  std::vector<std::int64_t> image_ids, category_ids;  // ascending, each once
  // Indices of annotations, by category, image, then order of the file.
  std::vector<std::uint32_t> truths;
  // Indices of results, by category, image, descending score, then order of the file.
  std::vector<std::uint32_t> found;
  std::vector<Cell> cells;  // those that are not empty, by category, then image
};

// At most `max_detections` results of a cell are kept, the best. Entries of categories that the annotations
// do not list are left out; a result of an image they do not list is an error.
CocoPairs make_pairs(const CocoAnnotations& truth, const CocoResults& results, bool use_categories,
                     int max_detections);

// COCO's constants for the 17 points of a person.
std::vector<double> default_keypoint_sigmas();

// The overlap of every kept result with every annotation of a cell: IoU of boxes or masks, OKS of keypoints.
class Overlaps {
 public:
  Overlaps(const CocoAnnotations& truth, const CocoResults& results, CocoType type,
           std::vector<double> sigmas);

  // Row by result, column by annotation; empty where one side is. `out` is reused between calls.
  void compute(const CocoPairs& pairs, const Cell& cell, std::vector<double>& out) const;

  // The result's area by the rules of loadRes: its box's, else its mask's, else the extent of its keypoints.
  // Which of them is decided by what the first result of the file has.
  double area_of(std::size_t result) const;

 private:
  XywhBox truth_box(std::size_t annotation) const;
  XywhBox result_box(std::size_t result) const;
  MaskSpans truth_mask(std::size_t annotation) const;
  MaskSpans result_mask(std::size_t result) const;
  double object_keypoint_similarity(std::size_t result, std::size_t annotation) const;

  const CocoAnnotations& truth_;
  const CocoResults& results_;
  CocoType type_;
  std::vector<double> sigmas_;
  std::unordered_map<std::int64_t, const CocoImage*> images_;
};

}  // namespace osprey

// Inside of the evaluator: which results find which annotations in one cell (COCOeval.evaluateImg), for all
// areas and thresholds at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eval/coco_eval.h"

namespace osprey {

constexpr std::size_t kMaxIouThresholds = 32;

// Bit t: at IoU threshold t the result has matched (an annotation whose id is not 0); it counts as neither
// right nor wrong.
struct MatchBits {
  std::uint32_t matched = 0, ignored = 0;
};

struct TruthOfCell {
  double area = 0;
  bool crowd = false;
  bool ignored = false;  // in every area: a crowd, or a person without labelled keypoints
  bool id_is_zero = false;
};

// `overlaps`: row by result, column by annotation. Writes bits[result * areas + area], and adds to
// counted[area] the annotations that count there.
void match_cell(std::span<const TruthOfCell> truths, std::span<const double> result_areas,
                std::span<const double> overlaps, std::span<const double> thresholds,
                std::span<const AreaRange> areas, MatchBits* bits, std::int64_t* counted);

}  // namespace osprey

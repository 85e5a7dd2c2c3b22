// How far a run's stages and masks are from the golden ones.
#pragma once

#include "osprey/detections.h"
#include "parity/match.h"
#include "parity/model_case.h"

namespace osprey {

// Whether a stage is one of a kind: its name begins as one of these.
bool starts_with_any(const std::string& name, std::initializer_list<const char*> prefixes);

// The largest difference, as part of the golden tensor's largest magnitude. Of rows: golden row r against our
// row rows[r]; those without a partner do not count.
double map_difference(const GoldenStage& golden, const Tensor& got);
double row_difference(const GoldenStage& golden, const Tensor& got,
                      const std::vector<std::optional<std::size_t>>& rows);

struct MaskDifference {
  double iou = 1;
  std::int64_t pixels = 0;  // that are in one of them alone
};
MaskDifference mask_difference(const Rle& a, const Rle& b);

}  // namespace osprey

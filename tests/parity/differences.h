// How far a run's stages and masks are from the golden ones.
#pragma once

#include <cstdint>
#include <limits>

#include "osprey/detections.h"
#include "parity/match.h"
#include "parity/model_case.h"

namespace osprey {

// What a run of an R-CNN may differ by; "of the largest magnitude" of each tensor where nothing else is said.
struct RcnnBounds {
  double input = 0;
  double maps = 3e-5;  // feature maps, dense heads, heads on the golden boxes
  double rows = 1e-3;  // what follows the boxes' shifts
  double mask_probability = 5e-3;
  double proposal_pixels = 0.03;  // within which a proposal counts as the same
  double matched_proposals = 0.995;
  double detection_pixels = 0.1;  // likewise of the network's detections, whose masks are compared
  double matched_rows = 1;        // of them
  double match_iou = 0.99;        // from which a detection counts as the same
  double matched = 1;             // of the golden detections, and of ours
  double box_pixels = 0.05, score = 1e-3;
  double mask_iou = 0.995;       // of a pasted mask, or
  std::int64_t mask_pixels = 8;  // at most so many pixels that differ
  double moved_keypoints = 0.01, keypoint_logit = 1e-3;
};

inline constexpr double kAny = std::numeric_limits<double>::infinity();
// A GPU sums in another order.
inline constexpr RcnnBounds kCudaFp32{.maps = 2e-4};
// What follows a box is compared where the box is the same: features of one that moved are others.
inline constexpr RcnnBounds kCudaFp16{.input = 1e-3,
                                      .maps = 0.02,
                                      .rows = 0.02,
                                      .mask_probability = 0.02,
                                      .matched_proposals = 0.01,
                                      .detection_pixels = 0.03,
                                      .matched_rows = 0,
                                      .match_iou = 0.95,
                                      .matched = 0.98,
                                      .box_pixels = kAny,
                                      .score = kAny,
                                      .mask_iou = 0,
                                      .moved_keypoints = 1,
                                      .keypoint_logit = kAny};

// Whether a stage is one of a kind: its name begins as one of these.
bool starts_with_any(const std::string& name, std::initializer_list<const char*> prefixes);

// The largest difference, as part of the golden tensor's largest magnitude. Of rows: golden row r against our
// row rows[r]; those without a partner do not count.
double map_difference(const GoldenStage& golden, const Tensor& got);
double row_difference(const GoldenStage& golden, const Tensor& got,
                      const std::vector<std::optional<std::size_t>>& rows);

// That nearly all detections are paired, and how far pairs may differ; tells how many are, and how far they
// do.
void expect_paired(std::span<const ClassedBox> golden, std::span<const ClassedBox> got,
                   std::span<const std::pair<std::size_t, std::size_t>> pairs, const RcnnBounds& bounds);

struct MaskDifference {
  double iou = 1;
  std::int64_t pixels = 0;  // that are in one of them alone
};
MaskDifference mask_difference(const Rle& a, const Rle& b);

}  // namespace osprey

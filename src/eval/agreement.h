// Whether two sets of detections are the same, in numbers: what `osprey compare` judges by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "osprey/detections.h"

namespace osprey {

// When two detections of one class are the same thing, and how far they may differ.
struct AgreementBounds {
  double match_iou = 0.99;   // of the boxes
  double matched_share = 1;  // of both sides' detections that must find a partner
  double box = 0.05;         // pixels, any side
  double score = 1e-3;
  double mask_iou = 0.995;  // or at most `mask_pixels` different
  std::int64_t mask_pixels = 8;
  double stage = 2e-4;  // of a layer's largest magnitude
};

// fp32 against fp32; and where a side computes in less: 98 % matched at IoU 0.95, the rest unbounded.
AgreementBounds bounds_for_fp32();
AgreementBounds bounds_for_reduced_precision();

struct Agreement {
  std::int64_t first = 0, second = 0;  // detections on each side
  std::int64_t matched = 0;
  double largest_box = 0, largest_score = 0;  // differences of matched detections
  double worst_mask_iou = 1;
  std::int64_t most_mask_pixels = 0;
  std::int64_t masks_outside = 0;  // masks that meet neither bound

  std::int64_t missing() const { return first - matched; }
  std::int64_t extra() const { return second - matched; }
  void add(const Agreement& image);
};

// Pairs the detections of one image: by class, each of `first`, best score first, with the best overlap left.
Agreement compare_detections(const Detections& first, const Detections& second,
                             const AgreementBounds& bounds);

// What is out of bounds, a line each; empty when the two agree.
std::vector<std::string> violations(const Agreement& total, const AgreementBounds& bounds);

}  // namespace osprey

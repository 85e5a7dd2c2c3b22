// PASCAL VOC's average precision as maskrcnn-benchmark's evaluator computes it
// (data/datasets/evaluation/voc).
//
// Boxes are corners in pixels with x1, y1 inside, as VOC's files have them. That evaluator widens them by one
// pixel and then takes an overlap that widens them once more; both are kept, and the overlap is single
// precision, so that the numbers agree. Each detection looks at the one annotation of its class that it
// overlaps most: below the threshold, or when that one is taken already, it is wrong; if that one is
// difficult, it counts as neither.
#pragma once

#include <array>
#include <span>
#include <vector>

namespace osprey {

struct VocTruth {
  int image = 0, label = 0;  // labels count from 0, which is the background
  std::array<float, 4> box{};
  bool difficult = false;
};

struct VocDetection {
  int image = 0, label = 0;
  std::array<float, 4> box{};
  float score = 0;
};

struct VocOptions {
  float iou = .5f;
  bool eleven_points = false;  // VOC 2007's mean of 11 samples; else the area under the monotone curve
};

struct VocClass {
  // After each detection by descending score. Precision is NaN while nothing has counted; recall is empty
  // where the class has no annotation that counts.
  std::vector<double> precision, recall;
  double ap = 0;  // NaN where the class has no annotation that counts
};

struct VocEval {
  std::vector<VocClass> classes;  // by label, up to the highest that occurs
  double mean_ap = 0;             // over the classes that have one; NaN if none has
};

// Equal scores keep the order of images, then of `found`. Labels must be below 100,000.
VocEval evaluate_voc(std::span<const VocTruth> truths, std::span<const VocDetection> found,
                     const VocOptions& options = {});

}  // namespace osprey

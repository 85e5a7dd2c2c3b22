// For tests: cases of ops/detect_anchors.h, and what they give by its definition, where every candidate of
// every class is ranked and suppressed in full, class by class, as TensorFlow's NonMaxSuppressionV5 does it
// with a queue of its own; then all are merged.
#pragma once

#include <algorithm>
#include <cmath>
#include <queue>
#include <vector>

#include "cpu/box_cases_test.h"
#include "ops/detect_anchors.h"

namespace osprey {

struct DetectCase {
  DetectAnchors op;
  std::vector<Tensor> maps;  // scores and deltas of each level, alternating
  std::vector<Geometry> geometry = kTwoImages;
};

// Levels of the given heights and widths, two images, anchors of several sizes.
inline DetectCase random_case(DetectAnchors op, const std::vector<std::pair<int, int>>& sizes,
                              std::uint32_t seed) {
  DetectCase out;
  float stride = 8;
  const auto anchors = [&op](std::size_t level) {
    return static_cast<int>(op.level_anchors.empty() ? op.anchors : op.level_anchors[level]);
  };
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    op.strides.push_back(stride), op.offsets.push_back(0.5f);
    for (int a = 0; a < anchors(l); ++a) {
      const float w = stride * static_cast<float>(1 + a), h = stride * static_cast<float>(3 - a % 3);
      op.cells.insert(op.cells.end(), {-w, -h, w, h});
    }
    stride *= 2;
  }
  out.op = op;
  for (std::size_t l = 0; l < sizes.size(); ++l) {
    const auto [height, width] = sizes[l];
    out.maps.push_back(random_tensor({2, anchors(l) * op.columns(), height, width}, -6, 3, ++seed));
    out.maps.push_back(random_tensor({2, std::int64_t{anchors(l)} * 4, height, width}, -1, 1, ++seed));
  }
  return out;
}

// The settings that TensorFlow's detectors are run with.
inline const DetectAnchors kSsdCase{.anchors = 3,
                                    .classes = 5,
                                    .scores = AnchorScores::kSigmoidSkipFirst,
                                    .weights = {10, 10, 5, 5},
                                    .threshold = 1e-8f,
                                    .iou = 0.6f,
                                    .max_per_class = 20,
                                    .max_detections = 30,
                                    .clip = KeptClip::kDropEmpty};
inline const DetectAnchors kRpnCase{.anchors = 4,
                                    .scores = AnchorScores::kSoftmaxSkipFirst,
                                    .weights = {10, 10, 5, 5},
                                    .clip_anchors = true,
                                    .canvas_height = 90,
                                    .canvas_width = 110,
                                    .agnostic = true,
                                    .iou = 0.7f,
                                    .max_per_class = 40,
                                    .max_detections = 40,
                                    .clip = KeptClip::kDropEmpty,
                                    .stage = 1};
inline const DetectAnchors kSoftCase{.anchors = 3,
                                     .classes = 6,
                                     .best_class_only = true,
                                     .agnostic = true,
                                     .threshold = 0.001f,
                                     .soft_sigma = 0.25f,
                                     .max_detections = 25,
                                     .clip = KeptClip::kKeepEmpty};
inline const DetectAnchors kSoftPerClassCase{.anchors = 3,
                                             .classes = 6,
                                             .best_class_only = true,
                                             .threshold = 0.001f,
                                             .soft_sigma = 0.25f,
                                             .max_per_class = 10,
                                             .max_detections = 25};
inline const DetectAnchors kCombinedCase{
    .anchors = 3, .classes = 6, .threshold = 0.05f, .max_per_class = 10, .max_detections = 40};
inline const DetectAnchors kSoftmaxCase{.anchors = 2,
                                        .classes = 4,
                                        .scores = AnchorScores::kSoftmaxSkipFirst,
                                        .max_log_scale = 0.5f,
                                        .delta_order = DeltaOrder::kXywh,
                                        .threshold = 0.1f,
                                        .max_per_class = 9,
                                        .max_detections = 12};
inline const std::vector<DetectAnchors> kDetectCases{kSsdCase,          kRpnCase,      kSoftCase,
                                                     kSoftPerClassCase, kCombinedCase, kSoftmaxCase};

struct OracleDetection {
  Box box;
  float score;
  std::int32_t classification, row;
};

class DetectAnchorsOracle {
 public:
  // maps: scores and deltas of each level, alternating, [N,C,H,W].
  DetectAnchorsOracle(const DetectAnchors& op, const std::vector<Tensor>& maps,
                      const std::vector<Geometry>& geometry)
      : op_(op), maps_(maps), geometry_(geometry) {}

  std::vector<OracleDetection> detect(std::int64_t image) {
    find_candidates(image);
    std::vector<OracleDetection> all;
    for (int c = 0; c < (op_.agnostic ? 1 : op_.classes); ++c) {
      std::vector<OracleDetection> in_class;
      for (const OracleDetection& d : candidates_)
        if (op_.agnostic || d.classification == c) in_class.push_back(d);
      const std::vector<OracleDetection> kept = suppress(in_class);
      all.insert(all.end(), kept.begin(), kept.end());
    }
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
    const Geometry& g = geometry_[static_cast<std::size_t>(image)];
    std::vector<OracleDetection> out;
    for (OracleDetection d : all) {
      if (op_.clip != KeptClip::kNone) d.box = clip_box(d.box, g.clip_height, g.clip_width);
      if (op_.clip == KeptClip::kDropEmpty && !(d.box.area() > 0)) continue;
      if (static_cast<int>(out.size()) < op_.max_detections) out.push_back(d);
    }
    return out;
  }

 private:
  // In the order of rows, then classes.
  void find_candidates(std::int64_t image) {
    candidates_.clear();
    const BoxDecoder decode(op_.weights, op_.max_log_scale, op_.delta_order);
    const Geometry& g = geometry_[static_cast<std::size_t>(image)];
    std::int32_t row = 0;
    for (std::size_t l = 0; l < op_.levels(); ++l) {
      const Shape& dims = maps_[2 * l].shape();
      for (std::int64_t y = 0; y < dims[2]; ++y)
        for (std::int64_t x = 0; x < dims[3]; ++x)
          for (std::int64_t a = 0; a < op_.anchors_of(l); ++a, ++row) {
            const float* cell = &op_.cells[static_cast<std::size_t>(op_.first_cell(l) + a) * 4];
            const float dy =
                (static_cast<float>(y) + op_.of_level(op_.offsets, l, 0)) * op_.of_level(op_.strides, l, 0);
            const float dx =
                (static_cast<float>(x) + op_.of_level(op_.offsets, l, 1)) * op_.of_level(op_.strides, l, 1);
            Box anchor{cell[0] + dx, cell[1] + dy, cell[2] + dx, cell[3] + dy};
            if (op_.clip_anchors)
              anchor = op_.canvas_height > 0 ? clip_box(anchor, static_cast<float>(op_.canvas_height),
                                                        static_cast<float>(op_.canvas_width))
                                             : clip_box(anchor, g.clip_height, g.clip_width);
            float delta[4];
            for (std::int64_t d = 0; d < 4; ++d) delta[d] = at(2 * l + 1, image, 4 * a + d, y, x);
            add(decode(anchor, delta), scores_of(l, image, a, y, x), row);
          }
    }
  }

  void add(const Box& box, const std::vector<float>& logits, std::int32_t row) {
    if (has_nan(box)) return;
    const auto first = static_cast<std::size_t>(op_.first_column());
    std::vector<float> scores(logits.size());
    if (op_.scores == AnchorScores::kSoftmaxSkipFirst) {
      const float largest = *std::max_element(logits.begin(), logits.end());
      float sum = 0;
      for (const float v : logits) sum += std::exp(v - largest);
      for (std::size_t k = 0; k < logits.size(); ++k) scores[k] = std::exp(logits[k] - largest) / sum;
    } else {
      for (std::size_t k = 0; k < logits.size(); ++k) scores[k] = 1 / (1 + std::exp(-logits[k]));
    }
    std::size_t best = first;
    for (std::size_t k = first; k < logits.size(); ++k)
      if (logits[k] > logits[best] || std::isnan(logits[best])) best = k;
    for (std::size_t k = first; k < logits.size(); ++k)
      if (!op_.best_class_only || k == best)
        candidates_.push_back({box, scores[k], static_cast<std::int32_t>(k - first), row});
  }

  std::vector<float> scores_of(std::size_t level, std::int64_t image, std::int64_t anchor, std::int64_t y,
                               std::int64_t x) const {
    std::vector<float> out;
    for (std::int64_t k = 0; k < op_.columns(); ++k)
      out.push_back(at(2 * level, image, anchor * op_.columns() + k, y, x));
    return out;
  }

  float at(std::size_t map, std::int64_t n, std::int64_t c, std::int64_t y, std::int64_t x) const {
    const Tensor& t = maps_[map];
    return t.values<float>()[static_cast<std::size_t>(((n * t.dim(1) + c) * t.dim(2) + y) * t.dim(3) + x)];
  }

  static float iou_of(const Box& a, const Box& b) {
    const float area_a = a.area(), area_b = b.area();
    if (area_a <= 0 || area_b <= 0) return 0;
    const float w = std::max(0.0f, std::min(a.x1, b.x1) - std::max(a.x0, b.x0));
    const float h = std::max(0.0f, std::min(a.y1, b.y1) - std::max(a.y0, b.y0));
    return w * h / (area_a + area_b - w * h);
  }

  std::vector<OracleDetection> suppress(std::vector<OracleDetection> boxes) const {
    struct Entry {
      std::size_t index;
      float score;
      std::size_t begin;
    };
    const auto after = [](const Entry& a, const Entry& b) {
      return a.score != b.score ? a.score < b.score : a.index > b.index;
    };
    std::priority_queue<Entry, std::vector<Entry>, decltype(after)> queue(after);
    for (std::size_t i = 0; i < boxes.size(); ++i)
      if (boxes[i].score > op_.threshold) queue.push({i, boxes[i].score, 0});
    const auto most = static_cast<std::size_t>(op_.max_per_class > 0 ? op_.max_per_class : 1 << 30);
    std::vector<OracleDetection> kept;
    while (!queue.empty() && kept.size() < most) {
      Entry next = queue.top();
      queue.pop();
      const float before = next.score;
      bool dropped = false;
      for (std::size_t j = kept.size(); j-- > next.begin && !dropped;) {
        const float iou = iou_of(boxes[next.index].box, kept[j].box);
        dropped = iou > op_.iou;
        if (op_.soft_sigma > 0 && iou <= op_.iou) next.score *= std::exp(-0.5f / op_.soft_sigma * iou * iou);
        if (next.score <= op_.threshold) dropped = true;
      }
      if (dropped) continue;
      next.begin = kept.size();
      if (next.score == before) {
        kept.push_back(boxes[next.index]);
        kept.back().score = next.score;
      } else {
        queue.push(next);
      }
    }
    return kept;
  }

  DetectAnchors op_;
  std::vector<Tensor> maps_;
  std::vector<Geometry> geometry_;
  std::vector<OracleDetection> candidates_;
};

}  // namespace osprey

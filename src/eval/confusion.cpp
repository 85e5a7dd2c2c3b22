#include "eval/confusion.h"

#include <algorithm>
#include <limits>
#include <span>

#include "eval/coco_pairs.h"

namespace osprey {

namespace {

constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

std::size_t index_of(const std::vector<std::int64_t>& ids, std::int64_t id) {
  return static_cast<std::size_t>(std::lower_bound(ids.begin(), ids.end(), id) - ids.begin());
}

std::vector<std::string> labels_of(const CocoAnnotations& truth,
                                   const std::vector<std::int64_t>& category_ids) {
  std::vector<std::string> labels(category_ids.size());
  for (const auto& c : truth.categories) {
    labels[index_of(category_ids, c.id)] = c.name.empty() ? std::to_string(c.id) : c.name;
  }
  labels.push_back("background");
  return labels;
}

// The annotations of one image.
struct Instance {
  std::size_t category;
  bool ignored, crowd, taken;
};

std::size_t best_instance(const std::vector<Instance>& instances, std::span<const double> overlaps,
                          std::size_t predicted, double least) {
  for (const bool ignored : {false, true}) {
    std::size_t best = kNone;
    for (std::size_t g = 0; g < instances.size(); ++g) {
      const auto& candidate = instances[g];
      if (candidate.ignored != ignored || candidate.taken || overlaps[g] < least) continue;
      const bool tied = best != kNone && overlaps[g] == least;
      if (tied && (candidate.category != predicted || instances[best].category == predicted)) continue;
      best = g;
      least = overlaps[g];
    }
    if (best != kNone) return best;
  }
  return kNone;
}

}  // namespace

ConfusionMatrix confusion_matrix(const CocoAnnotations& truth, const CocoResults& results, CocoType type,
                                 const ConfusionOptions& options) {
  const CocoPairs pairs = make_pairs(truth, results, /*use_categories=*/false, options.max_detections);
  const Overlaps overlaps(truth, results, type, default_keypoint_sigmas());
  ConfusionMatrix out;
  out.labels = labels_of(truth, pairs.category_ids);
  const std::size_t size = out.labels.size(), background = size - 1;
  out.counts.resize(size * size);

  std::vector<double> overlap;
  std::vector<Instance> instances;
  for (const Cell& cell : pairs.cells) {
    overlaps.compute(pairs, cell, overlap);
    instances.clear();
    for (auto t = cell.truth_begin; t < cell.truth_end; ++t) {
      const auto& a = truth.annotations[pairs.truths[t]];
      const bool unlabelled = type == CocoType::kKeypoints && a.labelled_keypoints == 0;
      instances.push_back(
          {index_of(pairs.category_ids, a.category_id), a.crowd || unlabelled, a.crowd, false});
    }
    for (std::size_t d = 0; d < cell.found_count(); ++d) {
      const auto& result = results.entries[pairs.found[cell.found_begin + d]];
      if (result.score < options.score_threshold) break;  // they come by descending score
      const std::size_t predicted = index_of(pairs.category_ids, result.category_id);
      const std::span row(overlap.data() + d * instances.size(), instances.size());
      const std::size_t best = best_instance(instances, row, predicted, options.iou);
      if (best == kNone) {
        ++out.counts[background * size + predicted];
        continue;
      }
      auto& instance = instances[best];
      instance.taken = !instance.crowd;
      if (!instance.ignored) ++out.counts[instance.category * size + predicted];
    }
    for (const auto& instance : instances) {
      if (!instance.ignored && !instance.taken) ++out.counts[instance.category * size + background];
    }
  }
  return out;
}

}  // namespace osprey

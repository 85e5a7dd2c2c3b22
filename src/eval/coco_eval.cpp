#include "eval/coco_eval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "core/error.h"
#include "core/parallel.h"
#include "eval/coco_match.h"
#include "eval/coco_pairs.h"

namespace osprey {

namespace {

constexpr std::size_t kMaxArray = std::size_t{1} << 28;  // 2 GiB; 22,000 categories with COCO's parameters

// numpy.linspace, whose rounding decides ties.
std::vector<double> linspace(double first, double last, int count) {
  std::vector<double> out;
  const double step = (last - first) / (count - 1);
  for (int i = 0; i < count; ++i) out.push_back(i * step + first);
  out.back() = last;
  return out;
}

CocoEvalOptions with_defaults(CocoEvalOptions options, CocoType type) {
  const bool keypoints = type == CocoType::kKeypoints;
  if (options.max_detections.empty()) {
    options.max_detections = keypoints ? std::vector{20} : std::vector{1, 10, 100};
  }
  if (options.iou_thresholds.empty()) options.iou_thresholds = linspace(.5, .95, 10);
  if (options.recall_thresholds.empty()) options.recall_thresholds = linspace(0, 1, 101);
  if (options.keypoint_sigmas.empty()) options.keypoint_sigmas = default_keypoint_sigmas();
  if (options.areas.empty()) {
    options.areas = {{"all", 0, 1e10}, {"small", 0, 1024}, {"medium", 1024, 9216}, {"large", 9216, 1e10}};
    if (keypoints) options.areas.erase(options.areas.begin() + 1);
  }
  std::sort(options.max_detections.begin(), options.max_detections.end());
  require(options.max_detections.front() >= 0, "evaluate: a maximum of {} detections",
          options.max_detections.front());
  require(options.iou_thresholds.size() <= kMaxIouThresholds,
          "evaluate: {} IoU thresholds, at most {} are possible", options.iou_thresholds.size(),
          kMaxIouThresholds);
  require(std::is_sorted(options.recall_thresholds.begin(), options.recall_thresholds.end()),
          "evaluate: recall thresholds must ascend");
  return options;
}

// What matching leaves for the curves, by position in CocoPairs::found and area.
struct Matches {
  std::vector<MatchBits> bits;                     // [found, area]
  std::vector<std::vector<std::int64_t>> counted;  // [cell][area], annotations to find
};

Matches match_all(const CocoAnnotations& truth, const CocoResults& results, const CocoPairs& pairs,
                  CocoType type, const CocoEvalOptions& options) {
  const Overlaps overlaps(truth, results, type, options.keypoint_sigmas);
  Matches out;
  out.bits.resize(pairs.found.size() * options.areas.size());
  out.counted.resize(pairs.cells.size());
  parallel_for(static_cast<std::int64_t>(pairs.cells.size()), 64, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> overlap, areas;
    std::vector<TruthOfCell> truths;
    for (auto c = begin; c < end; ++c) {
      const Cell& cell = pairs.cells[c];
      truths.clear();
      for (auto t = cell.truth_begin; t < cell.truth_end; ++t) {
        const auto& annotation = truth.annotations[pairs.truths[t]];
        const bool unlabelled = type == CocoType::kKeypoints && annotation.labelled_keypoints == 0;
        truths.push_back(
            {annotation.area, annotation.crowd, annotation.crowd || unlabelled, annotation.id == 0});
      }
      areas.clear();
      for (auto f = cell.found_begin; f < cell.found_end; ++f)
        areas.push_back(overlaps.area_of(pairs.found[f]));
      overlaps.compute(pairs, cell, overlap);
      out.counted[c].resize(options.areas.size());
      match_cell(truths, areas, overlap, options.iou_thresholds, options.areas,
                 out.bits.data() + cell.found_begin * options.areas.size(), out.counted[c].data());
    }
  });
  return out;
}

// The results of one category over all images by descending score; images in ascending order of id break
// ties.
struct Ranked {
  std::uint32_t position;  // in CocoPairs::found
  std::uint32_t rank;      // within its image
  double score;
};

std::vector<Ranked> rank(const CocoResults& results, const CocoPairs& pairs, std::span<const Cell> cells) {
  std::vector<Ranked> ranked;
  for (const auto& cell : cells) {
    for (auto f = cell.found_begin; f < cell.found_end; ++f) {
      ranked.push_back({static_cast<std::uint32_t>(f), static_cast<std::uint32_t>(f - cell.found_begin),
                        results.entries[pairs.found[f]].score});
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const Ranked& a, const Ranked& b) { return a.score > b.score; });
  return ranked;
}

// A curve at the points where it rises; between them recall stands and precision falls.
struct CurvePoint {
  double recall, precision, score;
};

// One entry [t, :, k, a, m] of precision and scores, and recall, from results in order.
void sample_curve(CocoEval& eval, std::vector<CurvePoint>& curve, double best_score, std::size_t t,
                  std::size_t k, std::size_t a, std::size_t m) {
  eval.recall[eval.recall_index(t, k, a, m)] = curve.empty() ? 0 : curve.back().recall;
  for (std::size_t i = curve.size(); i-- > 1;) {
    curve[i - 1].precision = std::max(curve[i - 1].precision, curve[i].precision);
  }
  std::size_t at = 0;
  for (std::size_t r = 0; r < eval.recall_thresholds.size(); ++r) {
    const double wanted = eval.recall_thresholds[r];
    const auto index = eval.precision_index(t, r, k, a, m);
    while (at < curve.size() && curve[at].recall < wanted) ++at;
    const bool reached = at < curve.size();
    eval.precision[index] = reached ? curve[at].precision : 0;
    eval.scores[index] = reached ? curve[at].score : 0;
    // Recall 0 is reached by the first result, right, wrong or ignored.
    if (wanted <= 0) eval.scores[index] = best_score;
  }
}

void accumulate(CocoEval& eval, std::span<const Ranked> ranked, const Matches& matches, std::size_t k,
                std::size_t a, std::int64_t counted) {
  const std::size_t areas = eval.areas.size();
  std::vector<CurvePoint> curve;
  for (std::size_t m = 0; m < eval.max_detections.size(); ++m) {
    const auto most = static_cast<std::uint32_t>(eval.max_detections[m]);
    const auto first =
        std::find_if(ranked.begin(), ranked.end(), [&](const Ranked& r) { return r.rank < most; });
    const double best_score = first == ranked.end() ? 0 : first->score;
    for (std::size_t t = 0; t < eval.iou_thresholds.size(); ++t) {
      curve.clear();
      double right = 0, wrong = 0;
      for (const auto& result : ranked) {
        const MatchBits bits = matches.bits[result.position * areas + a];
        if (result.rank >= most || (bits.ignored >> t & 1) != 0) continue;
        if ((bits.matched >> t & 1) == 0) {
          ++wrong;
          continue;
        }
        ++right;
        curve.push_back({right / static_cast<double>(counted),
                         right / (wrong + right + std::numeric_limits<double>::epsilon()), result.score});
      }
      sample_curve(eval, curve, best_score, t, k, a, m);
    }
  }
}

// The cells of each category index.
std::vector<std::span<const Cell>> cells_by_category(const CocoPairs& pairs, std::size_t categories) {
  std::vector<std::span<const Cell>> out(categories);
  const std::span<const Cell> all(pairs.cells);
  for (std::size_t begin = 0; begin < all.size();) {
    std::size_t end = begin;
    while (end < all.size() && all[end].category == all[begin].category) ++end;
    out[all[begin].category] = all.subspan(begin, end - begin);
    begin = end;
  }
  return out;
}

// The mean over what is defined; -1 where nothing is.
class Mean {
 public:
  void add(double value) {
    if (!(value > -1)) return;
    sum_ += value;
    ++count_;
  }
  double value() const { return count_ == 0 ? -1 : sum_ / static_cast<double>(count_); }

 private:
  double sum_ = 0;
  std::int64_t count_ = 0;
};

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

double mean_precision(const CocoEval& eval, std::size_t only_k, std::optional<double> iou, std::size_t a,
                      std::size_t m) {
  Mean mean;
  for (std::size_t t = 0; t < eval.iou_thresholds.size(); ++t) {
    if (iou && eval.iou_thresholds[t] != *iou) continue;
    for (std::size_t r = 0; r < eval.recall_thresholds.size(); ++r) {
      for (std::size_t k = 0; k < eval.category_ids.size(); ++k) {
        if (only_k == kAll || k == only_k) mean.add(eval.precision[eval.precision_index(t, r, k, a, m)]);
      }
    }
  }
  return mean.value();
}

double mean_recall(const CocoEval& eval, std::optional<double> iou, std::size_t a, std::size_t m) {
  Mean mean;
  for (std::size_t t = 0; t < eval.iou_thresholds.size(); ++t) {
    if (iou && eval.iou_thresholds[t] != *iou) continue;
    for (std::size_t k = 0; k < eval.category_ids.size(); ++k)
      mean.add(eval.recall[eval.recall_index(t, k, a, m)]);
  }
  return mean.value();
}

void summarise_classes(CocoEval& eval, const CocoAnnotations& truth, const CocoPairs& pairs,
                       const Matches& matches) {
  const std::size_t last = eval.max_detections.size() - 1;
  for (std::size_t k = 0; k < eval.category_ids.size(); ++k) {
    ClassSummary& summary = eval.classes.emplace_back();
    summary.id = eval.category_ids[k];
    summary.ap = mean_precision(eval, k, std::nullopt, 0, last);
    summary.ap50 = mean_precision(eval, k, .5, 0, last);
    summary.ap75 = mean_precision(eval, k, .75, 0, last);
  }
  for (const auto& category : truth.categories) {
    const auto at = std::lower_bound(eval.category_ids.begin(), eval.category_ids.end(), category.id);
    eval.classes[static_cast<std::size_t>(at - eval.category_ids.begin())].name = category.name;
  }
  for (std::size_t c = 0; c < pairs.cells.size(); ++c) {
    ClassSummary& summary = eval.classes[pairs.cells[c].category];
    summary.instances += matches.counted[c][0];
    summary.images += matches.counted[c][0] != 0;
  }
}

}  // namespace

std::string_view name_of(CocoType type) {
  switch (type) {
    case CocoType::kBbox:
      return "bbox";
    case CocoType::kSegm:
      return "segm";
    case CocoType::kKeypoints:
      return "keypoints";
  }
  return "";
}

CocoType coco_type_from_name(std::string_view name) {
  for (const auto type : {CocoType::kBbox, CocoType::kSegm, CocoType::kKeypoints}) {
    if (name == name_of(type)) return type;
  }
  fail(ErrorCode::kUsage, "evaluation type \"{}\": expected bbox, segm or keypoints", name);
}

std::vector<SummaryLine> summary_lines(const CocoEval& eval) {
  const auto& most = eval.max_detections;
  const auto pick = [&](std::size_t i) { return most[std::min(i, most.size() - 1)]; };
  std::vector<SummaryLine> lines;
  const auto add = [&](bool precision, std::optional<double> iou, std::string_view area, int detections) {
    const auto a =
        std::find_if(eval.areas.begin(), eval.areas.end(), [&](const auto& r) { return r.label == area; });
    const auto m = std::find(most.begin(), most.end(), detections);
    double value = -1;
    if (a != eval.areas.end() && m != most.end()) {
      const auto ai = static_cast<std::size_t>(a - eval.areas.begin());
      const auto mi = static_cast<std::size_t>(m - most.begin());
      value = precision ? mean_precision(eval, kAll, iou, ai, mi) : mean_recall(eval, iou, ai, mi);
    }
    lines.push_back({precision, iou, std::string(area), detections, value});
  };
  if (eval.type == CocoType::kKeypoints) {
    for (const bool precision : {true, false}) {
      add(precision, {}, "all", 20);
      add(precision, .5, "all", 20);
      add(precision, .75, "all", 20);
      add(precision, {}, "medium", 20);
      add(precision, {}, "large", 20);
    }
    return lines;
  }
  add(true, {}, "all", 100);  // 100 whatever the option says, as in COCO's code
  add(true, .5, "all", pick(2));
  add(true, .75, "all", pick(2));
  for (const auto area : {"small", "medium", "large"}) add(true, {}, area, pick(2));
  for (const std::size_t i : {0, 1, 2}) add(false, {}, "all", pick(i));
  for (const auto area : {"small", "medium", "large"}) add(false, {}, area, pick(2));
  return lines;
}

CocoEval evaluate(const CocoAnnotations& truth, const CocoResults& results, CocoType type,
                  const CocoEvalOptions& given) {
  const CocoEvalOptions options = with_defaults(given, type);
  const CocoPairs pairs = make_pairs(truth, results, options.use_categories, options.max_detections.back());
  const Matches matches = match_all(truth, results, pairs, type, options);

  CocoEval eval;
  eval.type = type;
  eval.iou_thresholds = options.iou_thresholds;
  eval.recall_thresholds = options.recall_thresholds;
  eval.category_ids = options.use_categories ? pairs.category_ids : std::vector<std::int64_t>{-1};
  eval.areas = options.areas;
  eval.max_detections = options.max_detections;
  const std::size_t areas = eval.areas.size(), categories = eval.category_ids.size();
  const std::size_t recalls = eval.iou_thresholds.size() * categories * areas * eval.max_detections.size();
  require(recalls * eval.recall_thresholds.size() <= kMaxArray,
          "evaluate: {} categories make arrays of more than {} numbers; list only those that are used",
          categories, kMaxArray);
  eval.recall.assign(recalls, -1);
  eval.precision.assign(recalls * eval.recall_thresholds.size(), -1);
  eval.scores = eval.precision;

  const auto cells = cells_by_category(pairs, categories);
  parallel_for(static_cast<std::int64_t>(categories), 1, [&](std::int64_t k, std::int64_t) {
    const auto ranked = rank(results, pairs, cells[k]);
    for (std::size_t a = 0; a < areas; ++a) {
      std::int64_t counted = 0;
      for (const auto& cell : cells[k])
        counted += matches.counted[static_cast<std::size_t>(&cell - pairs.cells.data())][a];
      if (counted != 0) accumulate(eval, ranked, matches, static_cast<std::size_t>(k), a, counted);
    }
  });

  if (options.use_categories) summarise_classes(eval, truth, pairs, matches);
  for (const auto& line : summary_lines(eval)) eval.stats.push_back(line.value);
  return eval;
}

}  // namespace osprey

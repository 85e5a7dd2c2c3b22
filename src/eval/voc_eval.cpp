#include "eval/voc_eval.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <tuple>

#include "core/error.h"

namespace osprey {

namespace {

constexpr int kMaxLabel = 100000;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

enum class Verdict { kWrong, kRight, kNeither };

// The overlap of boxes that are widened twice: once by the evaluator, once by the overlap itself.
float overlap(std::array<float, 4> a, std::array<float, 4> b) {
  for (auto* box : {&a, &b}) {
    (*box)[2] += 1;
    (*box)[3] += 1;
  }
  const auto area = [](const std::array<float, 4>& r) { return (r[2] - r[0] + 1) * (r[3] - r[1] + 1); };
  const float w = std::max(std::min(a[2], b[2]) - std::max(a[0], b[0]) + 1, 0.f);
  const float h = std::max(std::min(a[3], b[3]) - std::max(a[1], b[1]) + 1, 0.f);
  return w * h / (area(a) + area(b) - w * h);
}

// The annotations of one class in one image.
struct Instances {
  std::vector<const VocTruth*> truths;
  std::vector<bool> taken;

  Verdict judge(const VocDetection& detection, float threshold) {
    std::size_t best = 0;
    float best_overlap = -1;
    for (std::size_t i = 0; i < truths.size(); ++i) {
      const float value = overlap(detection.box, truths[i]->box);
      if (value > best_overlap) {
        best = i;
        best_overlap = value;
      }
    }
    if (truths.empty() || best_overlap < threshold) return Verdict::kWrong;
    const bool was_taken = taken[best];
    taken[best] = true;
    if (truths[best]->difficult) return Verdict::kNeither;
    return was_taken ? Verdict::kWrong : Verdict::kRight;
  }
};

double or_zero(double value) { return std::isnan(value) ? 0 : value; }

double eleven_point_ap(const VocClass& c) {
  double ap = 0;
  for (int i = 0; i <= 10; ++i) {
    double best = 0;
    for (std::size_t j = 0; j < c.recall.size(); ++j) {
      if (c.recall[j] >= i * .1) best = std::max(best, or_zero(c.precision[j]));
    }
    ap += best / 11;
  }
  return ap;
}

double area_ap(const VocClass& c) {
  double ap = 0, envelope = 0;
  for (std::size_t j = c.recall.size(); j-- > 0;) {
    envelope = std::max(envelope, or_zero(c.precision[j]));
    ap += (c.recall[j] - (j == 0 ? 0 : c.recall[j - 1])) * envelope;
  }
  return ap;
}

}  // namespace

VocEval evaluate_voc(std::span<const VocTruth> truths, std::span<const VocDetection> found,
                     const VocOptions& options) {
  int labels = 0;
  std::map<std::pair<int, int>, Instances> instances;  // by label, image
  const auto note = [&](int label) {
    require(label >= 0 && label < kMaxLabel, "evaluate_voc: label {} is not within 0 and {}", label,
            kMaxLabel - 1);
    labels = std::max(labels, label + 1);
  };
  for (const auto& truth : truths) {
    note(truth.label);
    Instances& of_image = instances[{truth.label, truth.image}];
    of_image.truths.push_back(&truth);
    of_image.taken.push_back(false);
  }
  std::vector<const VocDetection*> ranked;
  for (const auto& detection : found) {
    note(detection.label);
    ranked.push_back(&detection);
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const VocDetection* a, const VocDetection* b) {
    return std::tuple(a->label, -a->score, a->image) < std::tuple(b->label, -b->score, b->image);
  });

  std::vector<std::int64_t> to_find(static_cast<std::size_t>(labels));
  for (const auto& truth : truths) to_find[static_cast<std::size_t>(truth.label)] += !truth.difficult;

  VocEval eval;
  eval.classes.resize(static_cast<std::size_t>(labels));
  std::vector<std::int64_t> right(eval.classes.size()), wrong(eval.classes.size());
  for (const auto* detection : ranked) {
    const auto label = static_cast<std::size_t>(detection->label);
    const Verdict verdict = instances[{detection->label, detection->image}].judge(*detection, options.iou);
    right[label] += verdict == Verdict::kRight;
    wrong[label] += verdict == Verdict::kWrong;
    const auto counted = static_cast<double>(right[label] + wrong[label]);
    VocClass& c = eval.classes[label];
    c.precision.push_back(counted == 0 ? kNan : static_cast<double>(right[label]) / counted);
    if (to_find[label] != 0) {
      c.recall.push_back(static_cast<double>(right[label]) / static_cast<double>(to_find[label]));
    }
  }

  double sum = 0;
  int defined = 0;
  for (std::size_t label = 0; label < eval.classes.size(); ++label) {
    VocClass& c = eval.classes[label];
    c.ap = to_find[label] == 0 ? kNan : options.eleven_points ? eleven_point_ap(c) : area_ap(c);
    if (std::isnan(c.ap)) continue;
    sum += c.ap;
    ++defined;
  }
  eval.mean_ap = defined == 0 ? kNan : sum / defined;
  return eval;
}

}  // namespace osprey

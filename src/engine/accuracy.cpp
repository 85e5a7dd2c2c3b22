#include "engine/accuracy.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "engine/runtime.h"
#include "eval/categories.h"
#include "eval/coco_eval.h"
#include "eval/detections_io.h"
#include "osprey/version.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

constexpr double kPairIou = 0.5;
constexpr std::size_t kMostChecked = 16, kMostAnnotated = 128, kFewToSplit = 8;
constexpr std::size_t kParts = 16;  // of the annotated photos: every kParts-th is of one part

double overlap(const Box& a, const Box& b) {
  const double w = std::min(a.x1, b.x1) - std::max(a.x0, b.x0),
               h = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
  const double shared = w > 0 && h > 0 ? w * h : 0;
  const double all = static_cast<double>(a.area()) + b.area() - shared;
  return all > 0 ? shared / all : 0;
}

double weight(const Detection& d, bool logits) {
  return logits ? 1 / (1 + std::exp(-double{d.score})) : std::max(double{d.score}, 0.0);
}

double total(const Detections& detections, bool logits) {
  double out = 0;
  for (const Detection& d : detections.items) out += weight(d, logits);
  return out;
}

// The scores that two photos' detections share.
double shared(const Detections& before, const Detections& after, bool logits) {
  std::vector<bool> taken(after.items.size(), false);
  double out = 0;
  for (const Detection& a : before.items) {
    double best = kPairIou;
    std::size_t partner = after.items.size();
    for (std::size_t j = 0; j < after.items.size(); ++j) {
      if (taken[j] || after.items[j].class_index != a.class_index) continue;
      if (const double iou = overlap(a.box, after.items[j].box); iou > best) best = iou, partner = j;
    }
    if (partner == after.items.size()) continue;
    taken[partner] = true;
    out += best * std::min(weight(a, logits), weight(after.items[partner], logits));
  }
  return out;
}

bool readable(const fs::path& file) {
  try {
    read_image(file);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::vector<fs::path> spread(const std::vector<fs::path>& photos, std::size_t most) {
  if (photos.size() <= most) return photos;
  std::vector<fs::path> out;
  for (std::size_t i = 0; i < most; ++i) out.push_back(photos[i * photos.size() / most]);
  return out;
}

// Which photos count: all, or those of other parts than `left_out`.
bool counts(std::size_t photo, std::size_t left_out) { return photo % kParts != left_out; }
constexpr std::size_t kNone = kParts;

CocoAnnotations only(const CocoAnnotations& truth, const std::set<std::int64_t>& images) {
  CocoAnnotations out = truth;
  std::erase_if(out.images, [&](const CocoImage& image) { return !images.contains(image.id); });
  std::erase_if(out.annotations, [&](const CocoAnnotation& a) { return !images.contains(a.image_id); });
  return out;
}

}  // namespace

double standard_error(std::span<const double> without_each_part) {
  if (without_each_part.size() < 2) return 0;
  const auto parts = static_cast<double>(without_each_part.size());
  double mean = 0, squares = 0;
  for (const double v : without_each_part) mean += v / parts;
  for (const double v : without_each_part) squares += (v - mean) * (v - mean);
  return std::sqrt((parts - 1) / parts * squares);
}

double detection_change(std::span<const Detections> before, std::span<const Detections> after, bool logits) {
  double both = 0, all = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    both += shared(before[i], after[i], logits);
    all += total(before[i], logits) + total(after[i], logits);
  }
  return all > 0 ? 1 - 2 * both / all : 0;
}

PhotoSplit split_photos(const std::vector<fs::path>& photos) {
  if (photos.size() < kFewToSplit) return {photos, photos};
  const std::size_t every = std::max(kFewToSplit, (photos.size() + kMostChecked - 1) / kMostChecked);
  PhotoSplit out;
  for (std::size_t i = 0; i < photos.size(); ++i)
    (i % every == every - 1 ? out.check : out.calibration).push_back(photos[i]);
  return out;
}

AccuracyCheck::AccuracyCheck(const Model& model, std::vector<fs::path> check,
                             const std::vector<fs::path>& annotated, const fs::path& annotations, int threads)
    : model_(model), threads_(threads), logits_(model.graph.find("proposal_logits") != kNoValue) {
  std::copy_if(check.begin(), check.end(), std::back_inserter(check_), readable);
  before_ = detect(model.graph, check_);
  if (annotations.empty()) return;
  const CocoAnnotations truth =
      load_coco_annotations(annotations, {.masks = model.graph.find("mask_ends") != kNoValue});
  category_ids_ = match_categories(model.categories, truth);
  std::map<std::string, std::int64_t> ids;
  for (const CocoImage& image : truth.images)
    ids.emplace(fs::path(image.file_name).filename().string(), image.id);
  std::vector<fs::path> known;
  for (const fs::path& photo : annotated)
    if (ids.contains(photo.filename().string())) known.push_back(photo);
  require(!known.empty(), "{}: names none of the {} photos", annotations.string(), annotated.size());
  annotated_ = spread(known, kMostAnnotated);
  for (const fs::path& photo : annotated_) image_ids_.push_back(ids.at(photo.filename().string()));
  const auto of = [&](std::size_t left_out) {
    std::set<std::int64_t> used;
    for (std::size_t i = 0; i < image_ids_.size(); ++i)
      if (counts(i, left_out)) used.insert(image_ids_[i]);
    return only(truth, used);
  };
  truths_.push_back(of(kNone));
  if (annotated_.size() >= kParts)
    for (std::size_t part = 0; part < kParts; ++part) truths_.push_back(of(part));
  ap_before_ = ap(model.graph, true);
}

AccuracyCheck::~AccuracyCheck() = default;

std::vector<Detections> AccuracyCheck::detect(const Graph& graph, const std::vector<fs::path>& photos) const {
  EngineData data{
      {graph, model_.family, model_.description, model_.categories, {}, {}}, kVersion, "cpu", "fp32"};
  const auto engine = LoadedEngine::of(std::move(data), {.threads = threads_}, "int8's check");
  DetectionSession session(engine);
  std::vector<Detections> out;
  for (const fs::path& file : photos) {
    const Image photo = read_image(file);
    const ImageView view = photo;
    std::vector<std::vector<Proposal>> proposals;
    if (engine->needs_proposals()) proposals.push_back(synthetic_proposals(view));
    out.push_back(std::move(session.detect({&view, 1}, {}, nullptr, proposals).front()));
  }
  return out;
}

double AccuracyCheck::change(const Graph& graph, std::vector<Detections>* after) const {
  std::vector<Detections> found = detect(graph, check_);
  const double out = detection_change(before_, found, logits_);
  if (after) *after = std::move(found);
  return out;
}

std::vector<std::vector<double>> AccuracyCheck::ap(const Graph& graph, bool parts) const {
  const std::vector<Detections> found = detect(graph, annotated_);
  std::vector<std::vector<double>> out;
  for (const CocoType type : {CocoType::kBbox, CocoType::kSegm}) {
    if (type == CocoType::kSegm && graph.find("mask_ends") == kNoValue) continue;
    std::vector<double>& of = out.emplace_back();
    for (std::size_t t = 0; t < (parts ? truths_.size() : 1); ++t) {
      CocoResults results{"int8's check", {}};
      for (std::size_t i = 0; i < found.size(); ++i)
        if (counts(i, t == 0 ? kNone : t - 1))
          append_coco_results(found[i], image_ids_[i], category_ids_, type, results);
      of.push_back(evaluate(truths_[t], results, type).stats.front());
    }
  }
  return out;
}

std::vector<double> AccuracyCheck::ap_drops(const Graph& graph, bool parts) const {
  check(has_annotations(), "int8: AP was not asked for");
  std::vector<double> out;
  const std::vector<std::vector<double>> after = ap(graph, parts);
  for (std::size_t type = 0; type < after.size(); ++type) {
    std::vector<double> drops;
    for (std::size_t t = 0; t < after[type].size(); ++t)
      drops.push_back(ap_before_[type][t] - after[type][t]);
    if (out.empty() || drops[0] > out[0]) out = std::move(drops);
  }
  return out;
}

double AccuracyCheck::ap_drop(const Graph& graph) const { return ap_drops(graph, false).front(); }

ApDrop AccuracyCheck::ap_drop_and_error(const Graph& graph) const {
  const std::vector<double> drops = ap_drops(graph, true);
  return {drops.front(), standard_error(std::span(drops).subspan(1))};
}

}  // namespace osprey

#include "engine/accuracy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "engine/runtime.h"
#include "eval/categories.h"
#include "eval/detections_io.h"
#include "osprey/version.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

constexpr double kPairIou = 0.5;
constexpr std::size_t kMostChecked = 16, kFewToSplit = 8;
constexpr std::size_t kParts = kFewestForError;  // of the annotated photos: every kParts-th is of one part

// AP is the mean over each photo as it is and a little brighter. A value that falls on the other side of an
// integer's step spreads, so that much of what AP moves by is chance of roundings, not of photos: twice the
// runs are worth twice the photos. Further copies gain less.
constexpr std::array kGammas{1.0, 0.92};

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

// Which photos count: all, or those of other parts than `left_out`.
bool counts(std::size_t photo, std::size_t left_out) { return photo % kParts != left_out; }
constexpr std::size_t kNone = kParts;

Image with_gamma(Image photo, double gamma) {
  if (gamma == 1) return photo;
  std::array<std::uint8_t, 256> to{};
  for (std::size_t i = 0; i < to.size(); ++i)
    to[i] = static_cast<std::uint8_t>(std::lround(255 * std::pow(static_cast<double>(i) / 255, gamma)));
  for (std::uint8_t& p : photo.pixels) p = to[p];
  return photo;
}

CocoAnnotations only(const CocoAnnotations& truth, const std::set<std::int64_t>& images) {
  CocoAnnotations out = truth;
  std::erase_if(out.images, [&](const CocoImage& image) { return !images.contains(image.id); });
  std::erase_if(out.annotations, [&](const CocoAnnotation& a) { return !images.contains(a.image_id); });
  return out;
}

// Finds what a graph of the model detects, one photo at a time.
class Detector {
 public:
  Detector(const Model& model, const Graph& graph, int threads)
      : engine_(LoadedEngine::of(
            {{graph, model.family, model.description, model.categories, {}, {}}, kVersion, "cpu", "fp32"},
            {.threads = threads}, "int8's check")),
        session_(engine_) {}

  Detections operator()(ImageView photo) {
    std::vector<std::vector<Proposal>> proposals;
    if (engine_->needs_proposals()) proposals.push_back(synthetic_proposals(photo));
    return std::move(session_.detect({&photo, 1}, {}, nullptr, proposals).front());
  }

 private:
  std::shared_ptr<const LoadedEngine> engine_;
  DetectionSession session_;
};

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
  return all > 0 ? std::max(1 - 2 * both / all, 0.0) : 0;
}

PhotoSplit split_photos(const std::vector<fs::path>& photos) {
  if (photos.size() < kFewToSplit) return {photos, photos};
  const std::size_t every = std::max(kFewToSplit, (photos.size() + kMostChecked - 1) / kMostChecked);
  PhotoSplit out;
  for (std::size_t i = 0; i < photos.size(); ++i)
    (i % every == every - 1 ? out.check : out.calibration).push_back(photos[i]);
  return out;
}

void PhotoProgress::say(std::string what) {
  what_ = std::move(what);
  tell();
}

void PhotoProgress::one_more() {
  ++run_;
  tell();
}

void PhotoProgress::tell() const {
  if (progress_)
    progress_(static_cast<double>(run_) / static_cast<double>(std::max(expected_, run_ + 1)), what_);
}

AccuracyCheck::AccuracyCheck(const Model& model, std::vector<fs::path> check,
                             const std::vector<fs::path>& annotated, const fs::path& annotations, int threads,
                             PhotoProgress& progress)
    : model_(model),
      threads_(threads),
      logits_(model.graph.find("proposal_logits") != kNoValue),
      progress_(progress) {
  std::copy_if(check.begin(), check.end(), std::back_inserter(check_), readable);
  Detector detect(model, model.graph, threads);
  progress_.expect(check_.size());
  progress_.say("int8: what fp32 detects");
  for (const fs::path& photo : check_) before_.push_back(detect(read_image(photo))), progress_.one_more();
  if (annotations.empty()) return;
  types_.push_back(CocoType::kBbox);
  if (model.graph.find("mask_ends") != kNoValue) types_.push_back(CocoType::kSegm);
  truth_ = load_coco_annotations(annotations, {.masks = types_.back() == CocoType::kSegm});
  category_ids_ = match_categories(model.categories, truth_);
  std::map<std::string, std::int64_t> ids;
  for (const CocoImage& image : truth_.images)
    ids.emplace(fs::path(image.file_name).filename().string(), image.id);
  for (const fs::path& photo : annotated) {
    const auto id = ids.find(photo.filename().string());
    if (id == ids.end() || !readable(photo)) continue;
    annotated_.push_back(photo);
    image_ids_.push_back(id->second);
  }
  require(!annotated_.empty(), "{}: names none of the {} photos", annotations.string(), annotated.size());
}

AccuracyCheck::~AccuracyCheck() = default;

double AccuracyCheck::change(const Graph& graph, std::vector<Detections>* after) const {
  Detector detect(model_, graph, threads_);
  std::vector<Detections> found;
  for (const fs::path& photo : check_) found.push_back(detect(read_image(photo))), progress_.one_more();
  const double out = detection_change(before_, found, logits_);
  if (after) *after = std::move(found);
  return out;
}

std::size_t AccuracyCheck::runs_for_ap() const { return annotated_.size() * kGammas.size(); }

double AccuracyCheck::ap(const std::vector<Detections>& found, CocoType type, std::size_t left_out) const {
  std::set<std::int64_t> images;
  CocoResults results{"int8's check", {}};
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!counts(i, left_out)) continue;
    images.insert(image_ids_[i]);
    append_coco_results(found[i], image_ids_[i], category_ids_, type, results);
  }
  const CocoEvalOptions only_ap{.max_detections = {100}, .areas = {{"all", 0, 1e10}}};
  return evaluate(only(truth_, images), results, type, only_ap).stats.front();
}

AccuracyCheck::Aps AccuracyCheck::ap(const Graph& graph) const {
  Detector detect(model_, graph, threads_);
  const std::size_t parts = std::min(annotated_.size(), kParts);
  Aps out(types_.size(), std::vector<double>(1 + parts));
  for (const double gamma : kGammas) {
    std::vector<Detections> found;
    for (const fs::path& photo : annotated_)
      found.push_back(detect(with_gamma(read_image(photo), gamma))), progress_.one_more();
    for (std::size_t type = 0; type < types_.size(); ++type)
      for (std::size_t part = 0; part <= parts; ++part)
        out[type][part] += ap(found, types_[type], part == 0 ? kNone : part - 1) / kGammas.size();
  }
  return out;
}

const AccuracyCheck::Aps& AccuracyCheck::ap_before() const {
  if (ap_before_) return *ap_before_;
  ap_before_ = ap(model_.graph);
  for (std::size_t type = 0; type < types_.size(); ++type)
    if (const double value = (*ap_before_)[type][0]; value <= 0)
      bad_input(
          "AP in fp32 ({}) is {} on the {} annotated photos: nothing is left to fall. Are the annotations of "
          "these photos and of the model's classes? A bound that needs none is --max-detection-change",
          name_of(types_[type]), std::max(value, 0.0), annotated_.size());
  return *ap_before_;
}

ApDrop AccuracyCheck::ap_drop(const Graph& graph, double margin) const {
  check(!annotated_.empty(), "int8: AP was not asked for");
  const Aps &before = ap_before(), after = ap(graph);
  std::optional<ApDrop> worst;
  for (std::size_t type = 0; type < types_.size(); ++type) {
    std::vector<double> drops = before[type];
    for (std::size_t part = 0; part < drops.size(); ++part) drops[part] -= after[type][part];
    const ApDrop drop{drops.front(), standard_error(std::span(drops).subspan(1))};
    if (!worst || drop.at_most(margin) > worst->at_most(margin)) worst = drop;
  }
  return *worst;
}

}  // namespace osprey

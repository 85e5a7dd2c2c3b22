#include "engine/int8.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "core/error.h"
#include "engine/accuracy.h"
#include "engine/calibration.h"
#include "engine/devices.h"
#include "engine/int8_speed.h"
#include "engine/mixed_precision.h"

namespace osprey {
namespace {

// Above it, what is detected has little to do with what fp32 detects.
constexpr double kLost = 0.5;
constexpr double kMostMargin = 10;  // standard errors

void check_bounds(const AccuracyOptions& o) {
  if (o.max_ap_drop.has_value() != !o.annotations.empty())
    fail(ErrorCode::kUsage,
         "a bound for the drop of AP (--max-ap-drop) and annotations of the photos "
         "(--calib-annotations) go together");
  for (const auto& bound : {o.max_ap_drop, o.max_detection_change})
    if (bound && !(*bound >= 0 && *bound <= 1))
      fail(ErrorCode::kUsage, "a bound of {} is not between 0 and 1", *bound);
  if (!(o.ap_margin >= 0 && o.ap_margin <= kMostMargin))
    fail(ErrorCode::kUsage, "a margin of {} standard errors (--ap-margin) is not between 0 and {}",
         o.ap_margin, kMostMargin);
}

std::string listed(const std::vector<Int8Decision::Tried>& tried) {
  std::string out;
  for (const Int8Decision::Tried& t : tried)
    out += fmt::format("{}{} blocks in 8 bits: AP falls by {:.4f} (standard error {:.4f})",
                       out.empty() ? "" : ", ", t.blocks, t.drop, t.error);
  return out;
}

// How many photos would show a bound for a choice that loses nothing: standard errors fall with the root of
// their number. The drop that was measured is mostly such an error itself, and says little.
double photos_for(const AccuracyBound& bound, const Int8Decision::Tried& tried, std::size_t photos) {
  const double ratio = bound.margin * tried.error / *bound.ap_drop;
  return std::ceil(static_cast<double>(photos) * ratio * ratio);
}

class Planner {
 public:
  Planner(const Model& model, const BuildOptions& options)
      : model_(model),
        options_(options),
        photos_(split_photos(options.calibration_photos)),
        progress_(options.progress) {
    check_bounds(options.accuracy);
    if (parse_device(options.device).cuda) floats_ = Precision::kFp16;
    if (!options_.calibration_photos.empty()) options_.calibration_photos = photos_.calibration;
  }

  Int8Plan run() {
    Calibration calibration = calibrate(model_.graph, options_);
    out_.remarks = std::move(calibration.remarks);
    CalibrationCache& found = calibration.found;
    Quantization plan = quantization_of(found);
    if (floats_ == Precision::kFp16) {
      small_ = sooner_beside_floats(model_.graph, plan, options_.tuning_batch);
      plan.kept = sooner_in_floats(model_.graph);
      plan.kept.insert(small_.begin(), small_.end());
    }
    if (!photos_.check.empty()) start_check();
    const Int8Decision decision = decide(plan, found.decision);
    out_.quantization = without(plan, model_.graph, decision.kept);
    describe(found, decision);
    if (check_ && check_->photos().empty()) out_.remarks.push_back("int8: no photo is left to check it on");
    if (check_ && !options_.calibration.cache.empty() && found.decision != decision) {
      found.decision = decision;
      write_cache(options_.calibration.cache, found);
    }
    return std::move(out_);
  }

 private:
  void start_check() {
    std::vector<std::filesystem::path> all = photos_.calibration;
    if (photos_.check != photos_.calibration)
      all.insert(all.end(), photos_.check.begin(), photos_.check.end());
    std::sort(all.begin(), all.end());
    check_.emplace(model_, photos_.check, all, options_.accuracy.annotations, options_.threads, progress_);
  }

  AccuracyBound bound() const {
    const AccuracyOptions& o = options_.accuracy;
    return {o.max_detection_change, o.max_ap_drop, o.ap_margin, o.search_seconds};
  }

  // The blocks to keep, and what int8 then changes.
  Int8Decision decide(const Quantization& plan, const std::optional<Int8Decision>& cached) {
    Int8Decision out{.bound = bound().text()};
    if (options_.accuracy.max_ap_drop) out.annotations = hash_of_file(options_.accuracy.annotations);
    const std::string why_not = cached ? misfit(*cached, out, plan) : "";
    const bool known = cached && why_not.empty();
    if (!known && !out.bound.empty()) {
      if (!check_)
        fail(ErrorCode::kUsage,
             "{}: is checked on photos: name them (--calib-input), or a cache that was made with the same "
             "bound, for this device and batch{}",
             out.bound, why_not);
      out = searched(plan, std::move(out));
    }
    if (known) out = *cached;
    if (check_) compare(without(plan, model_.graph, out.kept), out);
    return out;
  }

  // Why a cached decision is not the one that is wanted; empty where it is. A GPU leaves layers in floats for
  // their speed, and the more the smaller its batch: where that alone held the bound, it need not hold with
  // those layers in int8.
  std::string misfit(const Int8Decision& cached, const Int8Decision& wanted, const Quantization& plan) const {
    if (cached.bound != wanted.bound)
      return cached.bound.empty() ? ": this one has none" : ": this one's is " + cached.bound;
    if (cached.annotations.empty() && !wanted.annotations.empty())
      return ": this one does not say with which annotations it was made";
    if (cached.annotations != wanted.annotations) return ": this one was made with other annotations";
    if (wanted.bound.empty() || !cached.searched ||
        in_integers(without(plan, model_.graph, cached.kept)) <= *cached.searched)
      return "";
    return ": this one was made with fewer layers in 8 bits";
  }

  Int8Decision searched(const Quantization& plan, Int8Decision wanted) const {
    Int8Decision out = osprey::decide(model_.graph, plan, *check_, bound());
    out.annotations = std::move(wanted.annotations);
    out.layers = out.searched = in_integers(without(plan, model_.graph, out.kept));
    out.annotated = check_->annotated();
    return out;
  }

  void compare(const Quantization& plan, Int8Decision& decision) {
    progress_.expect(check_->photos().size());
    progress_.say("int8: beside fp32");
    const Graph graph = quantized(model_.graph, plan);
    Int8Report& report = out_.report;
    report.photos = check_->photos();
    report.before = check_->before();
    decision.change = report.change = check_->change(graph, &report.after);
    decision.photos = report.photos.size();
    const bool measured = decision.ap_drop && decision.layers == in_integers(plan);
    decision.layers = in_integers(plan);
    if (options_.accuracy.max_ap_drop && !measured) {
      const ApDrop drop = decision.layers == 0 ? ApDrop{} : check_->ap_drop(graph, bound().margin);
      decision.ap_drop = drop.value, decision.ap_error = drop.error;
      decision.annotated = check_->annotated();
    }
    if (report.change <= kLost || options_.accuracy.force) return;
    fail(
        ErrorCode::kUsage,
        "int8 loses the model's detections: they change by {:.3f} on {} photos (0: not at all, 1: nothing is "
        "left). Calibrate on photos like those to come, keep layers in floats (--max-detection-change 0.05), "
        "or "
        "build it nevertheless (--force)",
        report.change, report.photos.size());
  }

  std::size_t in_integers(const Quantization& plan) const {
    std::size_t out = 0;
    for (const Block& block : blocks_of(model_.graph, plan))
      out += static_cast<std::size_t>(
          std::count_if(block.values.begin(), block.values.end(),
                        [&](const std::string& value) { return !plan.kept.contains(value); }));
    return out;
  }

  void describe(const CalibrationCache& found, const Int8Decision& decision) {
    Int8Report& report = out_.report;
    for (const Block& block : blocks_of(model_.graph, quantization_of(found))) {
      for (const std::string& value : block.values) {
        const auto it = found.values.find(value);
        const CalibratedValue v = it == found.values.end() ? CalibratedValue{} : it->second;
        report.layers.push_back(
            {.value = value,
             .block = block.name,
             .precision = out_.quantization.kept.contains(value) ? std::string(name_of(floats_)) : "int8",
             .least = v.least,
             .largest = v.largest,
             .limit = v.limit,
             .saturated = v.saturated,
             .sqnr = v.sqnr});
      }
    }
    std::string kept;
    for (const Int8Decision::Kept& k : decision.kept) {
      report.kept.emplace_back(k.block, k.change);
      kept += fmt::format("{}{} (changes {:.4f} alone)", kept.empty() ? "" : ", ", k.block, k.change);
    }
    const std::size_t in_int8 = in_integers(out_.quantization);
    out_.metadata["int8 calibration"] =
        fmt::format("{}, {} photos", found.key.method, found.key.photos.size());
    out_.metadata["int8 layers"] = fmt::format("{} of {}", in_int8, report.layers.size());
    if (!small_.empty())
      out_.metadata["int8 left fp16"] =
          fmt::format("{} layers, not faster in 8 bits at batch {}", small_.size(), options_.tuning_batch);
    if (!decision.bound.empty())
      out_.metadata[fmt::format("int8 kept {}", name_of(floats_))] =
          fmt::format("for {}: {}", decision.bound, kept.empty() ? "nothing" : kept);
    for (const Int8Decision::Tried& t : decision.tried)
      report.choices.push_back({t.blocks, t.drop, t.error, t.holds});
    if (!decision.tried.empty()) out_.metadata["int8 tried"] = listed(decision.tried);
    if (decision.photos > 0 && decision.layers == in_int8)
      out_.metadata["int8 beside fp32"] = verdict(decision);
    for (const auto& [key, value] : out_.metadata) out_.remarks.push_back(fmt::format("{}: {}", key, value));
    if (in_int8 == 0)
      out_.remarks.push_back(fmt::format("warning: no layer is in 8 bits, this is an {} engine: {}",
                                         name_of(floats_), why_in_floats(decision)));
  }

  // Of all layers: why, and what to do.
  std::string why_in_floats(const Int8Decision& decision) const {
    if (out_.report.layers.empty())
      return fmt::format("the model has none that could be. --precision {} gives the same", name_of(floats_));
    const bool few = decision.annotated < kFewestForError;
    if (!decision.kept.empty() && bound().shows_ap() && (few || !decision.tried.empty()))
      return why_not_shown(decision);
    if (!decision.kept.empty())
      return fmt::format("{} holds with none. Allow more, or build with --precision {}", decision.bound,
                         name_of(floats_));
    return fmt::format(
        "none would be faster so at batch {}. Give the --batch that you run if it is larger; "
        "else --precision {} is the fastest",
        options_.tuning_batch, name_of(floats_));
  }

  std::string why_not_shown(const Int8Decision& decision) const {
    const std::string others =
        "allow a larger --max-ap-drop, take the photos as they are (--ap-margin 0) or bound detections "
        "instead (--max-detection-change)";
    if (decision.annotated < kFewestForError)
      return fmt::format("{} takes {} annotated photos to be shown, and these are {}. Annotate more, {}",
                         decision.bound, kFewestForError, decision.annotated, others);
    return fmt::format("{} cannot be shown with {} annotated photos. {}; {}", decision.bound,
                       decision.annotated, more_photos(decision), others);
  }

  std::string more_photos(const Int8Decision& decision) const {
    const Int8Decision::Tried &all = decision.tried.front(), &fewest = decision.tried.back();
    if (*bound().ap_drop == 0) return "No number of photos shows that nothing is lost";
    if (all.drop - bound().margin * all.error > *bound().ap_drop)
      return fmt::format("With {} blocks in 8 bits AP does fall by more", all.blocks);
    const auto needed = [&](const Int8Decision::Tried& t) {
      return photos_for(bound(), t, decision.annotated);
    };
    std::string out = fmt::format("Where 8 bits lose nothing, it takes about {:.0f} photos for {} blocks",
                                  needed(all), all.blocks);
    if (fewest.blocks != all.blocks) out += fmt::format(", {:.0f} for {}", needed(fewest), fewest.blocks);
    return out;
  }

  static std::string verdict(const Int8Decision& decision) {
    std::string out =
        fmt::format("detections change by {:.4f} on {} photos (0: not at all, 1: nothing alike)",
                    decision.change, decision.photos);
    if (decision.ap_drop)
      out += fmt::format(", AP falls by {:.4f} (standard error {:.4f}) on {} annotated ones",
                         *decision.ap_drop, decision.ap_error, decision.annotated);
    return out;
  }

  const Model& model_;
  BuildOptions options_;
  PhotoSplit photos_;
  Precision floats_ = Precision::kFp32;  // of the layers that are not in int8
  std::set<std::string> small_;          // values of layers that 8 bits would not make faster
  PhotoProgress progress_;
  std::optional<AccuracyCheck> check_;
  Int8Plan out_;
};

}  // namespace

Int8Plan plan_int8(const Model& model, const BuildOptions& options) { return Planner(model, options).run(); }

}  // namespace osprey

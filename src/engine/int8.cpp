#include "engine/int8.h"

#include <algorithm>
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

void check_bounds(const AccuracyOptions& o) {
  if (o.max_ap_drop.has_value() != !o.annotations.empty())
    fail(ErrorCode::kUsage,
         "a bound for the drop of AP (--max-ap-drop) and annotations of the photos "
         "(--calib-annotations) go together");
  for (const auto& bound : {o.max_ap_drop, o.max_detection_change})
    if (bound && !(*bound >= 0 && *bound <= 1))
      fail(ErrorCode::kUsage, "a bound of {} is not between 0 and 1", *bound);
}

class Planner {
 public:
  Planner(const Model& model, const BuildOptions& options)
      : model_(model), options_(options), photos_(split_photos(options.calibration_photos)) {
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
    if (options_.progress) options_.progress(0, "int8: what fp32 detects");
    std::vector<std::filesystem::path> all = photos_.calibration;
    if (photos_.check != photos_.calibration)
      all.insert(all.end(), photos_.check.begin(), photos_.check.end());
    std::sort(all.begin(), all.end());
    check_.emplace(model_, photos_.check, all, options_.accuracy.annotations, options_.threads);
  }

  // The blocks to keep, and what int8 then changes.
  Int8Decision decide(const Quantization& plan, const std::optional<Int8Decision>& cached) {
    const AccuracyBound bound{options_.accuracy.max_detection_change, options_.accuracy.max_ap_drop,
                              options_.accuracy.search_seconds};
    Int8Decision out{.bound = bound.text()};
    const bool known = cached && holds(*cached, out.bound, plan);
    if (known) out = *cached;
    if (!check_) {
      if (!known && !out.bound.empty())
        fail(ErrorCode::kUsage,
             "{}: is checked on photos: name them (--calib-input), or a cache that was made with the same "
             "bound, for this device and batch",
             out.bound);
      return out;
    }
    if (!known && !out.bound.empty()) out = searched(plan, bound);
    compare(without(plan, model_.graph, out.kept), out);
    return out;
  }

  // A GPU leaves layers in floats for their speed, and the more the smaller its batch: where that alone held
  // the bound, it need not hold with those layers in int8.
  bool holds(const Int8Decision& cached, const std::string& bound, const Quantization& plan) const {
    if (cached.bound != bound) return false;
    return bound.empty() || !cached.searched ||
           in_integers(without(plan, model_.graph, cached.kept)) <= *cached.searched;
  }

  Int8Decision searched(const Quantization& plan, const AccuracyBound& bound) const {
    Int8Decision out = osprey::decide(model_.graph, plan, *check_, bound, options_.progress);
    out.searched = in_integers(without(plan, model_.graph, out.kept));
    return out;
  }

  void compare(const Quantization& plan, Int8Decision& decision) {
    if (options_.progress) options_.progress(0.9, "int8: beside fp32");
    const Graph graph = quantized(model_.graph, plan);
    Int8Report& report = out_.report;
    report.photos = check_->photos();
    report.before = check_->before();
    decision.change = report.change = check_->change(graph, &report.after);
    decision.photos = report.photos.size();
    decision.layers = in_integers(plan);
    if (check_->has_annotations()) {
      const ApDrop drop = check_->ap_drop_and_error(graph);
      decision.ap_drop = drop.value, decision.ap_error = drop.error;
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
    if (decision.photos > 0 && decision.layers == in_int8)
      out_.metadata["int8 beside fp32"] = verdict(decision);
    for (const auto& [key, value] : out_.metadata) out_.remarks.push_back(fmt::format("{}: {}", key, value));
    if (in_int8 == 0)
      out_.remarks.push_back(fmt::format("warning: no layer is in 8 bits, this is an {} engine: {}",
                                         name_of(floats_), why_in_floats(decision)));
    if (const auto& bound = options_.accuracy.max_ap_drop; bound && decision.ap_error > *bound)
      out_.remarks.push_back(
          fmt::format("warning: a drop of AP of {} on so few photos may be chance (standard error {:.4f}): "
                      "see what osprey eval says on more of them",
                      *bound, decision.ap_error));
  }

  // Of all layers: why, and what to do.
  std::string why_in_floats(const Int8Decision& decision) const {
    if (out_.report.layers.empty())
      return fmt::format("the model has none that could be. --precision {} gives the same", name_of(floats_));
    if (!decision.kept.empty())
      return fmt::format("{} holds with none. Allow more, or build with --precision {}", decision.bound,
                         name_of(floats_));
    return fmt::format(
        "none would be faster so at batch {}. Give the --batch that you run if it is larger; "
        "else --precision {} is the fastest",
        options_.tuning_batch, name_of(floats_));
  }

  static std::string verdict(const Int8Decision& decision) {
    std::string out =
        fmt::format("detections change by {:.4f} on {} photos (0: not at all, 1: nothing alike)",
                    decision.change, decision.photos);
    if (decision.ap_drop)
      out +=
          fmt::format(", AP falls by {:.4f} (standard error {:.4f})", *decision.ap_drop, decision.ap_error);
    return out;
  }

  const Model& model_;
  BuildOptions options_;
  PhotoSplit photos_;
  Precision floats_ = Precision::kFp32;  // of the layers that are not in int8
  std::set<std::string> small_;          // values of layers that 8 bits would not make faster
  std::optional<AccuracyCheck> check_;
  Int8Plan out_;
};

}  // namespace

Int8Plan plan_int8(const Model& model, const BuildOptions& options) { return Planner(model, options).run(); }

}  // namespace osprey

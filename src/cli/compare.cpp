// osprey compare: whether two engines detect the same things, and where they part if not.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "cli/support/device_flags.h"
#include "cli/support/evaluation.h"
#include "cli/support/inputs.h"
#include "cli/support/progress.h"
#include "cli/support/proposals.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "draw/side_by_side.h"
#include "engine/runtime.h"
#include "eval/agreement.h"
#include "eval/coco_data.h"
#include "eval/detections_io.h"
#include "osprey/draw.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Options {
  std::string first, second, output, annotations, proposals;
  std::vector<std::string> input;
  std::size_t images = 0;
  std::string devices;
  TuningFlags tuning;
  bool layers = false;
  ThresholdFlags thresholds;
};

// The two of "cpu,cuda"; empty: what the engines were built for.
std::pair<std::string, std::string> split_devices(const std::string& text) {
  if (text.empty()) return {};
  const auto comma = text.find(',');
  if (comma == std::string::npos)
    fail(ErrorCode::kUsage, "--devices {}: write one for each engine, like cpu,cuda", text);
  return {text.substr(0, comma), text.substr(comma + 1)};
}

struct Side {
  std::string name;
  std::shared_ptr<const LoadedEngine> engine;
  DetectionSession session;
  ProposalSource proposals;

  Side(const std::string& file, const EngineOptions& options, const std::string& proposal_file)
      : name(fs::path(file).filename().string()), engine(LoadedEngine::open(file, options)), session(engine) {
    if (engine->needs_proposals()) proposals = {proposal_file, file, *engine};
  }

  Detections detect(const fs::path& file, const ImageView& photo, const RunOptions& options) {
    return std::move(session.detect({&photo, 1}, options, nullptr, proposals.of({names_of(file)})).front());
  }
};

struct Departure {
  std::string layer;
  double difference = 0;  // of the largest magnitude
};

// Values that both engines make under one name, in the order in which the first makes them, a few at a time
// so that memory stays small.
std::vector<std::vector<std::string>> shared_values(const Side& a, const Side& b) {
  constexpr std::size_t kTogether = 12;
  std::vector<std::vector<std::string>> out;
  for (const Node& node : a.engine->graph().nodes()) {
    const std::string& name = a.engine->graph().value(node.outputs[0]).name;
    const ValueId other = b.engine->graph().find(name);
    if (other == kNoValue || b.engine->graph().producer(other) == nullptr) continue;
    if (out.empty() || out.back().size() == kTogether) out.emplace_back();
    out.back().push_back(name);
  }
  return out;
}

// Of the largest magnitude of `a`. Infinite where only one side is a number: a layer that overflows departs.
double relative_difference(const Tensor& a, const Tensor& b) {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  if (a.shape() != b.shape()) return kInfinite;
  const Tensor wide_a = a.to_f32(), wide_b = b.to_f32();
  const auto x = wide_a.values<float>(), y = wide_b.values<float>();
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(x[i]) == std::bit_cast<std::uint32_t>(y[i])) continue;
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return kInfinite;
    difference = std::max(difference, std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
  }
  for (const float v : x)
    if (std::isfinite(v)) largest = std::max(largest, static_cast<double>(std::abs(v)));
  return largest > 0 ? difference / largest : difference;
}

// A photo and the file it came from.
struct Photo {
  fs::path file;
  Image pixels;
};

std::map<std::string, Tensor> values_of(Side& side, const Photo& photo,
                                        const std::vector<std::string>& names) {
  std::map<std::string, Tensor> out;
  RunOptions options{.wanted = names};
  options.observe = [&](const std::string& name, const Tensor& value) { out[name] = value.copied(); };
  side.detect(photo.file, photo.pixels, options);
  return out;
}

// The first layer whose values differ by more than `bound` of their largest magnitude; none: an empty name.
Departure first_departure(Side& a, Side& b, const Photo& photo, double bound) {
  for (const auto& names : shared_values(a, b)) {
    const auto x = values_of(a, photo, names), y = values_of(b, photo, names);
    for (const std::string& name : names) {
      const double difference = relative_difference(x.at(name), y.at(name));
      if (difference > bound) return {name, difference};
    }
  }
  return {};
}

// Ground truth by the file's name, for pictures.
class Truth {
 public:
  Truth(const std::string& file, const LoadedEngine& engine) {
    if (file.empty()) return;
    data_ = load_coco_annotations(file, {.masks = true});
    const std::vector<Category>& classes = engine.data().model.categories;
    if (!engine.has_classes()) pool_categories(data_, classes.at(0));
    const auto ids = match_categories(classes, data_);
    for (std::size_t i = 0; i < ids.size(); ++i) class_of_[ids[i]] = static_cast<int>(i);
  }

  std::optional<Detections> of(const fs::path& photo, const Image& pixels) const {
    for (const CocoImage& image : data_.images)
      if (fs::path(image.file_name).filename() == photo.filename()) return collect(image.id, pixels);
    return std::nullopt;
  }

 private:
  Detections collect(std::int64_t id, const Image& pixels) const {
    Detections out{pixels.width, pixels.height, {}};
    for (const CocoAnnotation& a : data_.annotations) {
      const auto label = class_of_.find(a.category_id);
      if (a.image_id != id || !a.box || label == class_of_.end()) continue;
      const auto& b = *a.box;
      out.items.push_back({label->second,
                           1,
                           {static_cast<float>(b[0]), static_cast<float>(b[1]),
                            static_cast<float>(b[0] + b[2]), static_cast<float>(b[1] + b[3])},
                           a.mask,
                           {}});
    }
    return out;
  }

  CocoAnnotations data_;
  std::map<std::int64_t, int> class_of_;
};

void write_picture(const Options& o, const fs::path& file, const Image& photo, const Side& a, const Side& b,
                   const Detections& x, const Detections& y, const Truth& truth) {
  // Panels borrow, so the pictures are kept beside them.
  std::vector<std::pair<Image, std::string>> pictures;
  const auto add = [&](const Detections& d, const std::string& caption) {
    pictures.emplace_back(draw_detections(photo, d, a.engine->labels()), caption);
  };
  if (const auto t = truth.of(file, photo)) add(*t, "ground truth");
  add(x, a.name);
  add(y, b.name);
  std::vector<Panel> panels;
  for (const auto& [picture, caption] : pictures) panels.push_back({picture, caption});
  write_image(fs::path(o.output) / (file.stem().string() + ".png"), side_by_side(panels));
}

json to_json(const Agreement& a) {
  return {{"first", a.first},
          {"second", a.second},
          {"matched", a.matched},
          {"missing", a.missing()},
          {"extra", a.extra()},
          {"largest_box_difference", a.largest_box},
          {"largest_score_difference", a.largest_score},
          {"worst_mask_iou", a.worst_mask_iou},
          {"most_different_mask_pixels", a.most_mask_pixels}};
}

// What a comparison found.
struct Verdict {
  bool exact = false;  // both engines compute in fp32
  AgreementBounds bounds;
  std::size_t images = 0;
  Agreement total;
  std::vector<std::string> violations;  // of the bounds; none: the same
  std::optional<Departure> departure;   // where it was searched for; without a layer: there is none
};

bool is_exact(const Side& a, const Side& b) {
  return a.engine->data().precision == "fp32" && b.engine->data().precision == "fp32";
}

void expect_same_classes(const Options& o, const Side& a, const Side& b) {
  require(a.engine->labels().size() == b.engine->labels().size(),
          "{} has {} classes, {} has {}: they cannot be compared", o.first, a.engine->labels().size(),
          o.second, b.engine->labels().size());
}

// Adds up how far the sides agree on `files`. Returns the last photo on which they do not, else the first:
// where a departing layer is looked for.
Photo compare_photos(const Options& o, const std::vector<fs::path>& files, Side& a, Side& b, bool quiet,
                     Verdict& verdict) {
  const Truth truth(o.annotations, *a.engine);
  const RunOptions options{.parameters = run_parameters(o.thresholds.values)};
  std::optional<Photo> telling;
  ProgressBar bar(!quiet);
  for (const fs::path& file : files) {
    Image photo = read_image(file);
    const Detections x = a.detect(file, photo, options), y = b.detect(file, photo, options);
    const Agreement here = compare_detections(x, y, verdict.bounds);
    verdict.total.add(here);
    if (!o.output.empty()) write_picture(o, file, photo, a, b, x, y, truth);
    if (!telling || !violations(here, verdict.bounds).empty()) telling = {file, std::move(photo)};
    bar.update(static_cast<double>(++verdict.images) / static_cast<double>(files.size()), "comparing");
  }
  return std::move(*telling);
}

void print_json(const Verdict& v) {
  json out = to_json(v.total);
  out["images"] = v.images;
  out["same"] = v.violations.empty();
  out["bounds"] = v.exact ? "fp32" : "reduced precision";
  out["violations"] = v.violations;
  if (v.departure)
    out["first_departing_layer"] = v.departure->layer.empty() ? json()
                                                              : json{{"name", v.departure->layer},
                                                                     {"difference", v.departure->difference}};
  fmt::print("{}\n", out.dump(2));
}

void print_text(const Verdict& v) {
  const Agreement& t = v.total;
  fmt::print("{} images: {} and {} detections, {} matched, {} missing, {} extra\n", v.images, t.first,
             t.second, t.matched, t.missing(), t.extra());
  fmt::print("largest differences: box {:.4f} px, score {:.2e}; masks: worst IoU {:.4f}, at most {} pixels\n",
             t.largest_box, t.largest_score, t.worst_mask_iou, t.most_mask_pixels);
  if (v.departure && v.departure->layer.empty())
    fmt::print("layers: none departs by more than {} of its largest magnitude\n", v.bounds.stage);
  if (v.departure && !v.departure->layer.empty())
    fmt::print("layers: the first to depart is {}, {}\n", v.departure->layer,
               std::isfinite(v.departure->difference)
                   ? fmt::format("by {:.2e} of its largest magnitude", v.departure->difference)
                   : "in its rows, or in which of its values are finite");
  for (const std::string& line : v.violations) fmt::print("  {}\n", line);
  fmt::print("verdict: {} (bounds for {})\n", v.violations.empty() ? "the same" : "DIFFERENT",
             v.exact ? "fp32" : "reduced precision");
}

int compare(const Options& o, const CommonOptions& common) {
  std::vector<fs::path> files = find_images(o.input);
  if (o.images > 0 && files.size() > o.images) files.resize(o.images);
  const auto [device_a, device_b] = split_devices(o.devices);
  EngineOptions options{.threads = common.threads, .device = device_a, .tuning = o.tuning.values};
  Side a(o.first, options, o.proposals);
  options.device = device_b;
  Side b(o.second, options, o.proposals);
  if (!o.proposals.empty() && !a.engine->needs_proposals() && !b.engine->needs_proposals())
    fail(ErrorCode::kUsage, "--proposals {}: both engines make their own", o.proposals);
  expect_same_classes(o, a, b);
  if (!o.output.empty()) make_folder(o.output);

  Verdict verdict{.exact = is_exact(a, b)};
  verdict.bounds = verdict.exact ? bounds_for_fp32() : bounds_for_reduced_precision();
  const Photo telling = compare_photos(o, files, a, b, common.quiet, verdict);
  verdict.violations = violations(verdict.total, verdict.bounds);
  if (o.layers || !verdict.violations.empty())
    verdict.departure = first_departure(a, b, telling, verdict.bounds.stage);
  common.json ? print_json(verdict) : print_text(verdict);
  return verdict.violations.empty() ? 0 : 1;
}

}  // namespace

Verb compare_verb() {
  return {"compare", "Whether two engines detect the same, and where they part",
          "  osprey compare fp32.osprey bf16.osprey --input photos/\n"
          "  osprey compare gpu.osprey gpu.osprey --devices cpu,cuda --input photos/ --layers\n"
          "  osprey compare a.osprey b.osprey --input val/ --annotations instances_val.json --num-images 20 "
          "-o side-by-side\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            app.add_option("A", o->first, "An engine file: the reference")->required();
            app.add_option("B", o->second, "An engine file")->required();
            app.add_option("--input", o->input, "Images, folders of them, or globs")->required();
            app.add_option("--annotations", o->annotations, "COCO annotations, drawn beside the two");
            app.add_option("--devices", o->devices,
                           "A,B: where the engines run, like cpu,cuda; default: what they were built for");
            o->tuning.declare(app);
            app.add_option("--num-images", o->images, "At most this many images; default: all");
            app.add_option("-o,--output", o->output, "Folder for pictures side by side");
            app.add_flag("--layers", o->layers,
                         "Look for the first layer that departs even when the detections agree");
            o->thresholds.declare(app);
            declare_proposals(app, o->proposals);
            return [o, &common] { return compare(*o, common); };
          }};
}

}  // namespace osprey

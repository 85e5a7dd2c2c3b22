// osprey compare: whether two engines, or an engine and the model that it came from in its own framework,
// detect the same things, and where they part if not.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "cli/support/detection_type.h"
#include "cli/support/device_flags.h"
#include "cli/support/evaluation.h"
#include "cli/support/inputs.h"
#include "cli/support/original.h"
#include "cli/support/progress.h"
#include "cli/support/proposals.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "draw/side_by_side.h"
#include "engine/engine_file.h"
#include "engine/runtime.h"
#include "eval/agreement.h"
#include "eval/coco_data.h"
#include "eval/detections_io.h"
#include "formats/source.h"
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
  OriginalFlags original;
  DetectionType type;
};

// The two of "cpu,cuda"; empty: what the engines were built for.
std::pair<std::string, std::string> split_devices(const std::string& text) {
  if (text.empty()) return {};
  const auto comma = text.find(',');
  if (comma == std::string::npos)
    fail(ErrorCode::kUsage, "--devices {}: write one for each engine, like cpu,cuda", text);
  return {text.substr(0, comma), text.substr(comma + 1)};
}

// What is compared: it has a name and detects.
class Side {
 public:
  explicit Side(const std::string& file) : name_(fs::path(file).filename().string()) {
    if (name_.empty()) name_ = fs::path(file).parent_path().filename().string();  // "saved_model/"
  }
  virtual ~Side() = default;
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  const std::string& name() const { return name_; }
  virtual Detections detect(const fs::path& file, const ImageView& photo, const RunOptions& options) = 0;

 private:
  std::string name_;
};

class EngineSide : public Side {
 public:
  EngineSide(const std::string& file, const EngineOptions& options, const std::string& proposal_file)
      : Side(file), engine_(LoadedEngine::open(file, options)), session_(engine_) {
    if (engine_->needs_proposals()) proposals_ = {proposal_file, file, *engine_};
  }

  const LoadedEngine& engine() const { return *engine_; }
  Detections detect(const fs::path& file, const ImageView& photo, const RunOptions& options) override {
    return std::move(session_.detect({&photo, 1}, options, nullptr, proposals_.of({names_of(file)})).front());
  }

 private:
  std::shared_ptr<const LoadedEngine> engine_;
  DetectionSession session_;
  ProposalSource proposals_;
};

// What something else detected, by the files' names.
class RecordedSide : public Side {
 public:
  RecordedSide(const std::string& file, DetectionsFile found, std::size_t classes)
      : Side(file), source_(file) {
    for (ImageDetections& image : found.images) {
      for (const Detection& d : image.detections.items)
        require(static_cast<std::size_t>(d.class_index) < classes,
                "{}: detects a class {}, and the engine has {}: they cannot be compared", file, d.class_index,
                classes);
      found_[fs::path(image.file).filename().string()] = std::move(image.detections);
    }
  }

  Detections detect(const fs::path& file, const ImageView& photo, const RunOptions& options) override {
    const auto it = found_.find(file.filename().string());
    require(it != found_.end(), "{}: has no image {}", source_, file.filename().string());
    Detections out = it->second;
    require(out.width == photo.width && out.height == photo.height, "{}: {} is {}x{} there, {}x{} here",
            source_, file.filename().string(), out.width, out.height, photo.width, photo.height);
    if (const auto least = options.parameters.score_threshold)
      std::erase_if(out.items, [&](const Detection& d) { return d.score <= *least; });
    return out;
  }

 private:
  std::string source_;
  std::map<std::string, Detections> found_;
};

// The two, the reference first. At least one is an engine.
struct Pair {
  std::unique_ptr<Side> first, second;

  EngineSide* engine(const std::unique_ptr<Side>& side) const {
    return dynamic_cast<EngineSide*>(side.get());
  }
  const LoadedEngine& any_engine() const {
    return (engine(first) ? engine(first) : engine(second))->engine();
  }
  const std::vector<std::string>& labels() const { return any_engine().labels(); }
  // Frameworks compute in fp32.
  bool exact() const {
    const auto fp32 = [&](const std::unique_ptr<Side>& side) {
      return !engine(side) || engine(side)->engine().data().precision == "fp32";
    };
    return fp32(first) && fp32(second);
  }
};

struct Departure {
  std::string layer;
  double difference = 0;  // of the largest magnitude
};

// Values that both engines make under one name, in the order in which the first makes them, a few at a time
// so that memory stays small.
std::vector<std::vector<std::string>> shared_values(const EngineSide& a, const EngineSide& b) {
  constexpr std::size_t kTogether = 12;
  std::vector<std::vector<std::string>> out;
  const Graph &graph = a.engine().graph(), &other_graph = b.engine().graph();
  for (const Node& node : graph.nodes()) {
    const std::string& name = graph.value(node.outputs[0]).name;
    const ValueId other = other_graph.find(name);
    if (other == kNoValue || other_graph.producer(other) == nullptr) continue;
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
Departure first_departure(EngineSide& a, EngineSide& b, const Photo& photo, double bound) {
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

void write_picture(const Options& o, const fs::path& file, const Image& photo, const Pair& sides,
                   const Detections& x, const Detections& y, const Truth& truth) {
  // Panels borrow, so the pictures are kept beside them.
  std::vector<std::pair<Image, std::string>> pictures;
  const auto add = [&](const Detections& d, const std::string& caption) {
    pictures.emplace_back(draw_detections(photo, d, sides.labels()), caption);
  };
  if (const auto t = truth.of(file, photo)) add(*t, "ground truth");
  add(x, sides.first->name());
  add(y, sides.second->name());
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
  bool exact = false;  // both compute in fp32
  AgreementBounds bounds;
  std::size_t images = 0;
  Agreement total;
  std::vector<std::string> violations;  // of the bounds; none: the same
  std::optional<Departure> departure;   // where it was searched for; without a layer: there is none
};

bool is_engine_file(const std::string& file) {
  return fs::is_regular_file(file) && is_engine(open_source(file).bytes);
}
bool is_detections_file(const std::string& file) {
  return fs::is_regular_file(file) && fs::path(file).extension() == ".json";
}

// What is no engine: a detections.json, or an original model, which is run over the photos at once.
std::unique_ptr<Side> other_side(const Options& o, const std::string& file, std::size_t classes,
                                 const std::vector<fs::path>& photos, bool quiet) {
  require(fs::exists(file), "{}: there is no such file or folder", file);
  ProgressBar bar(!quiet);
  DetectionsFile found = is_detections_file(file) ? load_detections_json(file)
                                                  : detect_with_original(file, o.original, photos, bar);
  return std::make_unique<RecordedSide>(file, std::move(found), classes);
}

void expect_same_classes(const Options& o, const Pair& sides) {
  const auto classes = [&](const std::unique_ptr<Side>& side) {
    return sides.engine(side)->engine().labels().size();
  };
  require(classes(sides.first) == classes(sides.second),
          "{} has {} classes, {} has {}: they cannot be compared", o.first, classes(sides.first), o.second,
          classes(sides.second));
}

// The framework's own detections are the reference wherever they stand.
Pair open_sides(const Options& o, const std::vector<fs::path>& photos, const CommonOptions& common) {
  const auto [device_a, device_b] = split_devices(o.devices);
  EngineOptions options{.threads = common.threads, .device = device_a, .tuning = o.tuning.values};
  const bool a = is_engine_file(o.first), b = is_engine_file(o.second);
  if (!a && !b)
    fail(ErrorCode::kUsage, "neither {} nor {} is an engine: osprey build makes one", o.first, o.second);
  const std::string& file = a ? o.first : o.second;
  auto engine = std::make_unique<EngineSide>(file, options, o.proposals);
  if (a != b) {
    const std::size_t classes = engine->engine().labels().size();
    return {other_side(o, a ? o.second : o.first, classes, photos, common.quiet), std::move(engine)};
  }
  options.device = device_b;
  Pair out{std::move(engine), std::make_unique<EngineSide>(o.second, options, o.proposals)};
  expect_same_classes(o, out);
  return out;
}

void expect_use_of_proposals(const Options& o, const Pair& sides) {
  if (o.proposals.empty()) return;
  for (const auto* side : {&sides.first, &sides.second})
    if (const EngineSide* e = sides.engine(*side); e && e->engine().needs_proposals()) return;
  fail(ErrorCode::kUsage, "--proposals {}: the engines make their own", o.proposals);
}

// Adds up how far the sides agree on `files`. Returns the last photo on which they do not, else the first:
// where a departing layer is looked for.
Photo compare_photos(const Options& o, const std::vector<fs::path>& files, const Pair& sides, bool quiet,
                     Verdict& verdict) {
  const Truth truth(o.annotations, sides.any_engine());
  const RunOptions options{.parameters = run_parameters(o.thresholds.values)};
  std::optional<Photo> telling;
  ProgressBar bar(!quiet);
  for (const fs::path& file : files) {
    Image photo = read_image(file);
    Detections x = sides.first->detect(file, photo, options);
    Detections y = sides.second->detect(file, photo, options);
    o.type.apply(x);
    o.type.apply(y);
    const Agreement here = compare_detections(x, y, verdict.bounds);
    verdict.total.add(here);
    if (!o.output.empty()) write_picture(o, file, photo, sides, x, y, truth);
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

void print_text(const Verdict& v, const Pair& sides) {
  const Agreement& t = v.total;
  fmt::print("{} images: {} detections of {} and {} of {}, {} matched, {} missing, {} extra\n", v.images,
             t.first, sides.first->name(), t.second, sides.second->name(), t.matched, t.missing(), t.extra());
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
  const Pair sides = open_sides(o, files, common);
  expect_use_of_proposals(o, sides);
  o.type.check(sides.any_engine());
  if (!o.output.empty()) make_folder(o.output);

  Verdict verdict{.exact = sides.exact()};
  verdict.bounds = verdict.exact ? bounds_for_fp32() : bounds_for_reduced_precision();
  const Photo telling = compare_photos(o, files, sides, common.quiet, verdict);
  verdict.violations = violations(verdict.total, verdict.bounds);
  EngineSide *a = sides.engine(sides.first), *b = sides.engine(sides.second);
  if (a && b && (o.layers || !verdict.violations.empty()))
    verdict.departure = first_departure(*a, *b, telling, verdict.bounds.stage);
  common.json ? print_json(verdict) : print_text(verdict, sides);
  return verdict.violations.empty() ? 0 : 1;
}

}  // namespace

Verb compare_verb() {
  return {"compare", "Whether two engines, or an engine and the original model, detect the same",
          "  osprey compare fp32.osprey bf16.osprey --input photos/\n"
          "  osprey compare gpu.osprey gpu.osprey --devices cpu,cuda --input photos/ --layers\n"
          "  osprey compare a.osprey b.osprey --input val/ --annotations instances_val.json --num-images 20 "
          "-o side-by-side\n"
          "  osprey compare a.osprey exported/saved_model --input photos/ -o side-by-side      # runs "
          "TensorFlow\n"
          "  osprey compare a.osprey model_final.pth --framework detectron2 --framework-config config.yaml "
          "--input "
          "photos/\n"
          "  osprey compare a.osprey detections.json --input photos/                           # what infer "
          "wrote\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            app.add_option("A", o->first, "An engine file: the reference, unless B is no engine")->required();
            app.add_option(
                   "B", o->second,
                   "An engine file, a detections.json, or the original model: a SavedModel, an exported "
                   "Paddle folder, or what --framework says")
                ->required();
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
            o->type.declare(app);
            o->original.declare(app);
            return [o, &common] { return compare(*o, common); };
          }};
}

}  // namespace osprey

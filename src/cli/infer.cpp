// osprey infer: detections of images, as pictures, tables and JSON.
#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <optional>
#include <set>

#include "cli/support/detection_type.h"
#include "cli/support/device_flags.h"
#include "cli/support/inputs.h"
#include "cli/support/progress.h"
#include "cli/support/proposals.h"
#include "cli/support/source_flags.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "draw/heatmaps.h"
#include "engine/mask_maps.h"
#include "engine/runtime.h"
#include "engine/source.h"
#include "eval/detections_io.h"
#include "formats/npz_write.h"
#include "osprey/draw.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string engine, output, labels, proposals, dump, dump_to, format = "picture,tsv,json";
  DetectionType type;
  std::vector<std::string> inputs;
  DeviceFlags device;
  ThresholdFlags thresholds;
  int batch = 1, masks_per_dim = 2;
  bool by_instance = false, heatmaps = false;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(',', begin), text.size());
    if (end > begin) out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::set<std::string> parse_formats(const std::string& text) {
  const std::set<std::string> known{"picture", "tsv", "json", "coco", "none"};
  std::set<std::string> out;
  for (const std::string& name : split(text)) {
    if (!known.contains(name))
      fail(ErrorCode::kUsage, "--format {}: there are picture, tsv, json, coco and none", name);
    out.insert(name);
  }
  return out;
}

// Two inputs of one stem would write the same files.
void refuse_equal_stems(const std::vector<fs::path>& files) {
  std::map<std::string, fs::path> seen;
  for (const fs::path& file : files) {
    const auto [it, fresh] = seen.emplace(file.stem().string(), file);
    if (!fresh)
      fail(ErrorCode::kUsage, "{} and {} would write the same files; run them into different folders",
           it->second.string(), file.string());
  }
}

// A copy. Rows of (image, x0, y0, x1, y1) become (x0, y0, x1, y1) where all are of one image, which is how
// frameworks hold boxes.
Tensor plain_boxes(const Tensor& value) {
  const bool boxes = value.dtype() == DType::kF32 && value.shape().size() == 2 && value.dim(1) == 5;
  const std::size_t rows = boxes ? static_cast<std::size_t>(value.dim(0)) : 0;
  const float* from = boxes && rows ? value.values<float>().data() : nullptr;
  for (std::size_t i = 0; i < rows; ++i)
    if (from[i * 5] != 0) from = nullptr, i = rows;
  if (!from) return value.copied();
  Tensor out = Tensor::zeros(DType::kF32, {value.dim(0), 4});
  for (std::size_t i = 0; i < rows; ++i)
    std::copy_n(from + i * 5 + 1, 4, out.mutable_values<float>().data() + i * 4);
  return out;
}

// What --dump asks for, of the first batch that ends well: of one that fails, of the first of its photos that
// does not.
class Dump {
 public:
  Dump(const Options& o, const Graph& graph) : file_(o.dump_to), names_(split(o.dump)) {
    if (names_.empty() != file_.empty())
      fail(ErrorCode::kUsage, "--dump NAME,... and --dump-to FILE.npz go together");
    for (const std::string& name : names_)
      if (graph.find(name) == kNoValue)
        fail(ErrorCode::kUsage,
             "--dump {}: the engine has no value of that name; `osprey inspect --layers` lists them", name);
  }

  void ask(RunOptions& options) {
    if (names_.empty() || kept_) return;
    options.wanted = names_;
    // The session's memory is used again: what is kept is a copy, of the first photos that run together.
    options.observe = [this](const std::string& name, const Tensor& value) {
      if (!values_.contains(name)) values_.emplace(name, plain_boxes(value));
    };
  }
  // What was observed is of a run that has ended well, or of none such.
  void keep() { kept_ = true; }
  void forget() {
    if (!kept_) values_.clear();
  }
  void write() const {
    if (!names_.empty()) write_npz(file_, values_);
  }

 private:
  std::string file_;
  std::vector<std::string> names_;
  bool kept_ = false;
  std::map<std::string, Tensor> values_;
};

std::vector<std::string> labels_of(const Options& o, const LoadedEngine& engine) {
  if (o.labels.empty()) return engine.labels();
  std::vector<std::string> out;
  for (const Category& c : read_labels(o.labels, engine.labels().size())) out.push_back(c.name);
  return out;
}

// A photo's picture keeps its format where we write it.
fs::path picture_path(const fs::path& folder, const fs::path& photo) {
  std::string extension = photo.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return folder / (photo.stem().string() + (extension == ".jpg" || extension == ".jpeg" ? ".jpg" : ".png"));
}

// COCO names its images by number; files like 000000000139.jpg carry it, others are counted from 1.
std::int64_t image_id_of(const fs::path& file, std::int64_t count) {
  const std::string stem = file.stem().string();
  const bool number =
      !stem.empty() && stem.size() < 18 && stem.find_first_not_of("0123456789") == std::string::npos;
  return number ? std::stoll(stem) : count;
}

// Everything that is written for the detections of an image, as it comes.
class Writers {
 public:
  Writers(const Options& o, const std::set<std::string>& formats, const LoadedEngine& engine,
          std::vector<std::string> labels)
      : folder_(o.output),
        labels_(std::move(labels)),
        picture_(formats.contains("picture")),
        tsv_(formats.contains("tsv")) {
    draw_.color_by = o.by_instance ? ColorBy::kInstance : ColorBy::kClass;
    draw_.min_keypoint_score = least_keypoint_score(engine.graph());
    if (formats.contains("json"))
      json_.emplace(folder_ / "detections.json", fs::path(o.engine).filename().string(), labels_);
    if (!formats.contains("coco")) return;
    std::vector<std::int64_t> ids;
    for (const Category& c : engine.data().model.categories) ids.push_back(c.id);
    coco_.emplace(folder_ / "coco_results.json", std::move(ids));
  }

  // `place`: among the files, from 1. `maps`: what is shown instead of the photo, if anything.
  void add(const fs::path& file, std::int64_t place, const Image& photo, const Detections& found,
           const MaskMaps* maps, int masks_per_dim) {
    if (picture_)
      write_image(picture_path(folder_, file), maps ? heatmaps(*maps, found, masks_per_dim)
                                                    : draw_detections(photo, found, labels_, draw_));
    if (tsv_) write_tsv(folder_ / (file.stem().string() + ".tsv"), found);
    if (json_) json_->add(file.filename().string(), found);
    if (coco_) coco_->add(image_id_of(file, place), found);
  }
  void commit() {
    if (json_) json_->commit();
    if (coco_) coco_->commit();
  }

 private:
  static Image heatmaps(const MaskMaps& maps, const Detections& found, int side) {
    const auto count = static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
    return draw_heatmaps(found.width, found.height,
                         maps.best(found, count, -std::numeric_limits<float>::infinity()), side);
  }

  fs::path folder_;
  std::vector<std::string> labels_;
  bool picture_, tsv_;
  DrawOptions draw_;
  std::optional<DetectionsJsonWriter> json_;
  std::optional<CocoResultsWriter> coco_;
};

// Images that gave an error. It is told at the end: what the others give is written all the same.
class Failures {
 public:
  void add(const Error& error) {
    if (count_++ == 0) first_ = error;
  }
  void tell(std::size_t images) const {
    if (count_ == 0) return;
    if (images == 1) throw Error(first_->code(), first_->what());
    const std::string more =
        count_ > 1 ? fmt::format("; {} more image{} failed", count_ - 1, count_ > 2 ? "s" : "") : "";
    throw Error(first_->code(),
                fmt::format("{}{}; {} of {} images are done", first_->what(), more, images - count_, images));
  }

 private:
  std::optional<Error> first_;
  std::size_t count_ = 0;
};

// Images that run together.
struct Batch {
  std::vector<std::size_t> places;  // among the files
  std::vector<Image> photos;
  std::vector<std::vector<Proposal>> proposals;
  RunOptions options;
};

// The images one batch after the other, the next one read while the last runs. Where a run fails, what is
// under way is done image by image; `forget` is called after each run that failed.
class Inference {
 public:
  Inference(const std::shared_ptr<const LoadedEngine>& engine, const std::vector<fs::path>& files,
            const ProposalSource& proposals, std::function<void(std::size_t, const Image&, Detections)> write,
            std::function<void()> forget)
      : session_(engine),
        files_(files),
        proposals_(proposals),
        write_(std::move(write)),
        forget_(std::move(forget)) {}

  // Files [begin, end).
  void add(std::size_t begin, std::size_t end, const std::function<void(RunOptions&)>& ask) {
    Batch batch;
    for (std::size_t i = begin; i < end; ++i) attempt([&] { read(i, batch); });
    if (batch.photos.empty()) return;
    ask(batch.options);
    Batch& next = under_way_.emplace_back(std::move(batch));
    const std::vector<ImageView> views(next.photos.begin(), next.photos.end());
    try {
      session_.start(views, next.options, next.proposals);
    } catch (const Error&) {
      return finish_singly();
    }
    if (under_way_.size() == 2) finish();
  }
  void finish_all() {
    while (!under_way_.empty()) finish();
  }
  const Failures& failures() const { return failures_; }

 private:
  template <class Body>
  void attempt(const Body& body) {
    try {
      body();
    } catch (const Error& e) {
      failures_.add(e);
    }
  }

  void read(std::size_t place, Batch& batch) const {
    Image photo = read_image(files_[place]);
    for (auto& given : proposals_.of({names_of(files_[place])})) batch.proposals.push_back(std::move(given));
    batch.photos.push_back(std::move(photo));
    batch.places.push_back(place);
  }

  void finish() {
    std::vector<Detections> found;
    try {
      found = session_.finish();
    } catch (const Error&) {
      return finish_singly();
    }
    const Batch batch = std::move(under_way_.front());
    under_way_.pop_front();
    for (std::size_t i = 0; i < found.size(); ++i)
      write_(batch.places[i], batch.photos[i], std::move(found[i]));
  }

  // The session has forgotten what it was given.
  void finish_singly() {
    forget_();
    for (; !under_way_.empty(); under_way_.pop_front())
      for (std::size_t i = 0; i < under_way_.front().photos.size(); ++i) {
        std::optional<Detections> found;
        attempt([&] { found = detect(under_way_.front(), i); });
        if (found)
          write_(under_way_.front().places[i], under_way_.front().photos[i], std::move(*found));
        else
          forget_();
      }
  }

  Detections detect(const Batch& batch, std::size_t i) {
    const std::vector<ImageView> view{batch.photos[i]};
    const auto proposals = std::span(batch.proposals).subspan(batch.proposals.empty() ? 0 : i);
    return in_context(files_[batch.places[i]].string(), [&] {
      return session_.detect(view, batch.options, nullptr, proposals.first(proposals.empty() ? 0 : 1))
          .front();
    });
  }

  DetectionSession session_;
  const std::vector<fs::path>& files_;
  const ProposalSource& proposals_;
  std::function<void(std::size_t, const Image&, Detections)> write_;
  std::function<void()> forget_;
  std::deque<Batch> under_way_;  // at most two
  Failures failures_;
};

int infer(const Options& o, const CommonOptions& common) {
  const std::set<std::string> formats = parse_formats(o.format);
  const std::vector<fs::path> files = find_images(o.inputs);
  refuse_equal_stems(files);
  ProgressBar bar(!common.quiet);
  const auto engine = LoadedEngine::open(o.engine, o.device.options(common, bar));
  o.type.check(*engine);
  const ProposalSource proposals(o.proposals, o.engine, *engine);
  const std::vector<std::string> labels = labels_of(o, *engine);
  Dump dump(o, engine->graph());
  std::optional<MaskMaps> maps;
  if (o.heatmaps) maps.emplace(engine);
  if (maps && o.batch != 1) fail(ErrorCode::kUsage, "--show-mask-heatmaps goes with --batch 1");
  make_folder(o.output);

  Writers writers(o, formats, *engine, labels);
  std::size_t count = 0, done = 0;
  const auto write = [&](std::size_t place, const Image& photo, Detections found) {
    dump.keep();
    o.type.apply(found);
    writers.add(files[place], static_cast<std::int64_t>(place) + 1, photo, found, maps ? &*maps : nullptr,
                o.masks_per_dim);
    count += found.items.size();
    bar.update(static_cast<double>(++done) / static_cast<double>(files.size()), "detecting");
  };
  Inference inference(engine, files, proposals, write, [&] { dump.forget(); });
  for (std::size_t begin = 0; begin < files.size(); begin += static_cast<std::size_t>(o.batch))
    inference.add(begin, std::min(files.size(), begin + static_cast<std::size_t>(o.batch)),
                  [&](RunOptions& options) {
                    options.parameters = run_parameters(o.thresholds.values);
                    dump.ask(options);
                    if (maps) maps->ask(options);
                  });
  inference.finish_all();
  if (done == 0) inference.failures().tell(files.size());
  writers.commit();
  dump.write();
  fmt::print("{} detections in {} images -> {}\n", count, done, o.output);
  inference.failures().tell(files.size());
  return 0;
}

}  // namespace

Verb infer_verb() {
  return {
      "infer", "Detect in images: pictures, tables, JSON",
      "  osprey infer m.osprey photo.jpg -o out\n"
      "  osprey infer m.osprey photos/ --score-threshold 0.5 -o out\n"
      "  osprey infer m.osprey 'photos/*.png' --format json,coco --batch 4 -o out\n"
      "  osprey infer rtdetr.osprey photo.jpg --num-queries 100 -o out\n"
      "  osprey infer m.osprey photo.jpg --dump res2,p3,rpn_logits_p3 --dump-to stages.npz -o out\n",
      [](CLI::App& app, const CommonOptions& common) {
        auto o = std::make_shared<Options>();
        app.add_option("ENGINE", o->engine, "An engine file")->required();
        app.add_option("INPUT", o->inputs, "Images (jpg, png, bmp), folders of them, or globs")->required();
        app.add_option("-o,--output", o->output, "Folder to write to")->required();
        o->device.declare(app);
        o->thresholds.declare(app);
        o->type.declare(app);
        declare_proposals(app, o->proposals);
        app.add_option("--labels", o->labels,
                       "Other class names: one a line, a COCO annotations file, or a label map (.pbtxt)");
        app.add_option("--format", o->format, "What to write: picture, tsv, json, coco (COCO results), none")
            ->capture_default_str();
        app.add_option("--batch", o->batch, "Images run together")
            ->capture_default_str()
            ->check(CLI::Range(1, 256));
        app.add_flag("--color-by-instance", o->by_instance,
                     "A colour for each detection instead of each class");
        app.add_flag("--show-mask-heatmaps", o->heatmaps,
                     "Pictures of the best masks' probabilities instead of the photos");
        app.add_option("--masks-per-dim", o->masks_per_dim, "Heat maps a row and column of such a picture")
            ->capture_default_str()
            ->check(CLI::Range(1, 64));
        app.add_option("--dump", o->dump,
                       "Values inside the network to keep, of the first batch that ends well: NAME,...");
        app.add_option("--dump-to", o->dump_to, "NumPy file (.npz) for --dump");
        return [o, &common] { return infer(*o, common); };
      }};
}

}  // namespace osprey

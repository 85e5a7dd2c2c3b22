// osprey infer: detections of images, as pictures, tables and JSON.
#include <algorithm>
#include <deque>
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

// What --dump asks for, of the first batch.
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
    if (names_.empty() || asked_) return;
    asked_ = true;
    options.wanted = names_;
    // The session's memory is used again: what is kept is a copy, of the first photos that run together.
    options.observe = [this](const std::string& name, const Tensor& value) {
      if (!values_.contains(name)) values_.emplace(name, plain_boxes(value));
    };
  }
  void write() const {
    if (!names_.empty()) write_npz(file_, values_);
  }

 private:
  std::string file_;
  std::vector<std::string> names_;
  bool asked_ = false;
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

  // `maps`: what is shown instead of the photo, if anything.
  void add(const fs::path& file, const Image& photo, const Detections& found, const MaskMaps* maps,
           int masks_per_dim) {
    ++count_;
    if (picture_)
      write_image(picture_path(folder_, file), maps ? heatmaps(*maps, found, masks_per_dim)
                                                    : draw_detections(photo, found, labels_, draw_));
    if (tsv_) write_tsv(folder_ / (file.stem().string() + ".tsv"), found);
    if (json_) json_->add(file.filename().string(), found);
    if (coco_) coco_->add(image_id_of(file, count_), found);
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
  std::int64_t count_ = 0;
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

  DetectionSession session(engine);
  Writers writers(o, formats, *engine, labels);
  std::size_t count = 0, done = 0;
  std::deque<std::vector<Image>> under_way;  // photos of at most two batches
  const auto finish = [&] {
    std::vector<Detections> found = session.finish();
    for (std::size_t i = 0; i < found.size(); ++i, ++done) {
      o.type.apply(found[i]);
      writers.add(files[done], under_way.front()[i], found[i], maps ? &*maps : nullptr, o.masks_per_dim);
      count += found[i].items.size();
    }
    under_way.pop_front();
    bar.update(static_cast<double>(done) / static_cast<double>(files.size()), "detecting");
  };
  for (std::size_t begin = 0; begin < files.size(); begin += static_cast<std::size_t>(o.batch)) {
    const std::size_t end = std::min(files.size(), begin + static_cast<std::size_t>(o.batch));
    std::vector<Image>& photos = under_way.emplace_back();
    std::vector<ImageNames> names;
    for (std::size_t i = begin; i < end; ++i) {
      photos.push_back(read_image(files[i]));
      names.push_back(names_of(files[i]));
    }
    const std::vector<ImageView> views(photos.begin(), photos.end());
    RunOptions options{.parameters = run_parameters(o.thresholds.values)};
    dump.ask(options);
    if (maps) maps->ask(options);
    session.start(views, options, proposals.of(names));
    if (under_way.size() == 2) finish();
  }
  while (!under_way.empty()) finish();
  writers.commit();
  dump.write();
  fmt::print("{} detections in {} images -> {}\n", count, files.size(), o.output);
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
        app.add_option("--labels", o->labels, "Other class names: one a line, or a COCO annotations file");
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
        app.add_option("--dump", o->dump, "Values inside the network to keep, of the first batch: NAME,...");
        app.add_option("--dump-to", o->dump_to, "NumPy file (.npz) for --dump");
        return [o, &common] { return infer(*o, common); };
      }};
}

}  // namespace osprey

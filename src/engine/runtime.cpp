#include "engine/runtime.h"

#include <cmath>
#include <map>

#include "backends/image_dims.h"
#include "core/error.h"
#include "engine/proposals.h"
#include "engine/queries.h"

namespace osprey {

std::shared_ptr<const LoadedEngine> LoadedEngine::open(const std::filesystem::path& file,
                                                       const EngineOptions& options) {
  return of(read_engine(file), options, file.string());
}

std::shared_ptr<const LoadedEngine> LoadedEngine::of(EngineData data, const EngineOptions& options,
                                                     const std::string& name) {
  std::shared_ptr<LoadedEngine> out(new LoadedEngine);
  out->data_ = std::move(data);
  require(out->data_.device == "cpu" || out->data_.device == "cuda",
          "{}: was built for '{}', a device that this Osprey does not know", name, out->data_.device);
  out->device_ = parse_device(options.device.empty() ? out->data_.device : options.device);
  for (const Category& c : out->data_.model.categories) out->labels_.push_back(c.name);
  if (options.num_queries)
    in_context(name, [&] { limit_queries(out->data_.model.graph, *options.num_queries); });
  out->graph_ = std::make_shared<const Graph>(std::move(out->data_.model.graph));
  for (const char* output : {"det_boxes", "det_rows", out->score_output()})
    require(out->has_output(output), "{}: has no output '{}': it is no detector", name, output);
  out->executor_ = in_context(
      name, [&] { return make_executor(out->graph_, out->device_, out->data_.precision, options); });
  return out;
}

const char* LoadedEngine::score_output() const {
  return has_output("proposal_logits") ? "proposal_logits" : "det_scores";
}

bool LoadedEngine::has_output(std::string_view name) const {
  const ValueId id = graph_->find(name);
  return id != kNoValue && graph_->is_output(id);
}

namespace {

// What decides the padding of a photo: the network's input in multiples.
DimBindings network_size(const Graph& graph, const ImageView& photo) {
  DimBindings dims = bind_image_dims(graph, {&photo, 1});
  dims.erase("rh");
  dims.erase("rw");
  return dims;
}

void check_proposals(const std::vector<Proposal>& proposals) {
  for (const auto& [box, score] : proposals)
    for (const float v : {box.x0, box.y0, box.x1, box.y1, score})
      if (!std::isfinite(v)) fail(ErrorCode::kUsage, "detect: a proposal has a number that is not finite");
}

void add(RunTimes& total, RunTimes took) {
  total.preprocess += took.preprocess;
  total.network += took.network;
  total.postprocess += took.postprocess;
  total.device += took.device;
  total.upload += took.upload;
  total.download += took.download;
  total.nodes.insert(total.nodes.end(), took.nodes.begin(), took.nodes.end());
}

}  // namespace

DetectionSession::DetectionSession(std::shared_ptr<const LoadedEngine> engine)
    : engine_(std::move(engine)), session_(engine_->executor().session()) {}

std::vector<Detections> DetectionSession::detect(std::span<const ImageView> photos, const RunOptions& options,
                                                 RunTimes* times,
                                                 std::span<const std::vector<Proposal>> proposals) {
  check(started_.empty(), "detect: what was started has not been finished");
  start(photos, options, proposals);
  return finish(times);
}

void DetectionSession::start(std::span<const ImageView> photos, const RunOptions& options,
                             std::span<const std::vector<Proposal>> proposals) {
  started_.push_back(runs_of(photos, options, proposals));
  try {
    begin_runs();
  } catch (...) {
    forget();
    throw;
  }
}

std::vector<Detections> DetectionSession::finish(RunTimes* times) {
  check(!started_.empty(), "finish: nothing was started");
  std::vector<Detections> out(started_.front().photos);
  RunTimes total;
  try {
    for (auto& runs = started_.front().runs; !runs.empty(); runs.pop_front()) {
      begin_runs();
      Run& run = runs.front();
      RunTimes took = end_run(run);
      add(total, std::move(took));
      std::vector<Detections> found = collect(run.photos);
      for (std::size_t k = 0; k < run.places.size(); ++k) out[run.places[k]] = std::move(found[k]);
    }
  } catch (...) {
    forget();
    throw;
  }
  started_.pop_front();
  if (times) *times = std::move(total);
  return out;
}

DetectionSession::Started DetectionSession::runs_of(std::span<const ImageView> photos,
                                                    const RunOptions& options,
                                                    std::span<const std::vector<Proposal>> proposals) const {
  const bool needed = engine_->needs_proposals();
  if (needed && proposals.size() != photos.size())
    fail(ErrorCode::kUsage,
         "{} photos came with proposals for {}: this engine ({}) detects in proposals made beforehand; give "
         "them with --proposals FILE, or call Session::detect_in",
         photos.size(), proposals.size(), engine_->data().model.description);
  if (!needed && !proposals.empty())
    fail(ErrorCode::kUsage, "proposals were given, but this engine ({}) makes its own",
         engine_->data().model.description);
  for (const auto& of_photo : proposals) check_proposals(of_photo);
  for (const ImageView& photo : photos)
    if (photo.width <= 0 || photo.height <= 0 || !photo.pixels)
      fail(ErrorCode::kUsage, "detect: a photo of {} x {} pixels", photo.width, photo.height);
  std::map<DimBindings, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < photos.size(); ++i)
    groups[network_size(engine_->graph(), photos[i])].push_back(i);
  Started out{photos.size(), {}};
  for (const auto& [size, members] : groups) {
    Run& run = out.runs.emplace_back(Run{{}, members, options});
    std::vector<const std::vector<Proposal>*> given;
    for (const std::size_t i : members) {
      run.photos.push_back(photos[i]);
      if (needed) given.push_back(&proposals[i]);
    }
    if (needed) run.options.inputs["proposals"] = proposal_rows(given);
  }
  return out;
}

// Runs begin in their order, two at most; one that is a single call, or finds no room yet, keeps those behind
// it waiting.
void DetectionSession::begin_runs() {
  constexpr int kMostBegun = 2;
  int begun = 0;
  for (Started& started : started_)
    for (Run& run : started.runs) {
      if (begun++ == kMostBegun) return;
      if (!run.begun) run.begun = osprey::start(*session_, run.photos, run.options);
      if (!run.begun) return;
    }
}

RunTimes DetectionSession::end_run(Run& run) {
  if (!run.begun) return session_->run(run.photos, run.options);
  run.begun = false;
  return osprey::finish(*session_);
}

void DetectionSession::forget() {
  for (Started& started : started_)
    for (Run& run : started.runs) {
      if (!run.begun) continue;
      try {
        osprey::finish(*session_);
      } catch (const Error&) {  // the first error is the one that is told
      }
    }
  started_.clear();
}

namespace {

// The masks of a run: detection e's runs lie between ends[e - 1] and ends[e].
class Masks {
 public:
  Masks(const ExecutorSession& session, bool present) {
    if (!present) return;
    runs_ = session.output("mask_runs");
    ends_ = session.output("mask_ends");
  }

  std::optional<Rle> of(std::size_t row, const ImageView& photo) const {
    if (ends_.empty()) return std::nullopt;
    const auto runs = runs_.values<std::int32_t>(), ends = ends_.values<std::int32_t>();
    const auto begin = row ? ends[row - 1] : 0;
    return Rle{photo.height, photo.width, {runs.begin() + begin, runs.begin() + ends[row]}};
  }

 private:
  Tensor runs_, ends_;
};

std::vector<Keypoint> keypoints_of(const Tensor& all, std::size_t row) {
  std::vector<Keypoint> out;
  if (all.empty()) return out;
  const auto values = all.values<float>();
  const auto count = static_cast<std::size_t>(all.dim(1));
  for (std::size_t k = 0; k < count; ++k) {
    const float* p = values.data() + (row * count + k) * 3;
    out.push_back({p[0], p[1], p[2]});
  }
  return out;
}

}  // namespace

std::vector<Detections> DetectionSession::collect(std::span<const ImageView> photos) const {
  const Tensor boxes = session_->output("det_boxes"), rows = session_->output("det_rows");
  const Tensor scores = session_->output(engine_->score_output());
  const Tensor classes = engine_->has_classes() ? session_->output("det_classes") : Tensor();
  const Masks masks(*session_, engine_->has_output("mask_ends"));
  const Tensor keypoints = engine_->has_output("keypoints") ? session_->output("keypoints") : Tensor();

  std::vector<Detections> out(photos.size());
  for (std::size_t i = 0; i < photos.size(); ++i) out[i] = {photos[i].width, photos[i].height, {}};
  for (std::size_t e = 0; e < static_cast<std::size_t>(boxes.dim(0)); ++e) {
    const float* box = boxes.values<float>().data() + e * 5;
    const auto row = static_cast<std::size_t>(rows.values<std::int32_t>()[e]);
    const auto image = static_cast<std::size_t>(box[0]);
    Detection d;
    if (!classes.empty()) d.class_index = classes.values<std::int32_t>()[row];
    d.score = scores.values<float>()[row];
    d.box = {box[1], box[2], box[3], box[4]};
    d.mask = masks.of(e, photos[image]);
    d.keypoints = keypoints_of(keypoints, e);
    out[image].items.push_back(std::move(d));
  }
  return out;
}

RunParameters run_parameters(const Thresholds& t) {
  return {t.first_score, t.score, t.nms_iou, t.max_detections, t.mask};
}

// --- The public classes ----------------------------------------------------------------------------------

Engine::Engine(const std::filesystem::path& file, const EngineOptions& options)
    : engine_(LoadedEngine::open(file, options)) {}

const std::vector<std::string>& Engine::labels() const { return engine_->labels(); }

std::vector<int> Engine::category_ids() const {
  std::vector<int> out;
  for (const Category& c : engine_->data().model.categories) out.push_back(c.id);
  return out;
}

std::string Engine::description() const { return engine_->data().model.description; }
std::string Engine::device() const { return to_string(engine_->device()); }
std::string Engine::precision() const { return engine_->data().precision; }
bool Engine::has_masks() const { return engine_->has_output("mask_ends"); }
bool Engine::has_keypoints() const { return engine_->has_output("keypoints"); }
bool Engine::needs_proposals() const { return engine_->needs_proposals(); }

Session::Session(const Engine& engine) : session_(std::make_unique<DetectionSession>(engine.engine_)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Detections Session::detect(ImageView photo, const Thresholds& thresholds) {
  return std::move(detect(std::span<const ImageView>(&photo, 1), thresholds).front());
}

std::vector<Detections> Session::detect(std::span<const ImageView> photos, const Thresholds& thresholds) {
  return session_->detect(photos, {.parameters = run_parameters(thresholds)});
}

Detections Session::detect_in(ImageView photo, std::span<const Proposal> proposals,
                              const Thresholds& thresholds) {
  const std::vector<Proposal> of_photo(proposals.begin(), proposals.end());
  return std::move(detect_in({&photo, 1}, {&of_photo, 1}, thresholds).front());
}

std::vector<Detections> Session::detect_in(std::span<const ImageView> photos,
                                           std::span<const std::vector<Proposal>> proposals,
                                           const Thresholds& thresholds) {
  return session_->detect(photos, {.parameters = run_parameters(thresholds)}, nullptr, proposals);
}

}  // namespace osprey

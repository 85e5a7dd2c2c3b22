#include "osprey/photo_demo.h"

#include <unistd.h>

#include "core/error.h"
#include "draw/heatmaps.h"
#include "engine/engine_file.h"
#include "engine/mask_maps.h"
#include "formats/source.h"
#include "osprey/draw.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

// A folder of its own that is gone at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (fs::temp_directory_path() / "osprey_demo_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      fail(ErrorCode::kInternal, "{}: no temporary folder can be made", pattern);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

bool is_engine_file(const fs::path& file) {
  return fs::is_regular_file(file) && is_engine(open_source(file).bytes);
}

// An engine file stays usable when it is removed, for as long as it is open.
std::shared_ptr<const LoadedEngine> open_or_build(SourceOptions source, const PhotoDemoOptions& options) {
  const EngineOptions opening{.threads = options.threads, .device = options.device};
  if (is_engine_file(source.source)) {
    if (options.min_image_size > 0)
      fail(ErrorCode::kUsage, "{}: is an engine, whose image size was settled when it was built",
           source.source.string());
    return LoadedEngine::open(source.source, opening);
  }
  if (options.min_image_size > 0)
    source.overrides.emplace_back("INPUT.MIN_SIZE_TEST", std::to_string(options.min_image_size));
  const TemporaryFolder folder;
  const fs::path engine = folder.path() / "demo.osprey";
  build_engine(source, {.device = options.device, .threads = options.threads}, engine);
  return LoadedEngine::open(engine, opening);
}

}  // namespace

class PhotoDemo::State {
 public:
  State(const SourceOptions& source, const PhotoDemoOptions& options)
      : options_(options), engine_(open_or_build(source, options)), session_(engine_) {
    require(options.masks_per_dim >= 1 && options.masks_per_dim <= 64,
            "masks_per_dim: {} is not from 1 to 64", options.masks_per_dim);
    if (options.show_mask_heatmaps) maps_ = std::make_unique<MaskMaps>(engine_);
  }

  const PhotoDemoOptions& options() const { return options_; }

  Detections predict(ImageView photo) {
    RunOptions run;
    if (maps_) maps_->ask(run);
    return std::move(session_.detect({&photo, 1}, run).front());
  }

  Image picture(ImageView photo, const PhotoDemo& demo) {
    Detections found = predict(photo);
    const int side = options_.masks_per_dim;
    if (maps_)
      return draw_heatmaps(photo.width, photo.height,
                           maps_->best(found, static_cast<std::size_t>(side) * static_cast<std::size_t>(side),
                                       options_.confidence_threshold),
                           side);
    const DrawOptions drawing{.min_keypoint_score = least_keypoint_score(engine_->graph())};
    return draw_detections(photo, demo.select_top_predictions(std::move(found)), engine_->labels(), drawing);
  }

 private:
  PhotoDemoOptions options_;
  std::shared_ptr<const LoadedEngine> engine_;
  DetectionSession session_;
  std::unique_ptr<MaskMaps> maps_;
};

PhotoDemo::PhotoDemo(const SourceOptions& source, const PhotoDemoOptions& options)
    : state_(std::make_unique<State>(source, options)) {}
PhotoDemo::PhotoDemo(PhotoDemo&&) noexcept = default;
PhotoDemo& PhotoDemo::operator=(PhotoDemo&&) noexcept = default;
PhotoDemo::~PhotoDemo() = default;

Image PhotoDemo::run_on_image(ImageView photo) { return state_->picture(photo, *this); }

Detections PhotoDemo::compute_prediction(ImageView photo) { return state_->predict(photo); }

Detections PhotoDemo::select_top_predictions(Detections found) const {
  std::erase_if(found.items,
                [&](const Detection& d) { return !(d.score > state_->options().confidence_threshold); });
  return found;
}

}  // namespace osprey

// From a framework's checkpoint to detections:
//
//   osprey::build_engine({.source = "model.pkl", .config = "mask_rcnn_R_50_FPN_3x.yaml"}, {}, "m.osprey");
//   const osprey::Engine engine("m.osprey");
//   osprey::Session session(engine);
//   osprey::Detections found = session.detect(osprey::read_image("photo.jpg"));
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "osprey/api.h"
#include "osprey/detections.h"
#include "osprey/error.h"
#include "osprey/image.h"

namespace osprey {

// What is imported: a checkpoint with its config, or a Model (.onnx) written by import_model.
struct SourceOptions {
  std::filesystem::path source;  // recognised by content
  // The framework's config: a file, or the name of an official one ("mask_rcnn_R_50_FPN_3x.yaml").
  std::string config;
  // Keys to change, in the framework's spelling: {"MODEL.ROI_HEADS.NUM_CLASSES", "3"}.
  std::vector<std::pair<std::string, std::string>> overrides;
  // Class names: one a line, or a COCO annotations file. Empty: the framework's own.
  std::filesystem::path labels;
  // A fixed network input in pixels, photos letterboxed into its top-left corner; 0: as the config says.
  int height = 0, width = 0;
};

// What one rewrite of the graph did during a build.
struct PassReport {
  std::string name;
  double seconds = 0;
  std::size_t nodes_before = 0, nodes_after = 0;
};

struct ImportReport {
  std::string family;                       // "detectron2"
  std::string description;                  // "GeneralizedRCNN R50-FPN, masks"
  std::vector<std::string> unused_weights;  // in the checkpoint, not in the model
  std::size_t weights = 0;                  // tensors used
  std::int64_t parameters = 0;              // numbers in them
  std::vector<PassReport> passes;           // of a build, in their order
};

// Thresholds that can be set when building and changed for each run. Absent: the model's own.
struct Thresholds {
  std::optional<float> first_score;   // of proposals, as a probability
  std::optional<float> score;         // of detections
  std::optional<float> nms_iou;       // overlap above which the lesser of two detections goes
  std::optional<int> max_detections;  // an image; for a run, at most what the engine was built for
  std::optional<float> mask;          // probability from which a pixel belongs to the mask; default 0.5
};

enum class Precision : std::uint8_t { kFp32, kBf16 };

// Called with the part done so far (0..1) and what is being done.
using Progress = std::function<void(double fraction, const std::string& what)>;

struct BuildOptions {
  Precision precision = Precision::kFp32;
  Thresholds thresholds;
  std::vector<std::string> disabled_passes;  // for finding out which rewrite matters
  Progress progress;
};

// Imports a checkpoint into a Model, an ONNX file that keeps the checkpoint's names.
OSPREY_API ImportReport import_model(const SourceOptions& source, const std::filesystem::path& model,
                                     const Progress& progress = {});

// Exports a detector to an ONNX file of standard ops, for `target` "onnxruntime": from `image` f32[1,3,H,W]
// (RGB, 0..255, resized already) to num_detections, detection_boxes (x0, y0, x1, y1 in pixels of `image`),
// detection_scores, detection_classes and, where the model has them, detection_masks or keypoint_heatmaps.
OSPREY_API ImportReport export_model(const SourceOptions& source, const std::string& target,
                                     const std::filesystem::path& file, const Progress& progress = {});

// Builds an engine file, in memory bounded by the model's size. Nothing is written unless all of it succeeds.
OSPREY_API ImportReport build_engine(const SourceOptions& source, const BuildOptions& options,
                                     const std::filesystem::path& engine);

struct EngineOptions {
  int threads = 0;  // 0: one for each core
};

// An engine file, opened and checked. Copies share it; safe to use from several threads.
class OSPREY_API Engine {
 public:
  explicit Engine(const std::filesystem::path& file, const EngineOptions& options = {});

  const std::vector<std::string>& labels() const;  // by class index
  std::vector<int> category_ids() const;           // of the same classes in COCO files
  std::string description() const;
  std::string device() const;     // "cpu"
  std::string precision() const;  // "fp32"
  bool has_masks() const;
  bool has_keypoints() const;

 private:
  friend class Session;
  std::shared_ptr<const class LoadedEngine> engine_;
};

// Runs an engine. One for each thread; cheap beside the engine, whose weights they share. The first run of a
// new image size prepares it; later ones allocate nothing inside the network.
class OSPREY_API Session {
 public:
  explicit Session(const Engine& engine);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  Detections detect(ImageView photo, const Thresholds& thresholds = {});
  // A batch: photos of any sizes, the same detections as one by one.
  std::vector<Detections> detect(std::span<const ImageView> photos, const Thresholds& thresholds = {});

 private:
  std::unique_ptr<class DetectionSession> session_;
};

}  // namespace osprey

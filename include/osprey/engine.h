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

// What an int8 build found of one layer's values. `limit`: of the integers, 0 where the values never came.
struct Int8Layer {
  std::string value, block;  // of the graph; the block of layers that it was judged with
  std::string precision;     // "int8", or that of layers that are not: "fp32", on a GPU "fp16"
  float least = 0, largest = 0, limit = 0;
  double saturated = 0;  // the share of values beyond the limit
  double sqnr = 0;       // of rounding and saturating, in decibels
};

// A choice of blocks in integers that AP was measured with.
struct Int8Choice {
  std::size_t blocks = 0;            // in integers
  double ap_drop = 0, ap_error = 0;  // how much AP fell, and the standard error of that
  bool holds = false;                // the bound, with its margin
};

// What an int8 build did, and its detections beside those of fp32 on photos that calibration did not see.
struct Int8Report {
  std::vector<Int8Layer> layers;
  std::vector<std::pair<std::string, double>> kept;  // blocks in floats; the change of each alone in int8
  std::vector<Int8Choice> choices;                   // in the order in which they were tried
  std::vector<std::filesystem::path> photos;         // none: a cache was used without photos
  std::vector<Detections> before, after;             // of each photo, in fp32 and in int8
  double change = 0;                                 // 0: the same; 1: nothing alike
};

struct ImportReport {
  std::string family;                       // "detectron2"
  std::string description;                  // "GeneralizedRCNN R50-FPN, masks"
  std::vector<std::string> unused_weights;  // in the checkpoint, not in the model
  std::size_t weights = 0;                  // tensors used
  std::int64_t parameters = 0;              // numbers in them
  std::vector<PassReport> passes;           // of a build, in their order
  std::vector<std::string> remarks;         // what else a user should know of a build, one line each
  std::optional<Int8Report> int8;           // of an int8 build
};

// Thresholds that can be set when building and changed for each run. Absent: the model's own.
struct Thresholds {
  std::optional<float> first_score;   // of proposals, as a probability
  std::optional<float> score;         // of detections
  std::optional<float> nms_iou;       // overlap above which the lesser of two detections goes
  std::optional<int> max_detections;  // an image; for a run, at most what the engine was built for
  std::optional<float> mask;          // probability from which a pixel belongs to the mask; default 0.5
};

// Of activations and weights between preprocessing and scores, which are fp32 always. tf32: fp32 in memory,
// operands of convolutions and matrix products rounded to 11 bits. int8: integers in convolutions, transposed
// ones and fully connected layers, with scales that calibration finds; on a GPU where that is faster. The CPU
// has fp32, bf16 and int8.
enum class Precision : std::uint8_t { kFp32, kTf32, kBf16, kFp16, kInt8 };

// Called with the part done so far (0..1) and what is being done.
using Progress = std::function<void(double fraction, const std::string& what)>;

// On a GPU, implementations are chosen by measuring them, once for each class of image sizes. What was
// measured lives in a file of its own, keyed by GPU and library versions, never in the engine file.
struct TuningOptions {
  double budget = 60;           // seconds at most for a class of sizes; 0: never measure
  std::filesystem::path cache;  // empty: in $XDG_CACHE_HOME/osprey or ~/.cache/osprey
};

// How int8 finds the largest magnitude that an activation's integers hold; larger values saturate.
// minmax: the largest that calibration saw. percentile: 99.99 % of the values are below it. entropy: the
// least divergence between the histograms before and after rounding. mse: the least squared error.
enum class CalibrationMethod : std::uint8_t { kMinMax, kPercentile, kEntropy, kMse };

// Calibration runs the model in fp32 on BuildOptions::calibration_photos, with the engine's own
// preprocessing.
struct CalibrationOptions {
  CalibrationMethod method = CalibrationMethod::kPercentile;
  // What was found, in JSON: used again when it is of the same model, preprocessing, method and photos, and
  // refused otherwise. Empty: not kept. While calibration runs, <cache>.partial keeps what it goes on from
  // after an interruption.
  std::filesystem::path cache;
  int batch = 8;  // photos between two writes of that file
};

// How much int8 may cost. Where a bound does not hold, the blocks of layers that change detections most stay
// in fp32 (on a GPU fp16) until it does. Of the calibration photos up to 16, evenly spaced, are kept for that
// and for the report: int8 is not calibrated on them.
struct AccuracyOptions {
  // Of int8's detections against fp32's: 1 - 2 * sum(min(score) * IoU) / sum(scores), over pairs of one class
  // that overlap by half; 0: the same, 1: nothing alike.
  std::optional<double> max_detection_change;
  // Of AP, of boxes and of masks, on photos like the annotated ones among the calibration photos. It holds
  // where the drop measured on those and `ap_margin` of its standard errors are no more than it: 2 make it
  // hold with a confidence of about 95 %; 0 takes the photos as they are. Where that can be shown for no
  // choice of blocks all stay in floats, and a remark says what it would take. Each photo is run twice, as it
  // is and a little brighter.
  std::optional<double> max_ap_drop;
  double ap_margin = 2;
  std::filesystem::path annotations;  // a COCO file
  double search_seconds = 1800;       // after which fewer choices are tried
  bool force = false;  // build even where hardly a detection of fp32's is left (a change above 0.5)
};

struct BuildOptions {
  std::string device = "cpu";  // "cpu", "cuda" or "cuda:N": which GPU is for tuning only, not for the engine
  Precision precision = Precision::kFp32;
  TuningOptions tuning;
  int tuning_batch = 1;  // photos a run that tuning prepares for, and for which int8 must be faster on a GPU
  // Photos like those to come. int8 is calibrated on all of them. For fp16's check that no layer overflows 16
  // of them are run, and a synthetic one always.
  std::vector<std::filesystem::path> calibration_photos;
  CalibrationOptions calibration;
  AccuracyOptions accuracy;  // of int8
  int threads = 0;           // of calibration and of that check; 0: one for each core
  Thresholds thresholds;
  std::optional<int> num_queries;            // as EngineOptions has it; the engine keeps no more
  std::vector<std::string> disabled_passes;  // for finding out which rewrite matters
  Progress progress;
};

struct ImportOptions {
  Thresholds thresholds;
  Progress progress;
};

// Imports a checkpoint into a Model, an ONNX file that keeps the checkpoint's names.
OSPREY_API ImportReport import_model(const SourceOptions& source, const ImportOptions& options,
                                     const std::filesystem::path& model);

struct ExportOptions {
  std::string target;                 // "onnxruntime"
  std::string input_format = "NCHW";  // of `image`; or "NHWC"
  Thresholds thresholds;
  Progress progress;
};

// Exports a detector to an ONNX file of standard ops: from `image` f32[1,3,H,W] or f32[1,H,W,3]
// (RGB, 0..255, resized already) to num_detections, detection_boxes (x0, y0, x1, y1 in pixels of `image`),
// detection_scores, detection_classes and, where the model has them, detection_masks or keypoint_heatmaps.
OSPREY_API ImportReport export_model(const SourceOptions& source, const ExportOptions& options,
                                     const std::filesystem::path& file);

// Builds an engine file, in memory bounded by the model's size. Nothing is written unless all of it succeeds.
// A build for CUDA needs no GPU; where there is one, implementations are chosen at once, otherwise when the
// engine first runs. In fp16, layers that overflow stay fp32; the report's remarks name them.
OSPREY_API ImportReport build_engine(const SourceOptions& source, const BuildOptions& options,
                                     const std::filesystem::path& engine);

struct EngineOptions {
  int threads = 0;         // of the CPU; 0: one for each core
  std::string device;      // "cpu", "cuda" or "cuda:N"; empty: what the engine was built for
  TuningOptions tuning;    // for sizes of images that were not tuned before
  bool cuda_graph = true;  // false: a GPU is given one kernel after the other, which is slower
  // Of a DETR: only so many queries are selected and decoded, at most those that the engine was built with.
  std::optional<int> num_queries;
  Progress progress;  // of tuning
};

// An engine file, opened and checked. Copies share it; safe to use from several threads.
class OSPREY_API Engine {
 public:
  explicit Engine(const std::filesystem::path& file, const EngineOptions& options = {});

  const std::vector<std::string>& labels() const;  // by class index
  std::vector<int> category_ids() const;           // of the same classes in COCO files
  std::string description() const;
  std::string device() const;     // where it runs: "cpu", "cuda:0"
  std::string precision() const;  // "fp32"
  bool has_masks() const;
  bool has_keypoints() const;
  bool needs_proposals() const;  // Session::detect_in is the way to run it

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

  // For an engine that needs proposals: those of the photo, of each photo.
  Detections detect_in(ImageView photo, std::span<const Proposal> proposals,
                       const Thresholds& thresholds = {});
  std::vector<Detections> detect_in(std::span<const ImageView> photos,
                                    std::span<const std::vector<Proposal>> proposals,
                                    const Thresholds& thresholds = {});

 private:
  std::unique_ptr<class DetectionSession> session_;
};

}  // namespace osprey

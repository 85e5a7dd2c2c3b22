#include <algorithm>
#include <cmath>

#include "arch/family/select.h"
#include "core/error.h"
#include "engine/change_op.h"
#include "engine/devices.h"
#include "engine/engine_file.h"
#include "engine/int8.h"
#include "engine/overflow.h"
#include "engine/queries.h"
#include "engine/source.h"
#include "engine/synthetic_photo.h"
#include "engine/tune.h"
#include "ops/detect_anchors.h"
#include "ops/detect_queries.h"
#include "ops/nms.h"
#include "ops/paste_masks.h"
#include "ops/resize_masks.h"
#include "ops/select_anchors.h"
#include "ops/select_boxes.h"
#include "osprey/version.h"
#include "passes/pass.h"

namespace osprey {
namespace {

// Detections that are anchors by raw score, as a proposal network's are: their scores are logits.
bool is_raw_detector(const SelectAnchors& op) { return op.stage == 2 && op.activation == Activation::kNone; }

bool scores_are_logits(const Graph& graph) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const Node& node) {
    const auto* op = node.op.as<SelectAnchors>();
    return op != nullptr && is_raw_detector(*op);
  });
}

void set_anchor_threshold(SelectAnchors& op, const Thresholds& t) {
  const auto& wanted = op.stage == 1 ? t.first_score : t.score;
  if (!wanted) return;
  op.has_threshold = true;
  // Proposals of a first stage are asked for by probability, and their logits compared with its logit.
  const bool as_it_is = op.activation == Activation::kSigmoid || is_raw_detector(op);
  op.threshold = as_it_is ? *wanted : std::log(*wanted / (1 - *wanted));
}

void check_probability(std::string_view name, const std::optional<float>& value) {
  if (value && !(*value >= 0 && *value <= 1))
    fail(ErrorCode::kUsage, "{} {} is not between 0 and 1", name, *value);
}

}  // namespace

void apply_thresholds(Graph& graph, const Thresholds& t) {
  check_probability("the first score threshold", t.first_score);
  if (!scores_are_logits(graph)) check_probability("the score threshold", t.score);
  check_probability("the NMS overlap", t.nms_iou);
  check_probability("the mask threshold", t.mask);
  if (t.max_detections && *t.max_detections < 1)
    fail(ErrorCode::kUsage, "at most {} detections", *t.max_detections);
  for (Node& node : graph.mutable_nodes()) {
    change_op<SelectAnchors>(node, [&](SelectAnchors& op) { set_anchor_threshold(op, t); });
    change_op<DetectAnchors>(node, [&](DetectAnchors& op) {
      op.threshold = (op.stage == 1 ? t.first_score : t.score).value_or(op.threshold);
      if (op.stage != 2) return;
      op.iou = t.nms_iou.value_or(op.iou);
      op.max_detections = t.max_detections.value_or(op.max_detections);
    });
    change_op<SelectBoxes>(node, [&](SelectBoxes& op) { op.threshold = t.score.value_or(op.threshold); });
    change_op<PasteMasks>(node, [&](PasteMasks& op) { op.threshold = t.mask.value_or(op.threshold); });
    change_op<ResizeMasks>(node, [&](ResizeMasks& op) { op.threshold = t.mask.value_or(op.threshold); });
    change_op<DetectQueries>(node, [&](DetectQueries& op) {
      op.threshold = t.score.value_or(op.threshold);
      op.top = t.max_detections.value_or(op.top);
    });
    change_op<Nms>(node, [&](Nms& op) {
      if (op.stage != 2) return;
      op.iou = t.nms_iou.value_or(op.iou);
      op.max_detections = t.max_detections.value_or(op.max_detections);
    });
  }
  graph.infer_types();
}

ImportReport report_of(const Model& model) {
  ImportReport out{.family = model.family,
                   .description = model.description,
                   .unused_weights = model.weights.unused,
                   .weights = model.graph.weights().size()};
  for (const Weight& w : model.graph.weights())
    out.parameters += element_count(constant_shape(model.graph.value(w.value).type));
  for (const auto& [key, value] : model.metadata)
    if (key.starts_with(kConfigWarning)) out.remarks.push_back("warning: " + value);
  return out;
}

namespace {

// Of the layers that do not compute in integers.
DType lowered_type(const DeviceName& device, Precision precision) {
  if (precision == Precision::kInt8) return device.cuda ? DType::kF16 : DType::kF32;
  return precision == Precision::kBf16   ? DType::kBF16
         : precision == Precision::kFp16 ? DType::kF16
                                         : DType::kF32;
}

// CUDA's convolutions have no factors of channels. tf32 is asked for speed and rounds more than folding does.
ExactFactors exact_factors(const DeviceName& device, Precision precision) {
  if (precision != Precision::kFp32) return ExactFactors::kInWeights;
  return device.cuda ? ExactFactors::kInNorm : ExactFactors::kInConv;
}

// At most 16 of the calibration photos, evenly spaced, and a synthetic one.
std::vector<Image> photos_to_check(const Graph& graph, const std::vector<std::filesystem::path>& files) {
  std::vector<Image> out{synthetic_photo(graph)};
  const std::size_t count = std::min<std::size_t>(files.size(), 16);
  for (std::size_t i = 0; i < count; ++i) out.push_back(read_image(files[i * files.size() / count]));
  return out;
}

// The layers that stay fp32 in fp16. They are found in the graph that the passes make, with the same options.
OverflowReport check_overflow(Graph graph, const PassOptions& passes, const BuildOptions& options) {
  PassOptions wide = passes;
  wide.precision = DType::kF32;
  wide.quantization = {};
  run_passes(graph, wide);
  const std::vector<Image> photos = photos_to_check(graph, options.calibration_photos);
  const std::vector<ImageView> views(photos.begin(), photos.end());
  return find_overflow(graph, views, options.threads, [&](double done) {
    if (options.progress) options.progress(done, "looking for overflow in fp16");
  });
}

// Calibration runs what the passes make of the model in fp32, with the model's own thresholds, so that a
// cache outlives a change of them.
void plan_int8_of(EngineData& engine, PassOptions& passes, const BuildOptions& options,
                  ImportReport& report) {
  PassOptions in_f32 = passes;
  in_f32.precision = DType::kF32;
  Model wide = engine.model;
  run_passes(wide.graph, in_f32);
  Int8Plan plan = plan_int8(wide, options);
  passes.quantization = std::move(plan.quantization);
  report.int8 = std::move(plan.report);
  report.remarks.insert(report.remarks.end(), plan.remarks.begin(), plan.remarks.end());
  engine.model.metadata.merge(plan.metadata);
}

}  // namespace

ImportReport build_engine(const SourceOptions& source, const BuildOptions& options,
                          const std::filesystem::path& file) {
  const DeviceName device = parse_device(options.device);
  check_precision(device, options.precision);
  if (options.progress) options.progress(0, "importing");
  EngineData engine{load_source(source), kVersion, device.cuda ? "cuda" : "cpu",
                    std::string(name_of(options.precision))};
  ImportReport report = report_of(engine.model);
  PassOptions passes{.disabled = options.disabled_passes,
                     .precision = lowered_type(device, options.precision),
                     .exact_factors = exact_factors(device, options.precision)};
  if (options.precision == Precision::kInt8) plan_int8_of(engine, passes, options, report);
  apply_thresholds(engine.model.graph, options.thresholds);
  if (options.num_queries) limit_queries(engine.model.graph, *options.num_queries);
  if (passes.precision == DType::kF16) {
    OverflowReport kept = check_overflow(engine.model.graph, passes, options);
    passes.keep_f32 = std::move(kept.values);
    report.remarks.insert(report.remarks.end(), kept.remarks.begin(), kept.remarks.end());
  }
  report.passes = run_passes(engine.model.graph, passes);
  check_kernels(engine.model.graph, device);
  write_engine(file, engine, [&](double done) {
    if (options.progress) options.progress(done, "writing " + file.filename().string());
  });
  if (device.cuda) tune_engine(file, options, report);
  return report;
}

}  // namespace osprey

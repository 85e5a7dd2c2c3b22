#include "core/error.h"
#include "core/file.h"
#include "engine/engine_file.h"
#include "engine/source.h"
#include "formats/onnx_export/onnx_export.h"

namespace osprey {
namespace {

void check_target(const std::string& target) {
  if (target == "onnxruntime") return;
  if (target == "tensorrt8" || target == "tensorrt10" || target == "tensorrt11")
    fail(ErrorCode::kUsage, "--target {}: this version exports for onnxruntime only", target);
  fail(ErrorCode::kUsage, "--target {}: is not known; use onnxruntime", target);
}

bool is_channels_last(const std::string& input_format) {
  if (input_format != "NHWC" && input_format != "NCHW")
    fail(ErrorCode::kUsage, "--input-format {}: is not known; use NCHW or NHWC", input_format);
  return input_format == "NHWC";
}

// An engine for the CPU is exported as it is, so that one in int8 keeps its scales.
Model load_to_export(const SourceOptions& source) {
  if (!std::filesystem::is_regular_file(source.source) ||
      !is_engine(MappedFile::open(source.source)->bytes()))
    return load_source(source);
  if (!source.config.empty() || !source.overrides.empty() || source.height > 0 || !source.labels.empty())
    fail(ErrorCode::kUsage, "{}: is an engine, whose config, labels and size were settled when it was built",
         source.source.string());
  EngineData engine = read_engine(source.source);
  require(engine.device == "cpu" && (engine.precision == "fp32" || engine.precision == "int8"),
          "{}: engines that are exported are built for the cpu in fp32 or int8, and this one for {} in {}",
          source.source.string(), engine.device, engine.precision);
  return std::move(engine.model);
}

}  // namespace

ImportReport export_model(const SourceOptions& source, const ExportOptions& options,
                          const std::filesystem::path& file) {
  check_target(options.target);
  const bool channels_last = is_channels_last(options.input_format);
  const Progress& progress = options.progress;
  if (progress) progress(0, "importing");
  Model model = load_to_export(source);
  apply_thresholds(model.graph, options.thresholds);
  in_context(source.source.string(), [&] {
    export_onnx(model, file, channels_last, [&](double done) {
      if (progress) progress(done, "writing " + file.filename().string());
    });
  });
  return report_of(model);
}

}  // namespace osprey

#include "core/error.h"
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

}  // namespace

ImportReport export_model(const SourceOptions& source, const ExportOptions& options,
                          const std::filesystem::path& file) {
  check_target(options.target);
  const bool channels_last = is_channels_last(options.input_format);
  const Progress& progress = options.progress;
  if (progress) progress(0, "importing");
  Model model = load_source(source);
  apply_thresholds(model.graph, options.thresholds);
  in_context(source.source.string(), [&] {
    export_onnx(model, file, channels_last, [&](double done) {
      if (progress) progress(done, "writing " + file.filename().string());
    });
  });
  return report_of(model);
}

}  // namespace osprey

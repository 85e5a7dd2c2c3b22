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

}  // namespace

ImportReport export_model(const SourceOptions& source, const std::string& target,
                          const std::filesystem::path& file, const Progress& progress) {
  check_target(target);
  if (progress) progress(0, "importing");
  const Model model = load_source(source);
  in_context(source.source.string(), [&] {
    export_onnx(model, file, [&](double done) {
      if (progress) progress(done, "writing " + file.filename().string());
    });
  });
  return report_of(model);
}

}  // namespace osprey

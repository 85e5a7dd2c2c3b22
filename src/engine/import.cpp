#include "engine/source.h"
#include "formats/onnx.h"

namespace osprey {

ImportReport import_model(const SourceOptions& source, const ImportOptions& options,
                          const std::filesystem::path& file) {
  const Progress& progress = options.progress;
  if (progress) progress(0, "importing");
  Model model = load_source(source);
  apply_thresholds(model.graph, options.thresholds);
  write_model_onnx(file, model, [&](double done) {
    if (progress) progress(done, "writing " + file.filename().string());
  });
  return report_of(model);
}

}  // namespace osprey

#include "engine/source.h"
#include "formats/onnx.h"

namespace osprey {

ImportReport import_model(const SourceOptions& source, const std::filesystem::path& file,
                          const Progress& progress) {
  if (progress) progress(0, "importing");
  const Model model = load_source(source);
  write_model_onnx(file, model, [&](double done) {
    if (progress) progress(done, "writing " + file.filename().string());
  });
  return report_of(model);
}

}  // namespace osprey

#include "engine/source.h"

#include "arch/family/select.h"
#include "core/error.h"
#include "engine/engine_file.h"
#include "formats/checkpoint.h"
#include "formats/onnx.h"
#include "formats/paddle_inference.h"
#include "formats/tf_checkpoint.h"

namespace osprey {
namespace {

// A Model file holds what its config said; only the names of its classes can still be changed (load_source).
Model load_model(const Source& file, const SourceOptions& source) {
  if (!source.config.empty() || !source.overrides.empty() || source.height > 0)
    fail(ErrorCode::kUsage,
         "{}: is a model, whose config and size were settled when it was imported; give them to "
         "`osprey import`, with the checkpoint",
         file.name);
  return read_model_onnx(file);
}

Model import_checkpoint(Checkpoint checkpoint, const SourceOptions& source) {
  ImportRequest request{.source = source.source.string(),
                        .checkpoint = std::move(checkpoint),
                        .config = source.config,
                        .overrides = source.overrides,
                        .height = source.height,
                        .width = source.width};
  return in_context(request.source, [&] { return import_model(request); });
}

Model load_or_import(const SourceOptions& source) {
  if (const auto files = find_paddle_inference(source.source))
    return import_checkpoint(read_paddle_inference(*files), source);
  if (const auto files = find_tf_checkpoint(source.source))
    return import_checkpoint(read_tf_checkpoint(*files), source);
  const Source file = open_source(source.source);
  require(!is_engine(file.bytes),
          "{}: is an engine already; give the checkpoint or model that it was built from", file.name);
  return is_onnx_model(file.bytes) ? load_model(file, source)
                                   : import_checkpoint(read_checkpoint(file), source);
}

}  // namespace

Model load_source(const SourceOptions& source) {
  Model model = load_or_import(source);
  if (!source.labels.empty()) model.categories = read_labels(source.labels, model.categories.size());
  return model;
}

}  // namespace osprey

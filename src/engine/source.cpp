#include "engine/source.h"

#include "arch/family/select.h"
#include "core/error.h"
#include "core/file.h"
#include "engine/engine_file.h"
#include "formats/checkpoint.h"

namespace osprey {

Model load_source(const SourceOptions& source) {
  const std::string name = source.source.string();
  require(!is_engine(MappedFile::open(source.source)->bytes()),
          "{}: is an engine already; give the checkpoint or model that it was built from", name);
  ImportRequest request{.source = name,
                        .checkpoint = read_checkpoint(source.source),
                        .config = source.config,
                        .overrides = source.overrides,
                        .height = source.height,
                        .width = source.width};
  if (!source.labels.empty()) request.categories = read_labels(source.labels);
  return in_context(name, [&] { return import_model(request); });
}

}  // namespace osprey

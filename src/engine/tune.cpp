#include "engine/tune.h"

#include "core/error.h"
#include "engine/runtime.h"
#include "engine/synthetic_photo.h"

namespace osprey {

void tune_engine(const std::filesystem::path& engine, const BuildOptions& options, ImportReport& report) {
  if (options.tuning.budget <= 0) return;
  if (const CudaReport cuda = cuda_report(); cuda.gpus.empty()) {
    report.remarks.push_back(fmt::format(
        "not tuned: {}; implementations are chosen when the engine first runs on a GPU", cuda.why_none));
    return;
  }
  try {
    const auto loaded = LoadedEngine::open(
        engine, {.device = options.device, .tuning = options.tuning, .progress = options.progress});
    DetectionSession session(loaded);
    const Image photo = synthetic_photo(loaded->graph());
    const std::vector<ImageView> photos(static_cast<std::size_t>(options.tuning_batch), photo);
    std::vector<std::vector<Proposal>> proposals;
    if (loaded->needs_proposals()) proposals.assign(photos.size(), synthetic_proposals(photo));
    session.detect(photos, {}, nullptr, proposals);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kDevice) throw;
    report.remarks.push_back(fmt::format("not tuned: {}", e.what()));
  }
}

}  // namespace osprey

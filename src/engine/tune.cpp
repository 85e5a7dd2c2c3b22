#include "engine/tune.h"

#include <random>

#include "core/error.h"
#include "engine/runtime.h"
#include "ops/resize_image.h"

namespace osprey {

Image synthetic_photo(const Graph& graph) {
  int height = 480, width = 640;
  for (const Node& node : graph.nodes()) {
    const auto* resize = node.op.as<ResizeImage>();
    if (!resize) continue;
    const bool canvas = resize->canvas_height > 0;
    height = canvas ? resize->canvas_height : resize->shortest;
    width = canvas ? resize->canvas_width : resize->longest;
  }
  Image out(width, height);
  std::mt19937 random(1);
  for (auto& p : out.pixels) p = static_cast<std::uint8_t>(random());
  return out;
}

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
    session.detect(photos, {});
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kDevice) throw;
    report.remarks.push_back(fmt::format("not tuned: {}", e.what()));
  }
}

}  // namespace osprey

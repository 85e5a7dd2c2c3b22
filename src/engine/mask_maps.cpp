#include "engine/mask_maps.h"

#include <algorithm>

#include "backends/mask_sampling.h"
#include "core/error.h"
#include "ops/rescale_keypoints.h"

namespace osprey {
namespace {

constexpr const char* kProbabilities = "mask_probs";
constexpr const char* kRows = "det_rows";

MaskSampling sampling_in(const Graph& graph) {
  for (const Node& node : graph.nodes())
    if (const auto* paste = node.op.as<PasteMasks>()) return sampling_of(paste->rule);
  return MaskSampling::kCentres;
}

}  // namespace

MaskMaps::MaskMaps(std::shared_ptr<const LoadedEngine> engine) : engine_(std::move(engine)) {
  if (engine_->graph().find(kProbabilities) == kNoValue)
    fail(ErrorCode::kUsage, "the engine gives no masks, so there are no heat maps of any");
}

void MaskMaps::ask(RunOptions& options) {
  const auto others = options.wanted;
  for (const char* name : {kProbabilities, kRows})
    if (std::find(others.begin(), others.end(), name) == others.end()) options.wanted.emplace_back(name);
  options.observe = [this, others, next = options.observe](const std::string& name, const Tensor& value) {
    if (name == kProbabilities) probabilities_ = value.copied();
    if (name == kRows) rows_ = value.copied();
    if (next && std::find(others.begin(), others.end(), name) != others.end()) next(name, value);
  };
}

std::vector<std::vector<std::uint8_t>> MaskMaps::best(const Detections& found, std::size_t count,
                                                      float threshold) const {
  std::vector<std::vector<std::uint8_t>> out;
  if (probabilities_.empty()) return out;
  const auto size = static_cast<std::size_t>(probabilities_.dim(1)), cells = size * size;
  PasteWorkspace workspace;
  for (std::size_t i = 0; i < found.items.size() && out.size() < count; ++i) {
    if (!(found.items[i].score > threshold)) continue;
    const auto row = static_cast<std::size_t>(rows_.values<std::int32_t>()[i]);
    auto& map =
        out.emplace_back(static_cast<std::size_t>(found.width) * static_cast<std::size_t>(found.height));
    paste_probabilities(probabilities_.values<float>().subspan(row * cells, cells), static_cast<int>(size),
                        found.items[i].box, found.height, found.width, workspace, map,
                        sampling_in(engine_->graph()));
  }
  return out;
}

float least_keypoint_score(const Graph& graph) {
  for (const Node& node : graph.nodes())
    if (const auto* rescale = node.op.as<RescaleKeypoints>(); rescale && rescale->logits) return 2;
  return 0.05f;
}

}  // namespace osprey

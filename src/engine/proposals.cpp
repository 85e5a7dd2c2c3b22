#include "engine/proposals.h"

#include <algorithm>
#include <random>

namespace osprey {

bool takes_proposals(const Graph& graph) { return graph.find("proposals") != kNoValue; }

Tensor proposal_rows(std::span<const std::vector<Proposal>* const> images) {
  std::int64_t count = 0;
  for (const auto* proposals : images) count += static_cast<std::int64_t>(proposals->size());
  Tensor out = Tensor::zeros(DType::kF32, {count, 5});
  float* to = count ? out.mutable_values<float>().data() : nullptr;
  for (std::size_t i = 0; i < images.size(); ++i) {
    std::vector<Proposal> sorted = *images[i];
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const Proposal& a, const Proposal& b) { return a.score > b.score; });
    for (const Proposal& p : sorted)
      for (const float v : {static_cast<float>(i), p.box.x0, p.box.y0, p.box.x1, p.box.y1}) *to++ = v;
  }
  return out;
}

std::vector<Proposal> synthetic_proposals(const ImageView& photo) {
  constexpr int kProposals = 1000;  // as many as Detectron2 takes
  std::mt19937 random(1);
  const auto within = [&](int extent) {
    return static_cast<float>(extent) * static_cast<float>(random()) /
           static_cast<float>(std::mt19937::max());
  };
  std::vector<Proposal> out(kProposals);
  for (Proposal& p : out)
    p.box = {within(photo.width), within(photo.height), within(photo.width), within(photo.height)};
  return out;
}

}  // namespace osprey

#include "arch/blocks/roi_pool.h"

#include <bit>

#include "ops/roi_align.h"

namespace osprey {

ValueId roi_pool(Net& net, const std::string& name, const RoiPooler& m, const Features& features,
                 ValueId rois) {
  RoiAlign op{.out = m.resolution,
              .samples = m.samples,
              .aligned = m.aligned,
              .first_level = std::countr_zero(static_cast<unsigned>(features.at(0).stride)),
              .level_epsilon = m.level_epsilon,
              .inclusive = m.inclusive};
  std::vector<ValueId> inputs;
  for (const Feature& f : features) {
    op.scales.push_back(1.0f / static_cast<float>(f.stride));
    inputs.push_back(f.value);
  }
  inputs.push_back(rois);
  return net.add(std::move(op), std::move(inputs), name);
}

}  // namespace osprey

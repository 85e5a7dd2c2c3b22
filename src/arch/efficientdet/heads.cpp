#include "arch/efficientdet/heads.h"

#include "arch/blocks/tf_layers.h"
#include "ops/add.h"

namespace osprey::efficientdet {
namespace {

ValueId predict(Net& net, const HeadNet& m, const std::string& prefix, int level, ValueId x) {
  const auto conv = [&](const std::string& layer, ValueId from, const TfConv& shape) {
    return m.separable ? tf_separable_conv(net, prefix + layer, from, shape)
                       : tf_conv(net, prefix + layer, from, shape);
  };
  for (int r = 0; r < m.repeats; ++r) {
    const std::string layer = std::to_string(r);
    const ValueId raw = conv(layer, x, {.out = m.width, .kernel = 3, .bias = true});
    const std::string norm = fmt::format("{}{}-bn-{}", prefix, r, level);
    const ValueId y =
        tf_activate(net, norm, tf_batch_norm(net, norm, raw, {.exact_factor = true}), m.activation);
    x = m.residual && r > 0 ? net.add(Add{}, {y, x}, norm + ".add") : y;
  }
  return conv("predict", x, {.out = m.out, .kernel = 3, .bias = true, .f32_out = true});
}

}  // namespace

std::vector<ValueId> head_net(Net& net, const HeadNet& m, const Features& levels) {
  const std::string prefix = fmt::format("{0}_net/{0}-", m.name);
  std::vector<ValueId> out;
  for (std::size_t i = 0; i < levels.size(); ++i)
    out.push_back(predict(net, m, prefix, m.min_level + static_cast<int>(i), levels[i].value));
  return out;
}

}  // namespace osprey::efficientdet

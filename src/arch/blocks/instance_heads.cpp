#include "arch/blocks/instance_heads.h"

#include "arch/blocks/layers.h"
#include "ops/upsample.h"

namespace osprey {

ValueId mask_head(Net& net, const std::string& prefix, const MaskHead& m, ValueId crops) {
  ValueId x = crops;
  for (int i = 1; i <= m.convs; ++i)
    x = conv(net, fmt::format("{}mask_fcn{}", prefix, i), x,
             {.out = m.width, .kernel = 3, .batch_norm = m.batch_norm, .relu = true});
  x = deconv(net, prefix + "deconv", x, {.out = m.width, .relu = true});
  return conv(net, prefix + "predictor", x, {.out = m.classes, .f32_out = true});
}

ValueId keypoint_head(Net& net, const std::string& prefix, const KeypointHead& m, ValueId crops) {
  ValueId x = crops;
  for (std::size_t i = 0; i < m.widths.size(); ++i)
    x = conv(net, fmt::format("{}conv_fcn{}", prefix, i + 1), x,
             {.out = m.widths[i], .kernel = 3, .relu = true});
  const DeconvLayer lowres{.out = m.keypoints, .kernel = 4, .stride = 2, .pad = 1, .f32_out = true};
  x = deconv(net, prefix + "score_lowres", x, lowres);
  return net.add(Upsample{.mode = Interpolation::kBilinear, .scale = 2}, {x}, prefix + "upsample");
}

}  // namespace osprey

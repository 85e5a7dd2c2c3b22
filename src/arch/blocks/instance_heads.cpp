#include "arch/blocks/instance_heads.h"

#include "ops/upsample.h"

namespace osprey {

ValueId mask_features(Net& net, const std::string& prefix, const MaskHead& m, ValueId crops) {
  ValueId x = crops;
  for (std::size_t i = 0; i < m.widths.size(); ++i)
    x = conv(net, fmt::format("{}mask_fcn{}", prefix, i + 1), x,
             {.out = m.widths[i],
              .kernel = 3,
              .dilation = m.dilation,
              .batch_norm = m.batch_norm,
              .group_norm = m.group_norm,
              .relu = true});
  return x;
}

ValueId mask_logits(Net& net, const std::string& prefix, const MaskHead& m, ValueId features) {
  ValueId x = features;
  if (m.upsampled > 0) x = deconv(net, prefix + m.deconv, x, {.out = m.upsampled, .relu = true});
  return conv(net, prefix + m.predictor, x, {.out = m.classes, .f32_out = true});
}

ValueId mask_head(Net& net, const std::string& prefix, const MaskHead& m, ValueId crops) {
  return mask_logits(net, prefix, m, mask_features(net, prefix, m, crops));
}

ValueId keypoint_features(Net& net, const std::string& prefix, const KeypointHead& m, ValueId crops) {
  ValueId x = crops;
  for (std::size_t i = 0; i < m.widths.size(); ++i)
    x = conv(net, fmt::format("{}conv_fcn{}", prefix, i + 1), x,
             {.out = m.widths[i], .kernel = 3, .relu = true});
  return x;
}

ValueId keypoint_heatmaps(Net& net, const std::string& prefix, const KeypointHead& m, ValueId features) {
  const DeconvLayer lowres{.out = m.keypoints, .kernel = 4, .stride = 2, .pad = 1, .f32_out = true};
  const ValueId x = deconv(net, prefix + m.lowres, features, lowres);
  return net.add(Upsample{.mode = Interpolation::kBilinear, .scale = 2}, {x}, prefix + "upsample");
}

ValueId keypoint_head(Net& net, const std::string& prefix, const KeypointHead& m, ValueId crops) {
  return keypoint_heatmaps(net, prefix, m, keypoint_features(net, prefix, m, crops));
}

}  // namespace osprey

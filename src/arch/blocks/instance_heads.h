// What is predicted for each detection: masks and keypoints (He et al. 2017).
// Weight names: "<prefix>mask_fcn1", "<prefix>deconv", "<prefix>predictor"; "<prefix>conv_fcn1",
// "<prefix>score_lowres".
#pragma once

#include <string>
#include <vector>

#include "arch/blocks/layers.h"

namespace osprey {

struct MaskHead {
  std::vector<int> widths{256, 256, 256, 256};  // of the 3x3 convolutions
  int dilation = 1;                             // of them
  bool batch_norm = false;                      // of them
  GroupNormLayer group_norm = {};               // of them
  int upsampled = 256;                          // channels of the 2x2 deconvolution; 0: there is none
  int classes = 80;                             // maps; 1 where masks are class-agnostic
  std::string deconv = "deconv", predictor = "predictor";  // their names
};
// What the convolutions make of crops [D,C,S,S].
ValueId mask_features(Net& net, const std::string& prefix, const MaskHead& m, ValueId crops);
// Logits [D,classes,2S,2S] of features [D,C,S,S]; without a deconvolution [D,classes,S,S].
ValueId mask_logits(Net& net, const std::string& prefix, const MaskHead& m, ValueId features);
ValueId mask_head(Net& net, const std::string& prefix, const MaskHead& m, ValueId crops);

struct KeypointHead {
  std::vector<int> widths{512, 512, 512, 512, 512, 512, 512, 512};  // of the 3x3 convolutions
  int keypoints = 17;
  std::string lowres = "score_lowres";  // the deconvolution's name
};
ValueId keypoint_features(Net& net, const std::string& prefix, const KeypointHead& m, ValueId crops);
// Heat maps f32[D,keypoints,4S,4S] of features [D,C,S,S].
ValueId keypoint_heatmaps(Net& net, const std::string& prefix, const KeypointHead& m, ValueId features);
ValueId keypoint_head(Net& net, const std::string& prefix, const KeypointHead& m, ValueId crops);

}  // namespace osprey

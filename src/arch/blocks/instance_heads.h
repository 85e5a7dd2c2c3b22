// What is predicted for each detection: masks and keypoints (He et al. 2017).
// Weight names: "<prefix>mask_fcn1", "<prefix>deconv", "<prefix>predictor"; "<prefix>conv_fcn1",
// "<prefix>score_lowres".
#pragma once

#include <string>
#include <vector>

#include "graph/net.h"

namespace osprey {

struct MaskHead {
  int convs = 4, width = 256;
  bool batch_norm = false;  // of the convolutions
  int classes = 80;         // maps; 1 where masks are class-agnostic
};
// Logits [D,classes,2S,2S] of crops [D,C,S,S].
ValueId mask_head(Net& net, const std::string& prefix, const MaskHead& m, ValueId crops);

struct KeypointHead {
  std::vector<int> widths{512, 512, 512, 512, 512, 512, 512, 512};  // of the 3x3 convolutions
  int keypoints = 17;
};
// Heat maps f32[D,keypoints,4S,4S] of crops [D,C,S,S].
ValueId keypoint_head(Net& net, const std::string& prefix, const KeypointHead& m, ValueId crops);

}  // namespace osprey

// Crops of the feature maps under boxes.
#pragma once

#include <string>

#include "arch/blocks/features.h"

namespace osprey {

struct RoiPooler {
  int resolution = 7;
  int samples = 0;              // a side of a bin; 0: as many as the box has feature pixels
  bool aligned = true;          // ROIAlignV2
  bool inclusive = false;       // graph/box_rules.h
  float level_epsilon = 1e-8f;  // ops/roi_align.h
};

ValueId roi_pool(Net& net, const std::string& name, const RoiPooler& m, const Features& features,
                 ValueId rois);

}  // namespace osprey

// Feature pyramid (Lin et al. 2017): 1x1 laterals, nearest top-down sums, a 3x3 on each level.
// Weight names: "<prefix>fpn_lateral5", "<prefix>fpn_output5", and "<prefix>top_block.{p6,p7}" of RetinaNet,
// unless `names` has others.
#pragma once

#include <string>

#include "arch/blocks/features.h"
#include "arch/blocks/layers.h"

namespace osprey {

struct Fpn {
  int width = 256;
  bool batch_norm = false;
  GroupNormLayer group_norm = {};
  enum class Top {
    kMaxPool,      // one level more: every second pixel of the last
    kConvs,        // two levels more: 3x3 stride 2 on res5, and again behind a ReLU (RetinaNet)
    kConvsOnLast,  // the same on the last level instead of res5
  } top = Top::kMaxPool;
  struct Names {
    std::string lateral = "fpn_lateral", output = "fpn_output", top = "top_block";
    int first = 2;  // the number that level 2's have
  } names = {};
};

// p2, p3, ... of features with strides 4, 8, ..., each twice the one before; `res5` is what kConvs starts
// from.
Features fpn(Net& net, const std::string& prefix, const Fpn& m, const Features& bottom_up, ValueId res5);

}  // namespace osprey

// Architectures of FBNets (Wu et al. 2019; ChamNet: Dai et al. 2019) as maskrcnn-benchmark describes them:
// blocks in stages, and which stages the trunk and each head are made of. Widths are those before scaling.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/maskrcnn_benchmark/config.h"

namespace osprey::maskrcnn_benchmark {

// An inverted residual: a 1x1 convolution that widens, a depthwise one, and a 1x1 that narrows.
struct FbnetOp {
  std::string_view name;  // "ir_k3"
  int kernel = 3;         // of the depthwise convolution; 1: there is none
  int expansion = 0;      // of the width; 0: as the block says
  bool twice = false;     // two depthwise convolutions, one after the other
  bool gated = false;     // squeeze and excitation at the end
};

struct FbnetBlock {
  FbnetOp op;
  int stage = 0, index = 0;  // within the stage
  double expansion = 1;
  int width = 0;   // it gives
  int stride = 1;  // -2, -4: it enlarges, by repeating pixels
};

struct FbnetArch {
  std::vector<int> first;  // width, stride and kernel of the first convolution
  std::vector<FbnetBlock> blocks;
  // Of "backbone", "rpn", "bbox", "mask", "kpts" and "head" (of a head without an entry).
  std::map<std::string, std::vector<int>, std::less<>> stages;
  int last_width = 0;                  // of a head's last convolution
  std::optional<int> rpn_stride = {};  // that the config must have, too

  // The blocks of a part; all there are where the architecture does not say which.
  std::vector<FbnetBlock> blocks_of(std::string_view part) const;
};

// Of MODEL.FBNET.ARCH, an official name, or of the JSON text in MODEL.FBNET.ARCH_DEF.
FbnetArch fbnet_arch(const Config& config);

}  // namespace osprey::maskrcnn_benchmark

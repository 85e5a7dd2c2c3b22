// FBNet trunks and heads. Weight names: "<prefix>first.{conv,bn}", "<prefix>xif3_0.{pw,dw,pwl}.{conv,bn}"
// (block 0 of stage 3), "<block>.dw.{dw1,dw2}" of two depthwise convolutions, "<block>.se4.op.{1,3}" of its
// gates.
#pragma once

#include <string>
#include <vector>

#include "arch/maskrcnn_benchmark/config.h"
#include "core/named_tensor.h"
#include "graph/net.h"

namespace osprey::maskrcnn_benchmark {

bool has_fbnet_trunk(const Config& config);
ValueId fbnet_trunk(Net& net, const Config& config, ValueId image);

constexpr const char* kFbnetRpnHead = "FBNet.rpn_head";
// What the proposals' head makes of a level's map before its two predictors.
ValueId fbnet_rpn_features(Net& net, const Config& config, ValueId level);

// Of a head, the keys of its blocks ("MODEL.FBNET.DET_HEAD") and its part of the architecture ("bbox").
struct FbnetHead {
  const char* keys;
  const char* part;
};
constexpr FbnetHead kFbnetBox{"MODEL.FBNET.DET_HEAD", "bbox"}, kFbnetMask{"MODEL.FBNET.MASK_HEAD", "mask"},
    kFbnetKeypoint{"MODEL.FBNET.KPTS_HEAD", "kpts"};
// Features of crops; `prefix` is the extractor's.
ValueId fbnet_head_features(Net& net, const Config& config, const FbnetHead& head, const std::string& prefix,
                            ValueId crops);

// The gates' 1x1 convolutions as the matrices that fbnet blocks ask for.
std::vector<NamedTensor> with_gate_matrices(std::vector<NamedTensor> tensors);

}  // namespace osprey::maskrcnn_benchmark

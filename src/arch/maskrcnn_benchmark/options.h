// What a config says, as the options of the blocks that a model is made of. Each reads its own keys, and
// refuses by name what the block cannot do.
#pragma once

#include <string>
#include <vector>

#include "arch/blocks/box_head.h"
#include "arch/blocks/fpn.h"
#include "arch/blocks/instance_heads.h"
#include "arch/blocks/photo_io.h"
#include "arch/blocks/resnet.h"
#include "arch/blocks/retinanet_head.h"
#include "arch/blocks/roi_pool.h"
#include "arch/blocks/rpn.h"
#include "arch/maskrcnn_benchmark/config.h"

namespace osprey::maskrcnn_benchmark {

struct Backbone {
  ResNet trunk;
  int last_stage = 4;   // 2 to 5, which the framework calls layer1 to layer4
  int first_level = 0;  // of the pyramid, 2 or 3; 0: there is none
  Fpn fpn;
  int out_channels = 1024;
  int multiple = 1;  // what the image's extents must be multiples of
};
Backbone backbone_options(const Config& config);

// What the extents of images must be multiples of.
int size_multiple(const Config& config);

// `height` and `width`: of a fixed input, or 0.
PhotoInput input_options(const Config& config, int multiple, int height, int width);

// `given`: the anchors of the levels' cells as the checkpoint has them, or empty.
Rpn rpn_options(const Config& config, std::vector<float> given);
RetinaNetHead retinanet_options(const Config& config, std::vector<float> given);

// Network pixels between the anchors of each level.
std::vector<int> rpn_strides(const Config& config);
std::vector<int> retinanet_strides(const Config& config);

// Crops for "MODEL.ROI_BOX_HEAD" and the like.
struct Pooling {
  RoiPooler pooler;
  std::vector<int> strides;  // of the levels, finest first
};
Pooling pooling_options(const Config& config, const std::string& head);

BoxHead box_head_options(const Config& config);
BoxPredictor box_predictor_options(const Config& config);
std::vector<float> delta_weights(const Config& config);
DetectionRule detection_rule(const Config& config);
MaskHead mask_head_options(const Config& config);
KeypointHead keypoint_head_options(const Config& config);

// Of NUM_CLASSES, which counts the background.
int class_count(const Config& config);

}  // namespace osprey::maskrcnn_benchmark

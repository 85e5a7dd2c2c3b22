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
#include "arch/detectron2/config.h"

namespace osprey::detectron2 {

struct Backbone {
  ResNet trunk;
  int last_stage = 4;
  bool pyramid = false;
  Fpn fpn;
  std::vector<std::string> outputs;     // of the trunk
  std::vector<std::string> fpn_inputs;  // which of them the pyramid takes
  int multiple = 1;                     // what the image's extents must be multiples of
};
Backbone backbone_options(const Config& config);

// `height` and `width`: of a fixed input, or 0.
PhotoInput input_options(const Config& config, int multiple, int height, int width);

Rpn rpn_options(const Config& config);
GivenProposals given_proposal_options(const Config& config);
RetinaNetHead retinanet_options(const Config& config);

// Of "MODEL.ROI_BOX_HEAD" and the like.
RoiPooler pooler_options(const Config& config, const std::string& head);
BoxHead box_head_options(const Config& config);
BoxPredictor box_predictor_options(const Config& config);
// Box-delta weights of each stage; one stage unless it is a cascade.
std::vector<std::vector<float>> stage_delta_weights(const Config& config);
DetectionRule detection_rule(const Config& config);
MaskHead mask_head_options(const Config& config);
KeypointHead keypoint_head_options(const Config& config);

}  // namespace osprey::detectron2

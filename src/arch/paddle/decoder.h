// RT-DETR's query selection and decoder, and Mask RT-DETR's (PaddleDetection's
// ppdet/modeling/transformers/{rtdetr_transformer,mask_rtdetr_transformer}.py): the best tokens of the
// encoder become queries, whose boxes each layer refines. Weight names: "transformer.enc_output.0",
// "transformer.decoder.layers.0.self_attn", ...
#pragma once

#include "arch/paddle/hybrid_encoder.h"

namespace osprey::paddle {

struct Decoder {
  int width = 256, classes = 80, queries = 300;
  int heads = 8, points = 4, feedforward = 1024;
  LayerActivation activation = LayerActivation::kRelu;
  int layers = 6;  // that run: those behind the one whose detections count are left out
  bool masks = false;
  bool boxes_from_masks = true;  // of masks: the decoder starts from the boxes around the encoder's masks
  int prototypes = 32;           // of masks: channels
};

// What the last layer says of each query, f32 [N*queries, ...].
struct Decoded {
  ValueId logits = kNoValue, boxes = kNoValue;
  ValueId mask_embeddings = kNoValue;  // [N*queries, prototypes]
};
Decoded decode(Net& net, const Decoder& m, const Encoded& encoded);

}  // namespace osprey::paddle

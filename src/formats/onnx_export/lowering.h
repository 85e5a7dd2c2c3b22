// The ops that ONNX has no single word for, in ONNX's words: one function each, listed in lowerings.cpp. A
// lowering reads the names of its inputs from the emitter and binds those of its outputs.
//
// In an exported graph the batch is one image, so that boxes are f32[M,4] without the image's index, groups
// and classes are i64, and the geometry is f32[4]: width, height, width, height, to which boxes are clipped.
// Of a DETR the batch may hold any number of images; rows of all images follow each other.
#pragma once

#include "formats/onnx_export/emitter.h"
#include "graph/box_rules.h"
#include "graph/enums.h"

namespace osprey {

using Lowering = void (*)(Emitter&, const Node&);

// Null for an op without one.
Lowering find_lowering(std::string_view op);

void lower_activate(Emitter& e, const Node& node);
void lower_conv(Emitter& e, const Node& node);
void lower_conv_transpose(Emitter& e, const Node& node);
void lower_dequantize(Emitter& e, const Node& node);
void lower_linear(Emitter& e, const Node& node);
void lower_quantize(Emitter& e, const Node& node);
void lower_quantized_conv(Emitter& e, const Node& node);
void lower_quantized_conv_transpose(Emitter& e, const Node& node);
void lower_quantized_linear(Emitter& e, const Node& node);
void lower_scale(Emitter& e, const Node& node);
void lower_scale_channels(Emitter& e, const Node& node);
void lower_squeeze_excite(Emitter& e, const Node& node);
void lower_upsample(Emitter& e, const Node& node);
void lower_weighted_sum(Emitter& e, const Node& node);
void lower_select_anchors(Emitter& e, const Node& node);
void lower_detect_anchors(Emitter& e, const Node& node);
void lower_nms(Emitter& e, const Node& node);
void lower_rescale_boxes(Emitter& e, const Node& node);
void lower_roi_align(Emitter& e, const Node& node);
void lower_decode_boxes(Emitter& e, const Node& node);
void lower_select_boxes(Emitter& e, const Node& node);
void lower_select_class(Emitter& e, const Node& node);
void lower_attention(Emitter& e, const Node& node);
void lower_center_queries(Emitter& e, const Node& node);
void lower_combine_rows(Emitter& e, const Node& node);
void lower_deformable_attention(Emitter& e, const Node& node);
void lower_detect_queries(Emitter& e, const Node& node);
void lower_gather_rows(Emitter& e, const Node& node);
void lower_gelu(Emitter& e, const Node& node);
void lower_group_norm(Emitter& e, const Node& node);
void lower_layer_norm(Emitter& e, const Node& node);
void lower_mask_boxes(Emitter& e, const Node& node);
void lower_mask_logits(Emitter& e, const Node& node);
void lower_refine_boxes(Emitter& e, const Node& node);
void lower_select_queries(Emitter& e, const Node& node);
void lower_token_map(Emitter& e, const Node& node);
void lower_tokens(Emitter& e, const Node& node);

std::string emit_activation(Emitter& e, const std::string& x, Activation kind);
// x with every pixel repeated `scale` times each way.
std::string emit_repeat(Emitter& e, const std::string& x, int scale);

// Boxes f32[M,4] moved by deltas f32[M,4], as ops/select_anchors.h says; max_log_scale 0: no limit.
std::string emit_decode(Emitter& e, const std::string& boxes, const std::string& deltas,
                        const std::vector<float>& weights, float max_log_scale,
                        DeltaOrder order = DeltaOrder::kXywh, bool inclusive = false);
// f32[M]: the shorter side of each box, without the +1 of inclusive ones.
std::string emit_extent(Emitter& e, const std::string& boxes);
std::string emit_clip(Emitter& e, const std::string& boxes, const std::string& geometry,
                      bool inclusive = false);

}  // namespace osprey

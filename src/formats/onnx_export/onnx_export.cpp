#include "formats/onnx_export/onnx_export.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "formats/onnx_export/lowering.h"
#include "formats/onnx_ops.h"
#include "ops/detect_queries.h"
#include "ops/normalize_image.h"
#include "ops/resize_image.h"
#include "ops/resize_masks.h"
#include "osprey/version.h"

namespace osprey {
namespace {

using Json = nlohmann::json;

// The values of the graph between which it is exported.
struct Ends {
  const NormalizeImage* normalize = nullptr;
  const ResizeImage* resize = nullptr;
  ValueId image = kNoValue, geometry = kNoValue;
  ValueId boxes = kNoValue, scores = kNoValue, classes = kNoValue;
  ValueId masks = kNoValue, heatmaps = kNoValue;
  const DetectQueries* queries = nullptr;    // of a DETR, whose batches may hold any number of images
  const ResizeMasks* whole_masks = nullptr;  // masks are logits of whole images

  Dim batch() const { return queries ? Dim::symbol("batch") : Dim(1); }
  Dim detections() const { return queries ? Dim(queries->top) : Dim::symbol("detections"); }
};

Ends find_ends(const Graph& graph) {
  Ends out;
  for (const Node& node : graph.nodes()) {
    if (const auto* resize = node.op.as<ResizeImage>()) out.resize = resize, out.geometry = node.outputs[1];
    if (const auto* normalize = node.op.as<NormalizeImage>())
      out.normalize = normalize, out.image = node.outputs[0];
    if (node.op.name() == "paste_masks") out.masks = node.inputs[0];
    if (node.op.name() == "decode_keypoints") out.heatmaps = node.inputs[0];
    if (const auto* queries = node.op.as<DetectQueries>()) out.queries = queries;
    if (const auto* masks = node.op.as<ResizeMasks>()) out.whole_masks = masks, out.masks = node.inputs[0];
  }
  // A network of nothing else gives its proposals out; within a detector they are a stage.
  const ValueId given = graph.find("proposal_boxes");
  const bool proposals = given != kNoValue && graph.is_output(given);
  out.boxes = proposals ? given : graph.find("det_boxes_net");
  const bool logits = proposals && graph.find("proposal_logits") != kNoValue;
  out.scores = graph.find(logits ? "proposal_logits" : "det_scores");
  out.classes = graph.find("det_classes");
  require(out.normalize && out.resize && out.boxes != kNoValue && out.scores != kNoValue &&
              (proposals || out.classes != kNoValue),
          "only detectors can be exported, and this model has no photos or detections");
  require(out.normalize->to == FloatType::kF32,
          "only f32 models can be exported, and this one computes in {}",
          name_of(dtype_of(out.normalize->to)));
  return out;
}

// Which nodes lie between the image and the results.
std::vector<bool> needed_nodes(const Graph& graph, const Ends& ends) {
  std::vector<bool> value(graph.values().size(), false), node(graph.nodes().size(), false);
  const auto want = [&](ValueId id) {
    if (id != kNoValue && id != ends.image && id != ends.geometry) value[static_cast<std::size_t>(id)] = true;
  };
  for (const ValueId id : {ends.boxes, ends.scores, ends.classes, ends.masks, ends.heatmaps}) want(id);
  for (std::size_t i = graph.nodes().size(); i-- > 0;) {
    for (const ValueId id : graph.nodes()[i].outputs)
      if (value[static_cast<std::size_t>(id)]) node[i] = true;
    if (node[i])
      for (const ValueId id : graph.nodes()[i].inputs) want(id);
  }
  return node;
}

// Whether `image` has the network's extents: a canvas that the photo was stretched to, or placed in.
bool is_canvas(const Ends& ends) {
  const Fit fit = ends.resize->fit;
  return ends.normalize->canvas_height > 0 && (fit == Fit::kShortestEdge || fit == Fit::kStretch);
}

TensorType image_type(const Ends& ends, bool channels_last) {
  const NormalizeImage& n = *ends.normalize;
  const bool canvas = is_canvas(ends);
  const Dim height = canvas ? Dim(n.canvas_height) : Dim::symbol("height");
  const Dim width = canvas ? Dim(n.canvas_width) : Dim::symbol("width");
  if (channels_last) return {DType::kF32, {ends.batch(), height, width, 3}};
  return {DType::kF32, {ends.batch(), 3, height, width}};
}

// How many rows or columns reach the next multiple: -extent mod multiple.
std::string padding(Emitter& e, const std::string& extents, int multiple) {
  return e.op("Mod", {e.op("Neg", {extents}), e.ints({multiple})});
}

// Zeros to the right of and below x, so many rows and columns: i64[2].
std::string emit_padding(Emitter& e, const std::string& x, const std::string& rows_columns) {
  return e.op("Pad",
              {x, e.op("Concat", {e.ints({0, 0, 0, 0, 0, 0}), rows_columns}, {{"axis", std::int64_t{0}}})});
}

// (x * scale - mean) / std; without mean and std, x * scale.
std::string emit_normalized(Emitter& e, std::string x, float scale, const std::vector<float>& mean,
                            const std::vector<float>& std) {
  if (scale != 1) x = e.op("Mul", {x, e.number(scale)});
  if (mean.empty()) return x;
  x = e.op("Sub", {x, e.floats(mean, {1, 3, 1, 1})});
  return e.op("Div", {x, e.floats(std, {1, 3, 1, 1})});
}

// What boxes are clipped to (ops/resize_image.h): the image, or with EfficientDet's fit the canvas around it.
std::string emit_geometry(Emitter& e, const Ends& ends, const std::string& height_width) {
  if (ends.resize->fit == Fit::kTruncate) {
    const auto h = static_cast<float>(ends.resize->canvas_height);
    const auto w = static_cast<float>(ends.resize->canvas_width);
    return e.floats({w, h, w, h});
  }
  return e.cast(e.take(height_width, e.ints({1, 0, 1, 0})), DType::kF32);
}

void emit_input(Emitter& e, const Ends& ends, bool channels_last) {
  const NormalizeImage& n = *ends.normalize;
  const ResizeImage& r = *ends.resize;
  e.enter("input");
  set_onnx_type(*e.file().model.mutable_graph()->add_input(), "image", image_type(ends, channels_last));
  std::string x = "image";
  if (channels_last) x = e.op("Transpose", {x}, {{"perm", std::vector<std::int64_t>{0, 3, 1, 2}}});
  const std::string extents = e.take(e.op("Shape", {x}), e.ints({2, 3}));
  e.bind(ends.geometry, emit_geometry(e, ends, extents));
  if (r.bgr) x = e.op("Gather", {x, e.ints({2, 1, 0})}, {{"axis", std::int64_t{1}}});
  // What happens to pixels before they are resized can as well happen after it: both are linear.
  if (r.to_float()) x = emit_normalized(e, x, r.scale, r.mean, r.std);
  if (r.fills_canvas() && !is_canvas(ends))
    x = emit_padding(e, x, e.op("Sub", {e.ints({r.canvas_height, r.canvas_width}), extents}));
  x = emit_normalized(e, x, n.scale, n.mean, n.std);
  if (n.canvas_height == 0 && n.multiple > 1) x = emit_padding(e, x, padding(e, extents, n.multiple));
  e.bind(ends.image, x);
}

// Proposals made beforehand are a second input, as boxes of the one image.
void emit_proposals(Emitter& e) {
  const ValueId proposals = e.graph().find("proposals");
  if (proposals == kNoValue) return;
  set_onnx_type(*e.file().model.mutable_graph()->add_input(), "proposals",
                {DType::kF32, {Dim::symbol("proposals"), 4}});
  e.bind(proposals, "proposals");
}

void emit_standard(Emitter& e, const Node& node) {
  SpeltNode spelt = spell(node);
  spelt.proto.set_name(e.unique(node.name));
  spelt.proto.clear_doc_string();
  for (const ValueId id : node.inputs) spelt.proto.add_input(id == kNoValue ? "" : e.name(id));
  if (spelt.scale != 0) {
    const auto s = static_cast<float>(spelt.scale);
    spelt.proto.add_input("");
    spelt.proto.add_input(e.floats({1, 1, s, s}));
  }
  for (const ValueId id : node.outputs) {
    spelt.proto.add_output(e.graph().value(id).name);
    e.bind(id, e.graph().value(id).name);
  }
  *e.file().model.mutable_graph()->add_node() = std::move(spelt.proto);
}

void emit_node(Emitter& e, const Node& node) {
  e.enter(node.name);
  if (find_spelling(node)) {
    emit_standard(e, node);
  } else {
    const Lowering lower = find_lowering(node.op.name());
    require(lower != nullptr, "{}: {} cannot be exported with these attributes", node.name, node.op.name());
    lower(e, node);
  }
}

void emit_weights(Emitter& e) {
  const Graph& graph = e.graph();
  for (const Weight& w : graph.weights()) {
    const Value& value = graph.value(w.value);
    OnnxWeight out{.name = value.name, .dtype = value.type.dtype, .shape = {}, .load = w.load};
    for (const Dim& d : value.type.dims) out.shape.push_back(d.constant());
    e.file().weights.push_back(std::move(out));
    e.bind(w.value, value.name);
  }
}

// The graph, none of whose values has the name of a result.
Graph apart_from_results(Graph graph) {
  for (const char* result : {"num_detections", "detection_boxes", "detection_scores", "detection_classes",
                             "detection_masks", "keypoint_heatmaps"})
    if (const ValueId id = graph.find(result); id != kNoValue)
      graph.rename(id, fmt::format("{}:stage", result));
  return graph;
}

// A result of the model, whose type is f32[batch, of_image...]: one image's gets an axis in front, rows of a
// batch are dealt out.
void emit_output(Emitter& e, const Ends& ends, const char* name, const std::string& value, DType type,
                 const std::vector<Dim>& of_image) {
  onnx::GraphProto& graph = *e.file().model.mutable_graph();
  std::vector<std::int64_t> shape{-1};
  if (ends.queries)
    for (const Dim& dim : of_image) shape.push_back(dim.constant());
  const std::string second = e.ints(ends.queries ? shape : std::vector<std::int64_t>{0});
  onnx::NodeProto& node = *graph.add_node();
  node.set_name(name);
  node.set_op_type(ends.queries ? "Reshape" : "Unsqueeze");
  node.add_input(value);
  node.add_input(second);
  node.add_output(name);
  TensorType out{type, {ends.batch()}};
  out.dims.insert(out.dims.end(), of_image.begin(), of_image.end());
  set_onnx_type(*graph.add_output(), name, out);
}

// i32: how many there are, or of a DETR, whose images have equally many, how many of each are above the
// threshold.
std::string emit_count(Emitter& e, const Ends& ends, const std::string& scores) {
  if (!ends.queries) return e.cast(e.length(scores), DType::kI32);
  const std::string by_image = e.reshape(scores, {-1, ends.queries->top});
  const std::string above = e.op("Greater", {by_image, e.number(ends.queries->threshold)});
  return e.cast(e.op("ReduceSum", {e.cast(above, DType::kI64), e.ints({1})}), DType::kI32);
}

// Logits of whole images, enlarged to them, then cut off at the threshold: u8[N,D,height,width].
std::string emit_whole_masks(Emitter& e, const Ends& ends) {
  const auto& dims = e.graph().value(ends.masks).type.dims;
  const std::string maps =
      e.reshape(e.name(ends.masks), {-1, ends.queries->top, dims[1].constant(), dims[2].constant()});
  const std::string kept = e.op("Shape", {maps}, {{"start", std::int64_t{0}}, {"end", std::int64_t{2}}});
  const std::string sizes =
      e.op("Concat", {kept, e.ints({ends.normalize->canvas_height, ends.normalize->canvas_width})},
           {{"axis", std::int64_t{0}}});
  const std::string logits =
      e.op("Resize", {maps, "", "", sizes},
           {{"mode", std::string("linear")}, {"coordinate_transformation_mode", std::string("half_pixel")}});
  const float threshold = ends.whole_masks->threshold;
  return e.cast(e.op("Greater", {logits, e.number(std::log(threshold / (1 - threshold)))}), DType::kU8);
}

void emit_outputs(Emitter& e, const Ends& ends) {
  const Dim d = ends.detections();
  e.enter("output");
  const auto extent = [&](ValueId id, std::size_t axis) { return e.graph().value(id).type.dims.at(axis); };
  emit_output(e, ends, "num_detections", emit_count(e, ends, e.name(ends.scores)), DType::kI32, {1});
  emit_output(e, ends, "detection_boxes", e.name(ends.boxes), DType::kF32, {d, 4});
  emit_output(e, ends, "detection_scores", e.name(ends.scores), DType::kF32, {d});
  const std::string classes = ends.classes != kNoValue
                                  ? e.name(ends.classes)
                                  : e.op("Expand", {e.ints({0}), e.length(e.name(ends.scores))});
  emit_output(e, ends, "detection_classes", e.cast(classes, DType::kI32), DType::kI32, {d});
  if (ends.whole_masks)
    emit_output(e, ends, "detection_masks", emit_whole_masks(e, ends), DType::kU8,
                {d, ends.normalize->canvas_height, ends.normalize->canvas_width});
  else if (ends.masks != kNoValue)
    emit_output(e, ends, "detection_masks", e.name(ends.masks), DType::kF32,
                {d, extent(ends.masks, 1), extent(ends.masks, 2)});
  if (ends.heatmaps != kNoValue)
    emit_output(e, ends, "keypoint_heatmaps", e.name(ends.heatmaps), DType::kF32,
                {d, extent(ends.heatmaps, 1), extent(ends.heatmaps, 2), extent(ends.heatmaps, 3)});
}

const char* rule_name(ResizeRule rule) {
  switch (rule) {
    case ResizeRule::kTfBilinear:
      return "TensorFlow 1 bilinear (half_pixel_centers false, align_corners false)";
    case ResizeRule::kTfHalfPixel:
      return "TensorFlow 2 bilinear (half-pixel centers, no antialias)";
    case ResizeRule::kCvCubic:
      return "OpenCV bicubic (INTER_CUBIC)";
    case ResizeRule::kPilBilinear:
      break;
  }
  return "Pillow bilinear";
}

// How a photo becomes `image`, in the terms of the framework's config.
Json input_rule(const Ends& ends) {
  const NormalizeImage& n = *ends.normalize;
  const ResizeImage& r = *ends.resize;
  Json out{{"resize", rule_name(r.rule)}};
  switch (r.fit) {
    case Fit::kStretch:
      out.update({{"height", r.canvas_height}, {"width", r.canvas_width}, {"fit", "stretch"}});
      return out;
    case Fit::kKeepAspect:
      out.update({{"min_dimension", r.shortest}, {"max_dimension", r.longest}, {"fit", "keep_aspect_ratio"}});
      return out;
    case Fit::kTruncate:
      out.update({{"within_height", r.canvas_height}, {"within_width", r.canvas_width}, {"fit", "truncate"}});
      return out;
    case Fit::kShortSide:
      out.update({{"shortest_edge", r.shortest}, {"longest_edge", r.longest}, {"fit", "short_side"}});
      return out;
    case Fit::kShortestEdge:
      break;
  }
  if (n.canvas_height == 0) {
    out.update({{"shortest_edge", r.shortest}, {"longest_edge", r.longest}});
    return out;
  }
  std::vector<float> fill = n.fill;
  if (r.bgr) std::reverse(fill.begin(), fill.end());
  out.update({{"height", n.canvas_height}, {"width", n.canvas_width}, {"place", "top left"}, {"fill", fill}});
  return out;
}

void describe(onnx::ModelProto& to, const Model& model, const Ends& ends) {
  to.set_ir_version(8);
  to.set_producer_name("osprey export");
  to.set_producer_version(kVersion);
  to.set_doc_string(fmt::format("{}; image: RGB, 0..255; detection_boxes: x0, y0, x1, y1 in pixels of image",
                                model.description));
  auto& opset = *to.add_opset_import();
  opset.set_domain("");
  opset.set_version(kOnnxOpset);
  Json names = Json::array();
  for (const Category& c : model.categories) names.push_back(c.name);
  const Json input = input_rule(ends);
  for (const auto& [key, value] :
       {std::pair<const char*, const Json&>{"names", names}, {"osprey.input", input}}) {
    auto& entry = *to.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
}

}  // namespace

void export_onnx(const Model& model, const std::filesystem::path& file, bool channels_last,
                 const std::function<void(double)>& progress) {
  const Graph graph = apart_from_results(model.graph);
  const Ends ends = find_ends(graph);
  const std::vector<bool> needed = needed_nodes(graph, ends);
  Emitter e(graph);
  emit_weights(e);
  emit_input(e, ends, channels_last);
  emit_proposals(e);
  for (std::size_t i = 0; i < graph.nodes().size(); ++i)
    if (needed[i]) emit_node(e, graph.nodes()[i]);
  emit_outputs(e, ends);
  describe(e.file().model, model, ends);
  write_onnx_file(file, e.file(), progress);
}

}  // namespace osprey

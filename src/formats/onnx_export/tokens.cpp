// Ops on tokens, rows [N*T,C] of a batch of N images. Within attention, rows are [N,T,C].
#include <cmath>

#include "formats/onnx_export/lowering.h"
#include "ops/attention.h"
#include "ops/combine_rows.h"
#include "ops/deformable_attention.h"
#include "ops/layer_norm.h"
#include "ops/token_map.h"

namespace osprey {
namespace {

Attributes perm(std::vector<std::int64_t> axes) { return {{"perm", std::move(axes)}}; }
Attributes axis(std::int64_t a) { return {{"axis", a}}; }

std::int64_t extent(const Emitter& e, ValueId id, std::size_t i) {
  return e.graph().value(id).type.dims.at(i).constant();
}

// x[.., begin:end] of an axis.
std::string slice(Emitter& e, const std::string& x, std::int64_t begin, std::int64_t end,
                  std::int64_t along) {
  return e.op("Slice", {x, e.ints({begin}), e.ints({end}), e.ints({along})});
}

// [N*T,heads*size] -> [N,T,heads,size], its axes in another order.
std::string by_head(Emitter& e, const std::string& x, std::int64_t tokens, std::int64_t heads,
                    std::int64_t size, std::vector<std::int64_t> axes) {
  return e.op("Transpose", {e.reshape(x, {-1, tokens, heads, size})}, perm(std::move(axes)));
}

}  // namespace

void lower_tokens(Emitter& e, const Node& node) {
  const std::int64_t channels = extent(e, node.inputs[0], 1);
  std::vector<std::string> parts;
  for (const ValueId id : node.inputs) {
    const std::int64_t pixels = extent(e, id, 2) * extent(e, id, 3);
    parts.push_back(e.reshape(e.op("Transpose", {e.name(id)}, perm({0, 2, 3, 1})), {-1, pixels, channels}));
  }
  const std::string all = parts.size() == 1 ? parts[0] : e.op("Concat", parts, axis(1));
  e.bind(node.outputs[0], e.reshape(all, {-1, channels}));
}

void lower_token_map(Emitter& e, const Node& node) {
  const TokenMap& op = *node.op.as<TokenMap>();
  const std::string rows =
      e.reshape(e.name(node.inputs[0]), {-1, op.height, op.width, extent(e, node.inputs[0], 1)});
  e.bind(node.outputs[0], e.op("Transpose", {rows}, perm({0, 3, 1, 2})));
}

void lower_combine_rows(Emitter& e, const Node& node) {
  const CombineRows& op = *node.op.as<CombineRows>();
  const char* const type = op.rule == CombineRule::kAdd ? "Add" : "Mul";
  const std::string &x = e.name(node.inputs[0]), &table = e.name(node.inputs[1]);
  const std::int64_t tokens = extent(e, node.inputs[1], 0), channels = extent(e, node.inputs[0], 1);
  if (node.inputs.size() > 2 && node.inputs[2] != kNoValue) {
    const std::string entries = e.take(table, e.op("Mod", {e.name(node.inputs[2]), e.number(tokens)}));
    e.bind(node.outputs[0], e.op(type, {x, entries}));
    return;
  }
  const std::string both = e.op(type, {e.reshape(x, {-1, tokens, channels}), table});
  e.bind(node.outputs[0], e.reshape(both, {-1, channels}));
}

void lower_gather_rows(Emitter& e, const Node& node) {
  e.bind(node.outputs[0], e.take(e.name(node.inputs[0]), e.name(node.inputs[1])));
}

void lower_gelu(Emitter& e, const Node& node) {
  const std::string& x = e.name(node.inputs[0]);
  const std::string error = e.op("Erf", {e.op("Mul", {x, e.number(0.707106781f)})});
  e.bind(node.outputs[0],
         e.op("Mul", {e.op("Mul", {x, e.number(0.5f)}), e.op("Add", {error, e.number(1.0f)})}));
}

void lower_layer_norm(Emitter& e, const Node& node) {
  std::string x = e.name(node.inputs[0]);
  if (node.inputs.size() > 3 && node.inputs[3] != kNoValue) x = e.op("Add", {x, e.name(node.inputs[3])});
  const Attributes attributes{{"axis", std::int64_t{-1}}, {"epsilon", node.op.as<LayerNorm>()->epsilon}};
  e.bind(node.outputs[0],
         e.op("LayerNormalization", {x, e.name(node.inputs[1]), e.name(node.inputs[2])}, attributes));
}

void lower_attention(Emitter& e, const Node& node) {
  const Attention& op = *node.op.as<Attention>();
  const std::string& query_key = e.name(node.inputs[0]);
  const std::int64_t width = extent(e, node.inputs[1], 1), size = width / op.heads;
  const std::string query =
      by_head(e, slice(e, query_key, 0, width, 1), op.tokens, op.heads, size, {0, 2, 1, 3});
  const std::string key =
      by_head(e, slice(e, query_key, width, 2 * width, 1), op.tokens, op.heads, size, {0, 2, 3, 1});
  const std::string value = by_head(e, e.name(node.inputs[1]), op.tokens, op.heads, size, {0, 2, 1, 3});
  const std::string scores =
      e.op("Mul", {e.op("MatMul", {query, key}), e.number(1.0f / std::sqrt(static_cast<float>(size)))});
  const std::string mixed = e.op("MatMul", {e.op("Softmax", {scores}, axis(-1)), value});
  e.bind(node.outputs[0], e.reshape(e.op("Transpose", {mixed}, perm({0, 2, 1, 3})), {-1, width}));
}

// GridSample takes places from -1 to 1, with half-pixel centres and zeros outside: the op's rules.
void lower_deformable_attention(Emitter& e, const Node& node) {
  const DeformableAttention& op = *node.op.as<DeformableAttention>();
  const std::int64_t width = extent(e, node.inputs[0], 1), size = width / op.heads, levels = op.levels(),
                     heads = op.heads, points = op.points, queries = op.queries;
  // [N*Q,1,1,1,2] centres and extents; offsets [N*Q,heads,L,P,2].
  const auto part = [&](std::int64_t begin) {
    return e.reshape(e.columns(e.name(node.inputs[3]), begin, begin + 2), {-1, 1, 1, 1, 2});
  };
  const std::string offsets = e.reshape(e.name(node.inputs[1]), {-1, heads, levels, points, 2});
  const std::string reach = e.op("Mul", {part(2), e.number(0.5f)});
  const std::string shift =
      e.op("Mul", {e.op("Div", {offsets, e.number(static_cast<float>(points))}), reach});
  const std::string places = e.op("Add", {part(0), shift});
  const std::string grid = e.op("Sub", {e.op("Mul", {places, e.number(2.0f)}), e.number(1.0f)});
  // [N,heads,Q,L,P*2], so that a level's share is one of a batch of N*heads maps.
  const std::string by_image = e.reshape(grid, {-1, queries, heads, levels, points * 2});
  const std::string grids = e.op("Transpose", {by_image}, perm({0, 2, 1, 3, 4}));

  std::int64_t tokens = 0;
  for (std::size_t l = 0; l < op.sizes.size(); l += 2) tokens += std::int64_t{op.sizes[l]} * op.sizes[l + 1];
  const std::string value = by_head(e, e.name(node.inputs[0]), tokens, heads, size, {0, 2, 3, 1});
  std::vector<std::string> samples;  // [N*heads,size,Q,P] of each level
  std::int64_t first = 0;
  for (std::int64_t l = 0; l < levels; ++l) {
    const std::int64_t height = op.sizes[static_cast<std::size_t>(2 * l)],
                       columns = op.sizes[static_cast<std::size_t>(2 * l + 1)];
    const std::string map =
        e.reshape(slice(e, value, first, first + height * columns, 3), {-1, size, height, columns});
    first += height * columns;
    const std::string grid_of_level = e.reshape(slice(e, grids, l, l + 1, 3), {-1, queries, points, 2});
    samples.push_back(e.op("GridSample", {map, grid_of_level},
                           {{"mode", std::string("bilinear")},
                            {"padding_mode", std::string("zeros")},
                            {"align_corners", std::int64_t{0}}}));
  }
  const std::string all = samples.size() == 1 ? samples[0] : e.op("Concat", samples, axis(3));
  const std::string logits = by_head(e, e.name(node.inputs[2]), queries, heads, op.samples(), {0, 2, 1, 3});
  const std::string shares = e.reshape(e.op("Softmax", {logits}, axis(-1)), {-1, 1, queries, op.samples()});
  const std::string sum =
      e.op("ReduceSum", {e.op("Mul", {all, shares}), e.ints({3})}, {{"keepdims", std::int64_t{0}}});
  const std::string rows = e.op("Transpose", {e.reshape(sum, {-1, width, queries})}, perm({0, 2, 1}));
  e.bind(node.outputs[0], e.reshape(rows, {-1, width}));
}

}  // namespace osprey

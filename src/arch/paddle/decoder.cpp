#include "arch/paddle/decoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "arch/blocks/layers.h"
#include "ops/activate.h"
#include "ops/add.h"
#include "ops/combine_rows.h"
#include "ops/deformable_attention.h"
#include "ops/gather_rows.h"
#include "ops/mask_boxes.h"
#include "ops/mask_logits.h"
#include "ops/refine_boxes.h"
#include "ops/select_queries.h"
#include "ops/tokens.h"

namespace osprey::paddle {
namespace {

// Boxes that tokens start from, as logits, and which tokens may be selected.
struct Anchors {
  Tensor logits;  // [T,4]; infinite where a token may not be
  Tensor valid;   // [T,1], 1 or 0
};

// Coordinates within 1 % of an edge do not count. Columns are divided by the height and rows by the width, as
// the framework does (_generate_anchors), which matters where a map is not square.
Anchors make_anchors(const std::vector<int>& sizes, std::int64_t tokens) {
  constexpr float kEdge = 1e-2f, kSide = 0.05f;
  Anchors out{Tensor::zeros(DType::kF32, {tokens, 4}), Tensor::zeros(DType::kF32, {tokens, 1})};
  float *logits = out.logits.mutable_values<float>().data(),
        *valid = out.valid.mutable_values<float>().data();
  for (std::size_t l = 0; l < sizes.size(); l += 2) {
    const float side = kSide * static_cast<float>(1 << (l / 2));
    for (int y = 0; y < sizes[l]; ++y)
      for (int x = 0; x < sizes[l + 1]; ++x, logits += 4, ++valid) {
        const std::array<float, 4> box{(static_cast<float>(x) + 0.5f) / static_cast<float>(sizes[l]),
                                       (static_cast<float>(y) + 0.5f) / static_cast<float>(sizes[l + 1]),
                                       side, side};
        const bool inside =
            std::all_of(box.begin(), box.end(), [](float v) { return v > kEdge && v < 1 - kEdge; });
        *valid = inside ? 1.0f : 0.0f;
        for (std::size_t i = 0; i < 4; ++i)
          logits[i] = inside ? std::log(box[i] / (1 - box[i])) : std::numeric_limits<float>::infinity();
      }
  }
  return out;
}

class Builder {
 public:
  Builder(Net& net, const Decoder& m, const Encoded& encoded) : net_(net), m_(m), encoded_(encoded) {}

  Decoded build() {
    memory_ = tokens_of_levels();
    const Selected selected = select();
    ValueId x = selected.content, boxes = sigmoid("transformer.decoder.start", selected.box_logits);
    for (int i = 0; i < m_.layers; ++i) {
      const std::string name = fmt::format("transformer.decoder.layers.{}", i);
      const std::string stage = fmt::format("decoder.layer{}.", i);
      net_.stage(stage + "ref_points", boxes);
      x = layer(name, stage, x, boxes);
      const ValueId deltas = box_head(i, x);
      boxes = net_.add(RefineBoxes{}, {deltas, boxes}, name + ".boxes");
      x = net_.stage(fmt::format("decoder.layer{}", i), x);
    }
    return last_predictions(x, boxes);
  }

 private:
  struct Selected {
    ValueId content, box_logits;
  };

  ValueId add_table(const std::string& name, Tensor values) {
    return net_.graph().add_weight(name, std::move(values));
  }

  ValueId sigmoid(const std::string& name, ValueId x) {
    return net_.add(Activate{.kind = Activation::kSigmoid}, {x}, name);
  }

  ValueId tokens_of_levels() {
    std::vector<ValueId> maps;
    for (std::size_t i = 0; i < encoded_.levels.size(); ++i) {
      const ConvNorm point{.out = m_.width, .norm = ".norm"};
      const ValueId map =
          conv_norm(net_, fmt::format("transformer.input_proj.{}", i), encoded_.levels[i].value, point);
      const auto& dims = net_.type(map).dims;
      for (const std::size_t axis : {2, 3}) sizes_.push_back(static_cast<int>(dims[axis].constant()));
      tokens_ += dims[2].constant() * dims[3].constant();
      maps.push_back(net_.stage(fmt::format("transformer.input_proj{}", i), map));
    }
    return net_.stage("transformer.memory", net_.add(Tokens{}, maps, "transformer.tokens"));
  }

  Selected select() {
    const Anchors anchors = make_anchors(sizes_, tokens_);
    const ValueId valid = add_table("transformer.valid_mask", anchors.valid);
    const ValueId masked =
        net_.add(CombineRows{.rule = CombineRule::kMultiply}, {memory_, valid}, "transformer.valid_memory");
    ValueId all = linear(net_, "transformer.enc_output.0", masked, {.out = m_.width});
    all = net_.stage("transformer.output_memory", layer_norm(net_, "transformer.enc_output.1", all));
    const char* const head = m_.masks ? "transformer.score_head" : "transformer.enc_score_head";
    const ValueId logits =
        net_.stage("enc_logits", linear(net_, head, all, {.out = m_.classes, .f32_out = true}));
    const SelectQueries best{.top = m_.queries, .tokens = static_cast<int>(tokens_)};
    const ValueId rows = net_.stage("enc.topk_index", net_.add(best, {logits}, "transformer.select"));
    const ValueId content =
        net_.stage("decoder.target", net_.add(GatherRows{}, {all, rows}, "transformer.content"));
    return {content, net_.stage("decoder.ref_points_unact", first_boxes(content, rows, anchors.logits))};
  }

  // As logits.
  ValueId first_boxes(ValueId content, ValueId rows, const Tensor& anchors) {
    if (m_.masks && m_.boxes_from_masks) {
      const ValueId embeddings = mask_embeddings(normed(content));
      const ValueId logits =
          net_.add(MaskLogits{}, {embeddings, encoded_.prototypes}, "transformer.enc_masks.logits");
      return net_.add(MaskBoxes{}, {net_.stage("enc.masks", logits)}, "transformer.enc_masks.boxes");
    }
    const ValueId table = add_table("transformer.anchors", anchors);
    const char* const head = m_.masks ? "transformer.bbox_head" : "transformer.enc_bbox_head";
    const ValueId deltas = mlp(net_, head, content, {m_.width, m_.width, 4});
    return net_.add(CombineRows{}, {deltas, table, rows}, "transformer.enc_boxes");
  }

  // Mask RT-DETR has one norm, and one set of heads, for the selection and all layers.
  ValueId normed(ValueId x) { return layer_norm(net_, "transformer.dec_norm", x); }

  ValueId mask_embeddings(ValueId normed_queries) {
    return mlp(net_, "transformer.mask_query_head", normed_queries, {m_.width, m_.width, m_.prototypes},
               false);
  }

  ValueId box_head(int i, ValueId x) {
    const std::string name =
        m_.masks ? "transformer.bbox_head" : fmt::format("transformer.dec_bbox_head.{}", i);
    return mlp(net_, name, x, {m_.width, m_.width, 4});
  }

  ValueId layer(const std::string& name, const std::string& stage, ValueId x, ValueId boxes) {
    const ValueId position = net_.stage(
        stage + "query_pos", mlp(net_, "transformer.query_pos_head", boxes, {2 * m_.width, m_.width}, false));
    const auto with_position = [&](const char* part, ValueId v) {
      return net_.add(Add{}, {v, position}, name + part);
    };
    const SelfAttention attention{.heads = m_.heads, .tokens = m_.queries};
    const ValueId mixed =
        self_attention(net_, name + ".self_attn", attention, x, with_position(".self_attn.position", x));
    x = layer_norm(net_, name + ".norm1", net_.stage(stage + "self_attn", mixed), x);
    const ValueId crossed =
        cross_attention(name + ".cross_attn", stage, with_position(".cross_attn.position", x), boxes);
    x = layer_norm(net_, name + ".norm2", net_.stage(stage + "cross_attn", crossed), x);
    ValueId y = linear(net_, name + ".linear1", x, {.out = m_.feedforward});
    y = activation(net_, name + ".linear1", y, m_.activation);
    return layer_norm(net_, name + ".norm3", linear(net_, name + ".linear2", y, {.out = m_.width}), x);
  }

  ValueId cross_attention(const std::string& name, const std::string& stage, ValueId query, ValueId boxes) {
    const DeformableAttention op{
        .heads = m_.heads, .points = m_.points, .queries = m_.queries, .sizes = sizes_};
    const int samples = static_cast<int>(op.samples()) * m_.heads;
    const ValueId value =
        net_.stage(stage + "value", linear(net_, name + ".value_proj", memory_, {.out = m_.width}));
    const ValueId offsets =
        linear(net_, name + ".sampling_offsets", query, {.out = 2 * samples, .f32_out = true});
    const ValueId logits =
        linear(net_, name + ".attention_weights", query, {.out = samples, .f32_out = true});
    const ValueId sampled = net_.add(op, {value, offsets, logits, boxes}, name);
    return linear(net_, name + ".output_proj", net_.stage(stage + "sampled", sampled), {.out = m_.width});
  }

  Decoded last_predictions(ValueId x, ValueId boxes) {
    const LinearLayer scores{.out = m_.classes, .f32_out = true};
    Decoded out{.boxes = net_.stage("out.boxes", boxes)};
    if (m_.masks) {
      const ValueId queries = normed(x);
      out.logits = linear(net_, "transformer.score_head", queries, scores);
      out.mask_embeddings = mask_embeddings(queries);
    } else {
      out.logits = linear(net_, fmt::format("transformer.dec_score_head.{}", m_.layers - 1), x, scores);
    }
    net_.stage("out.logits", out.logits);
    return out;
  }

  Net& net_;
  const Decoder& m_;
  const Encoded& encoded_;
  ValueId memory_ = kNoValue;
  std::vector<int> sizes_;  // height and width of each level
  std::int64_t tokens_ = 0;
};

}  // namespace

Decoded decode(Net& net, const Decoder& m, const Encoded& encoded) {
  return Builder(net, m, encoded).build();
}

}  // namespace osprey::paddle

#include "arch/tfod/center_net.h"

#include "arch/blocks/tf_layers.h"
#include "ops/add.h"
#include "ops/detect_queries.h"
#include "ops/upsample.h"

namespace osprey::tfod {
namespace {

const std::string kExtractor = "model/_feature_extractor/", kHeads = "model/_prediction_head_dict/";

// Down from the deepest stage: twice as large, plus a projection of the stage above, convolved. Layers are
// counted through, the trunk being the first.
ValueId resnet_pyramid(Net& net, const ResNetV1& m, ValueId image) {
  const Features stages = resnet_v1(net, kExtractor + "_base_model/", m, image, 5);
  int next = 1;
  const auto layer = [&] {
    return fmt::format("{}_feature_extractor_model/layer_with_weights-{}", kExtractor, next++);
  };
  struct Level {
    std::size_t stage;
    int width, width_after;
  };
  ValueId x = tf_conv(net, layer(), stages.back().value, {.out = 256, .bias = true});
  for (const Level& level : {Level{2, 256, 128}, {1, 128, 64}, {0, 64, 64}}) {
    const std::string lateral = layer(), conv = layer(), norm = layer();
    const ValueId beside =
        tf_conv(net, lateral, stages[level.stage].value, {.out = level.width, .bias = true});
    const ValueId above = net.add(Upsample{.scale = 2}, {x}, lateral + "/upsample");
    x = net.add(Add{}, {above, beside}, lateral + "/add");
    x = tf_conv(net, conv, x, {.out = level.width_after, .kernel = 3, .bias = true});
    x = tf_activate(net, norm, tf_batch_norm(net, norm, x, {}), Activation::kRelu);
  }
  return x;
}

// Heads of stacked hourglasses are there for each stack; the last one's count.
ValueId head(Net& net, const CenterNet& m, const std::string& name, const CenterHead& shape, int columns,
             ValueId x) {
  const int stack = m.hourglass ? m.hourglass->stacks - 1 : 0;
  const auto layer = [&](std::size_t i) {
    return fmt::format("{}{}/{}/layer_with_weights-{}", kHeads, name, stack, i);
  };
  for (std::size_t i = 0; i < shape.widths.size(); ++i) {
    const TfConv conv{.out = shape.widths[i], .kernel = shape.kernels[i], .bias = true};
    x = m.depthwise ? tf_separable_conv(net, layer(i), x, conv) : tf_conv(net, layer(i), x, conv);
    x = tf_activate(net, layer(i), x, Activation::kRelu);
  }
  return tf_conv(net, layer(shape.widths.size()), x, {.out = columns, .bias = true, .f32_out = true});
}

}  // namespace

void center_net(Net& net, const CenterNet& m) {
  const NetworkInput input = raw_input(net, m.input);
  const ValueId features = net.stage(
      "extracted_features", m.hourglass ? hourglass(net, kExtractor + "_network/", *m.hourglass, input.image)
                                        : resnet_pyramid(net, m.resnet, input.image));
  // TensorFlow writes the slash in its heads' names as ".S".
  const ValueId centers =
      net.stage("object_center", head(net, m, "object_center", m.centers, m.classes, features));
  const ValueId sizes = net.stage("box_scale", head(net, m, "box.Sscale", m.sizes, 2, features));
  const ValueId offsets = net.stage("box_offset", head(net, m, "box.Soffset", m.offsets, 2, features));
  const auto queries = net.add_all(m.queries, {centers, sizes, offsets, input.geometry}, "center_queries");
  const auto& map = net.type(centers).dims;
  const auto pixels = static_cast<int>(map.at(2).constant() * map.at(3).constant());
  const DetectQueries detect{
      .top = std::min(m.detections, pixels * m.classes), .queries = pixels, .threshold = 0};
  const auto found = net.add_all(detect, {queries.at(0), queries.at(1), input.geometry}, "detections");
  photo_outputs(net, stage_detections(net, {found.at(0), found.at(1), found.at(2)}), {}, input.geometry,
                /*clip=*/false);
}

}  // namespace osprey::tfod

// EfficientDet (Tan et al., 2020) as Google AutoML has it (github.com/google/automl, efficientdet): D0 to D7,
// D7x and lite, from its TensorFlow checkpoints and hyper-parameters. Weight names are its checkpoints' own.
// The post-processings are those of tf2/postprocess.py: `--set post_mode=global|per_class|combined`, of which
// the first is what the framework exports, and `--set nms_configs.method=gaussian|hard`.

#include "arch/blocks/photo_io.h"
#include "arch/efficientdet/keys.h"
#include "arch/efficientdet/options.h"
#include "arch/family.h"
#include "arch/family/metadata.h"
#include "ops/normalize_image.h"
#include "ops/resize_image.h"

namespace osprey {
namespace efficientdet {
namespace {

// Pixels are normalised first, then resized; what the photo does not fill is zero.
NetworkInput photo_pixels(Net& net, const Pixels& pixels, const Size& size) {
  const Dim n = Dim::symbol("N");
  const ValueId photos =
      net.graph().add_input("photos", {DType::kU8, {n, Dim::symbol("H"), Dim::symbol("W"), 3}});
  const ValueId sizes = net.graph().add_input("sizes", {DType::kI32, {n, 2}});
  const ResizeImage resize{.rule = ResizeRule::kTfHalfPixel,
                           .canvas_height = size.height,
                           .canvas_width = size.width,
                           .fit = Fit::kTruncate,
                           .mean = pixels.mean,
                           .std = pixels.std};
  const auto resized = net.add_all(resize, {photos, sizes}, "input.resize");
  const NormalizeImage pad{.mean = {}, .std = {}, .canvas_height = size.height, .canvas_width = size.width};
  const ValueId image = net.add(pad, resized, "input.pad");
  return {net.stage("preprocessed", image), net.stage("geometry", resized.at(1))};
}

Detected detections(Net& net, const KeyedConfig& config, const Features& levels, const Size& size,
                    ValueId geometry) {
  const auto logits = head_net(net, class_options(config), levels);
  const auto deltas = head_net(net, box_options(config), levels);
  std::vector<ValueId> inputs;
  for (std::size_t l = 0; l < levels.size(); ++l) {
    inputs.push_back(net.stage("class_logits_" + levels[l].name, logits[l]));
    inputs.push_back(net.stage("box_" + levels[l].name, deltas[l]));
  }
  inputs.push_back(geometry);
  return stage_detections(net, net.add_all(detection_options(config, size), std::move(inputs), "detections"));
}

int recognise(const ImportRequest& request) { return is_efficientdet(request.checkpoint) ? 2 : 0; }

Model build(const ImportRequest& request) {
  const KeyedConfig config =
      load(request.config, request.overrides, traits_of(request.checkpoint), request.source);
  const Size size = request.height > 0 ? Size{request.height, request.width} : image_size(config);
  const Variables variables = model_variables(request.checkpoint, uses_averages(config));
  Net net("efficientdet", variables.tensors);
  const NetworkInput input = photo_pixels(net, pixel_options(config), size);
  const Features trunk = efficientnet(net, trunk_options(config), input.image);
  const Features levels = bifpn(net, pyramid_options(config), trunk);
  const Detected detected = detections(net, config, levels, size, input.geometry);
  photo_outputs(net, detected, {}, input.geometry, /*clip=*/false);
  Model model{.graph = net.finish(),
              .family = "efficientdet",
              .description = fmt::format("EfficientDet, {}, {}x{}", config.text("backbone_name"), size.height,
                                         size.width),
              .categories = categories(config),
              .metadata = metadata_of(request)};
  model.weights = net.account();
  model.weights.unused.insert(model.weights.unused.end(), variables.passed_over.begin(),
                              variables.passed_over.end());
  return model;
}

std::vector<std::pair<std::string, std::string>> zoo() {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Member& m : members()) out.emplace_back(m.name, m.title);
  return out;
}

}  // namespace
}  // namespace efficientdet

Family efficientdet_family() {
  return {.name = "efficientdet",
          .recognise = efficientdet::recognise,
          .build = efficientdet::build,
          .zoo = efficientdet::zoo};
}

}  // namespace osprey

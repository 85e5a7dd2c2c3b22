// TensorFlow's Object Detection API, version 2 (github.com/tensorflow/models, research/object_detection):
// what its pipeline.config describes, over its checkpoints and SavedModels.

#include "arch/family.h"
#include "arch/family/categories.h"
#include "arch/family/metadata.h"
#include "arch/family/select.h"
#include "arch/tfod/center_net_options.h"
#include "arch/tfod/checkpoint.h"
#include "arch/tfod/ssd_options.h"
#include "arch/tfod/two_stage_options.h"
#include "arch/tfod/two_stage_weights.h"
#include "arch/tfod/zoo.h"

namespace osprey {
namespace tfod {
namespace {

int recognise(const ImportRequest& request) { return is_tfod(request.checkpoint) ? 2 : 0; }

// The API trains on COCO's 90 ids, gaps and all.
std::vector<Category> categories(int classes) {
  std::vector<Category> coco = coco_90_categories();
  return static_cast<int>(coco.size()) == classes ? coco : numbered_categories(classes);
}

std::map<std::string, std::string> metadata(const ImportRequest& request, const Loaded& loaded) {
  std::map<std::string, std::string> out = metadata_of(request, loaded.name);
  for (std::size_t i = 0; i < loaded.warnings.size(); ++i)
    out[fmt::format("{}{}", kConfigWarning, i + 1)] = loaded.warnings[i];
  return out;
}

// What a network is, beside its graph.
struct Facts {
  std::string description;
  std::vector<Category> categories;
};

Model finish(Net& net, Facts facts, const ImportRequest& request, const Loaded& loaded) {
  Model model{.graph = net.finish(),
              .family = "tfod",
              .description = std::move(facts.description),
              .categories = std::move(facts.categories),
              .metadata = metadata(request, loaded)};
  model.weights = net.account();
  return model;
}

Model build_ssd(const ImportRequest& request, Loaded& loaded) {
  const Ssd options = ssd_options(loaded.config, request.height, request.width);
  loaded.config.close();
  const auto tensors = model_tensors(request.checkpoint);
  Net net("tfod", tensors);
  ssd(net, options);
  return finish(net, {options.description, categories(options.classes)}, request, loaded);
}

Model build_two_stage(const ImportRequest& request, Loaded& loaded) {
  const TwoStage options = two_stage_options(loaded.config, request.height, request.width);
  loaded.config.close();
  const auto tensors = two_stage_tensors(request.checkpoint);
  Net net("tfod", tensors);
  two_stage(net, options);
  auto labels = options.stages == 1 ? std::vector<Category>{{"object", 1}} : categories(options.classes);
  return finish(net, {describe(options), std::move(labels)}, request, loaded);
}

Model build_center_net(const ImportRequest& request, Loaded& loaded) {
  const CenterNet options = center_net_options(loaded.config, request.height, request.width);
  loaded.config.close();
  const auto tensors = model_tensors(request.checkpoint);
  Net net("tfod", tensors);
  center_net(net, options);
  return finish(net, {options.description, categories(options.classes)}, request, loaded);
}

Model build(const ImportRequest& request) {
  Loaded loaded = load(request.config, request.source, request.overrides);
  const std::string architecture = loaded.config.alternative("model");
  if (architecture == "ssd") return build_ssd(request, loaded);
  if (architecture == "faster_rcnn") return build_two_stage(request, loaded);
  if (architecture == "center_net") return build_center_net(request, loaded);
  loaded.config.refuse("model", "only ssd, faster_rcnn and center_net are");
}

std::vector<std::pair<std::string, std::string>> zoo() {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Official& o : officials()) out.emplace_back(o.name, o.title);
  return out;
}

}  // namespace
}  // namespace tfod

Family tfod_family() {
  return {.name = "tfod", .recognise = tfod::recognise, .build = tfod::build, .zoo = tfod::zoo};
}

}  // namespace osprey

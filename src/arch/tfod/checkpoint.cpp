#include "arch/tfod/checkpoint.h"

#include <algorithm>
#include <array>
#include <optional>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "arch/family/tf_weights.h"
#include "core/error.h"
#include "formats/tf_object_graph.h"

namespace osprey::tfod {
namespace {

using Graph = TfObjectGraph;

constexpr std::size_t kMaxPaths = std::size_t{64} << 20;
constexpr std::string_view kSuffix = "/.ATTRIBUTES/VARIABLE_VALUE";

// Parts of the models that are built here.
bool is_detector_part(std::string_view part) {
  constexpr std::array<std::string_view, 6> kParts{
      "_feature_extractor",         "_box_predictor",           "_feature_extractor_for_proposal_features",
      "_first_stage_box_predictor", "_mask_rcnn_box_predictor", "_prediction_head_dict"};
  return std::find(kParts.begin(), kParts.end(), part) != kParts.end();
}

// "model/_box_predictor/..." -> "_box_predictor"; empty when it does not begin with a model.
std::string_view part_of_model(std::string_view key) {
  for (const std::string_view model : {"model/", "_model/"})
    if (key.starts_with(model)) return key.substr(model.size(), key.find('/', model.size()) - model.size());
  return {};
}

// Children of Keras' layers that lead to variables which have a path by name as well.
bool is_list_of_all(std::string_view child) {
  constexpr std::array<std::string_view, 7> kLists{
      "variables", "trainable_variables", "non_trainable_variables", "regularization_losses", "keras_api",
      "layers",    "layer_metrics"};
  return child.starts_with("layer-") || std::find(kLists.begin(), kLists.end(), child) != kLists.end();
}

// As TensorFlow writes a child's name into a checkpoint's keys.
std::string escaped(std::string_view name) {
  std::string out;
  for (const char c : name) out += c == '.' ? ".." : c == '/' ? ".S" : std::string(1, c);
  return out;
}

// Names by key: the shortest path of each variable below the model, found as TensorFlow names the variables
// of a checkpoint (breadth first).
std::unordered_map<std::string_view, std::string> names_through(const Graph& graph) {
  std::unordered_map<std::string_view, std::string> names;
  std::optional<Graph::Node> model = graph.find("model");
  if (!model) model = graph.find("_model");
  if (!model) return names;
  std::queue<std::pair<Graph::Node, std::string>> queue;
  std::unordered_set<Graph::Node> seen{*model};
  std::size_t spent = 0;
  const auto spend = [&](std::size_t bytes) {  // a hostile graph can make paths as long as it is deep
    spent += bytes;
    require(spent <= kMaxPaths, "more than {} bytes of names in its object graph", kMaxPaths);
  };
  for (queue.push({*model, "model"}); !queue.empty(); queue.pop()) {
    const auto& [node, path] = queue.front();
    for (const Graph::Attribute& attribute : graph.attributes(node)) {
      if (attribute.name != "VARIABLE_VALUE") continue;
      spend(path.size());
      names.emplace(attribute.key, path);
    }
    for (const Graph::Child& child : graph.children(node)) {
      if (is_list_of_all(child.name) || !seen.insert(child.node).second) continue;
      spend(path.size() + child.name.size() + 1);
      queue.push({child.node, path + "/" + escaped(child.name)});
    }
  }
  return names;
}

std::string without_suffix(const std::string& key) {
  return key.ends_with(kSuffix) ? key.substr(0, key.size() - kSuffix.size()) : key;
}

// "a/conv1_bn/gamma" -> "conv1_bn"; empty when there is no layer. EfficientNet's layers have names with
// slashes: "stack_1/block_0/expand_bn/gamma" -> "stack_1/block_0/expand_bn".
std::string_view layer_of(std::string_view full_name) {
  const auto end = full_name.rfind('/');
  if (end == std::string_view::npos) return {};
  full_name = full_name.substr(0, end);
  const auto block = full_name.find("stack_");
  return full_name.substr(block != std::string_view::npos ? block : full_name.rfind('/') + 1);
}

// A numbered layer of a Keras model takes the layer's own name: numbers change with the network's depth and
// with the order in which Keras sorts its layers. CenterNet's own layers have no names but those that Keras
// makes up, and keep their numbers.
std::string with_layer_name(std::string path, std::string_view full_name) {
  constexpr std::string_view kNumbered = "/layer_with_weights-";
  const auto begin = path.find(kNumbered);
  const bool unnamed = path.starts_with("model/_prediction_head_dict/") ||
                       path.starts_with("model/_feature_extractor/_feature_extractor_model/");
  if (begin == std::string::npos || layer_of(full_name).empty() || unnamed) return path;
  const auto end = std::min(path.find('/', begin + 1), path.size());
  return path.replace(begin + 1, end - begin - 1, layer_of(full_name));
}

// The squeeze's 1x1 convolutions of an EfficientNet work on vectors, as dense layers.
bool is_squeeze(std::string_view name) {
  return name.ends_with("/se_reduce_conv2d/kernel") || name.ends_with("/se_expand_conv2d/kernel");
}

// A node's weights of its inputs, [n, 1]: one number each.
std::vector<NamedTensor> combine_weights(const NamedTensor& all) {
  constexpr std::int64_t kMost = 16;  // more than a node has inputs
  require(all.shape.size() == 2 && all.shape[1] == 1 && all.shape[0] <= kMost, "{}: is {}, expected [n, 1]",
          all.name, to_string(all.shape));
  std::vector<NamedTensor> out;
  for (std::int64_t i = 0; i < all.shape[0]; ++i) {
    NamedTensor& one = out.emplace_back(all);
    one.name = fmt::format("{}/{}", all.name, i);
    one.dtype = DType::kF32;
    one.shape = {};
    one.load = [load = all.load, i] {
      const Tensor values = load().to_f32();
      return Tensor::from<float>(values.values<float>().subspan(static_cast<std::size_t>(i), 1), {});
    };
  }
  return out;
}

std::vector<NamedTensor> adapted(NamedTensor tensor) {
  if (tensor.name.ends_with("/bifpn_combine_weights")) return combine_weights(tensor);
  if (is_squeeze(tensor.name)) tensor = without_window(std::move(tensor));
  const TfLayout layout = tf_layout(tensor.name, tensor.shape.size());
  return {from_tf(std::move(tensor), layout)};
}

}  // namespace

bool is_tfod(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                     [](const NamedTensor& t) { return is_detector_part(part_of_model(t.name)); });
}

std::vector<NamedTensor> model_tensors(const Checkpoint& checkpoint) {
  const bool saved_model = std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(),
                                       [](const NamedTensor& t) { return t.name.starts_with("_model/"); });
  require(!saved_model || checkpoint.object_graph != nullptr,
          "a SavedModel without its object graph: which variable is which cannot be known; is its data file "
          "there?");
  std::unordered_map<std::string_view, std::string> names;
  if (saved_model) names = names_through(*checkpoint.object_graph);
  std::vector<NamedTensor> out;
  for (const NamedTensor& tensor : checkpoint.tensors) {
    if (is_training_state(tensor.name)) continue;
    NamedTensor kept = tensor;
    const auto name = names.find(tensor.name);
    kept.name =
        with_layer_name(name == names.end() ? without_suffix(tensor.name) : name->second, tensor.full_name);
    for (NamedTensor& own : adapted(std::move(kept))) out.push_back(std::move(own));
  }
  return out;
}

}  // namespace osprey::tfod

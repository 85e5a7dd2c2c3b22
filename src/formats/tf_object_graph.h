// What a TensorFlow 2 checkpoint says of the objects that its variables belong to: a graph of named children,
// stored in the bundle under kObjectGraphKey as a serialised TrackableObjectGraph
// (tensorflow/core/protobuf/trackable_object_graph.proto).
//
// A training checkpoint's keys are paths of child names; a SavedModel's often are positions in a list
// ("_model/_box_predictor/trainable_variables/17/..."), which say nothing. Paths through this graph mean the
// same variable in both, but for the name of the model itself: `model` there, `_model` here.
//
// A path is child names joined by '/', from the root, with TensorFlow's escapes ('/' in a name is ".S", '.'
// is ".."): "model/_feature_extractor/classification_backbone/layer_with_weights-0/kernel".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/bytes.h"

namespace osprey {

inline constexpr std::string_view kObjectGraphKey = "_CHECKPOINTABLE_OBJECT_GRAPH";

class TfObjectGraph {
 public:
  using Node = std::uint32_t;
  static constexpr Node kRoot = 0;

  struct Child {
    std::string_view name;  // unescaped
    Node node = 0;
  };
  // A value that an object saved; of a variable `name` is "VARIABLE_VALUE".
  struct Attribute {
    std::string_view name, full_name, key;
  };
  // An optimizer's variable that belongs to a variable of the model.
  struct Slot {
    Node original = 0, variable = 0;
    std::string_view name;  // "momentum"
  };

  // Keeps views of `message`, which `owner` keeps alive. Throws Error(kBadInput). Limits: 1,000,000 objects,
  // 4,000,000 children, attributes and slots.
  TfObjectGraph(Bytes message, std::shared_ptr<const void> owner);

  std::size_t size() const { return nodes_.size(); }
  std::span<const Child> children(Node node) const;
  std::span<const Attribute> attributes(Node node) const;

  // The object at a path; none when a name on the way is missing. An empty path is `from` itself.
  std::optional<Node> find(std::string_view path, Node from = kRoot) const;

  // The checkpoint key of the variable at a path; empty when there is none.
  std::string_view key(std::string_view path, Node from = kRoot) const;

  // Of a checkpoint key: what the variable was called when it was made; empty when the graph lacks the key.
  std::string_view full_name(std::string_view key) const;

  // Whether the key is an optimizer's variable that belongs to one of the model ("momentum").
  bool is_slot(std::string_view key) const;

 private:
  struct Object {
    std::vector<Child> children;
    std::vector<Attribute> attributes;
  };
  struct KeyFacts {
    std::string_view full_name;
    bool slot = false;
  };

  void read_object(Bytes message, std::vector<Slot>& slots, std::size_t& entries);
  void index_keys(const std::vector<Slot>& slots);

  std::shared_ptr<const void> owner_;
  std::vector<Object> nodes_;
  std::unordered_map<std::string_view, KeyFacts> keys_;
};

// Whether a key of a TensorFlow checkpoint is the training's and no weight of the model: slots of an
// optimizer and its own values, counters of steps and saves. Needs no graph.
bool is_training_state(std::string_view key);

}  // namespace osprey

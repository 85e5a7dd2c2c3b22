#include "formats/tf_object_graph.h"

#include <algorithm>

#include "core/error.h"
#include "formats/onnx_wire.h"
#include "formats/source.h"

namespace osprey {
namespace {

using Type = WireField::Type;

constexpr std::size_t kMaxObjects = 1'000'000, kMaxEntries = 4'000'000;

std::uint32_t node_id(const WireField& field) {
  require(field.type == Type::kVarint && field.varint < kMaxObjects, "object graph: {} is no object",
          field.varint);
  return static_cast<std::uint32_t>(field.varint);
}

std::string_view text(const WireField& field) {
  require(field.type == Type::kBytes, "object graph: a name that is a number");
  return as_text(field.payload);
}

TfObjectGraph::Child read_child(Bytes message) {
  TfObjectGraph::Child out;
  WireReader in(message, "object graph");
  while (const auto field = in.next()) {
    if (field->number == 1) out.node = node_id(*field);
    if (field->number == 2) out.name = text(*field);
  }
  return out;
}

TfObjectGraph::Attribute read_attribute(Bytes message) {
  TfObjectGraph::Attribute out;
  WireReader in(message, "object graph");
  while (const auto field = in.next()) {
    if (field->number == 1) out.name = text(*field);
    if (field->number == 2) out.full_name = text(*field);
    if (field->number == 3) out.key = text(*field);
  }
  return out;
}

TfObjectGraph::Slot read_slot(Bytes message) {
  TfObjectGraph::Slot out;
  WireReader in(message, "object graph");
  while (const auto field = in.next()) {
    if (field->number == 1) out.original = node_id(*field);
    if (field->number == 2) out.name = text(*field);
    if (field->number == 3) out.variable = node_id(*field);
  }
  return out;
}

// A child's name in a path, as it stands between two '/'.
std::string unescaped(std::string_view part) {
  std::string out;
  for (std::size_t i = 0; i < part.size(); ++i) {
    const bool escape = part[i] == '.' && i + 1 < part.size();
    if (escape) ++i;
    out += escape && part[i] == 'S' ? '/' : part[i];
  }
  return out;
}

}  // namespace

TfObjectGraph::TfObjectGraph(Bytes message, std::shared_ptr<const void> owner) : owner_(std::move(owner)) {
  std::vector<Slot> slots;
  std::size_t entries = 0;
  WireReader in(message, "object graph");
  while (const auto field = in.next())
    if (field->number == 1 && field->type == Type::kBytes) read_object(field->payload, slots, entries);
  require(!nodes_.empty(), "object graph: no objects, not even a root");
  for (const Object& object : nodes_)
    for (const Child& child : object.children)
      require(child.node < nodes_.size(), "object graph: \"{}\" is object {} of {}", printable(child.name),
              child.node, nodes_.size());
  index_keys(slots);
}

void TfObjectGraph::read_object(Bytes message, std::vector<Slot>& slots, std::size_t& entries) {
  require(nodes_.size() < kMaxObjects, "object graph: more than {} objects", kMaxObjects);
  Object& object = nodes_.emplace_back();
  WireReader in(message, "object graph");
  while (const auto field = in.next()) {
    if (field->type != Type::kBytes) continue;
    require(++entries <= kMaxEntries, "object graph: more than {} children and attributes", kMaxEntries);
    if (field->number == 1) object.children.push_back(read_child(field->payload));
    if (field->number == 2) object.attributes.push_back(read_attribute(field->payload));
    if (field->number == 3) slots.push_back(read_slot(field->payload));
  }
}

void TfObjectGraph::index_keys(const std::vector<Slot>& slots) {
  for (const Object& object : nodes_)
    for (const Attribute& a : object.attributes) keys_.emplace(a.key, KeyFacts{.full_name = a.full_name});
  for (const Slot& slot : slots) {
    require(slot.variable < nodes_.size() && slot.original < nodes_.size(),
            "object graph: a slot of object {} or {} of {}", slot.variable, slot.original, nodes_.size());
    for (const Attribute& a : nodes_[slot.variable].attributes) keys_[a.key].slot = true;
  }
}

std::span<const TfObjectGraph::Child> TfObjectGraph::children(Node node) const {
  return nodes_.at(node).children;
}

std::span<const TfObjectGraph::Attribute> TfObjectGraph::attributes(Node node) const {
  return nodes_.at(node).attributes;
}

std::optional<TfObjectGraph::Node> TfObjectGraph::find(std::string_view path, Node from) const {
  if (from >= nodes_.size()) return std::nullopt;
  Node node = from;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const std::string name = unescaped(path.substr(0, slash));
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    const auto& among = nodes_[node].children;
    const auto child =
        std::find_if(among.begin(), among.end(), [&](const Child& c) { return c.name == name; });
    if (child == among.end()) return std::nullopt;
    node = child->node;
  }
  return node;
}

std::string_view TfObjectGraph::key(std::string_view path, Node from) const {
  const auto node = find(path, from);
  if (!node) return {};
  for (const Attribute& a : nodes_[*node].attributes)
    if (a.name == "VARIABLE_VALUE") return a.key;
  return {};
}

std::string_view TfObjectGraph::full_name(std::string_view key) const {
  const auto found = keys_.find(key);
  return found == keys_.end() ? std::string_view{} : found->second.full_name;
}

bool TfObjectGraph::is_slot(std::string_view key) const {
  const auto found = keys_.find(key);
  return found != keys_.end() && found->second.slot;
}

bool is_training_state(std::string_view key) {
  if (key.find("/.OPTIMIZER_SLOT/") != std::string_view::npos) return true;
  for (const std::string_view slot : {"/Momentum", "/RMSProp", "/RMSProp_1", "/Adam", "/Adam_1"})
    if (key.ends_with(slot)) return true;  // of TF1's optimizers
  const std::string_view root = key.substr(0, key.find('/'));
  for (const std::string_view name : {"optimizer", "step", "save_counter", "global_step"})
    if (root == name) return true;
  return false;
}

}  // namespace osprey

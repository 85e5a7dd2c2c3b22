// Reads a config and remembers what was asked for, so that keys that nobody asked for can be reported: a
// misspelt option must not be silently without effect.
#pragma once

#include <string_view>
#include <unordered_set>
#include <vector>

#include "formats/config_tree.h"

namespace osprey {

class ConfigReader {
 public:
  // Keeps a reference: the tree must stay, unmodified.
  explicit ConfigReader(const ConfigTree& tree) : root_(tree) {}

  // The node at a dotted path below `from` (the root without one), as ConfigTree::find() and at() do. It, and
  // every node on the way, counts as asked for; what is below it does not, but for the scalars of a list.
  const ConfigTree* find(std::string_view dotted) { return find(root_, dotted); }
  const ConfigTree* find(const ConfigTree& from, std::string_view dotted);
  const ConfigTree& at(std::string_view dotted) { return at(root_, dotted); }
  const ConfigTree& at(const ConfigTree& from, std::string_view dotted);

  // The values of a repeated field: none when it is absent, one when it is there once and no list
  // (formats/protobuf_text.h). All count as asked for.
  std::vector<const ConfigTree*> repeated(std::string_view dotted) { return repeated(root_, dotted); }
  std::vector<const ConfigTree*> repeated(const ConfigTree& from, std::string_view dotted);

  // Everything at and below the path counts as asked for: it is known, and of no meaning here.
  void ignore(std::string_view dotted);

  // The outermost nodes that were never asked for, in the tree's order.
  std::vector<const ConfigTree*> unread() const;

 private:
  void collect_unread(const ConfigTree& node, std::vector<const ConfigTree*>& to) const;

  const ConfigTree& root_;
  std::unordered_set<const ConfigTree*> asked_, ignored_;
};

}  // namespace osprey

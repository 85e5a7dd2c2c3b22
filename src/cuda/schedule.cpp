#include "cuda/schedule.h"

#include <algorithm>
#include <map>
#include <set>

namespace osprey {
namespace {

// Groups of nodes, and which groups each one waits for.
class Grouping {
 public:
  // `group_of`: one number a node.
  Grouping(const Graph& graph, const std::vector<int>& group_of) : graph_(graph) {
    std::map<int, int> numbers;
    for (const int g : group_of) numbers.emplace(g, static_cast<int>(numbers.size()));
    groups_.resize(numbers.size());
    waits_for_.resize(numbers.size());
    std::map<ValueId, int> made_by;
    for (std::size_t i = 0; i < group_of.size(); ++i) {
      const int group = numbers.at(group_of[i]);
      groups_[static_cast<std::size_t>(group)].push_back(static_cast<int>(i));
      for (const ValueId out : graph.nodes()[i].outputs) made_by[out] = group;
    }
    for (std::size_t g = 0; g < groups_.size(); ++g)
      for (const int node : groups_[g])
        for (const ValueId in : graph.nodes()[static_cast<std::size_t>(node)].inputs)
          if (const auto it = made_by.find(in); it != made_by.end()) waits_for_[g].insert(it->second);
  }

  // The groups in an order in which they can run, that of their first nodes where there is a choice; fewer
  // than there are when some wait for each other.
  std::vector<int> order() const {
    std::vector<std::size_t> waiting(groups_.size());
    std::vector<std::vector<int>> next(groups_.size());
    std::set<std::pair<int, int>> ready;  // first node, group
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      waiting[g] = waits_for_[g].size();
      for (const int w : waits_for_[g]) next[static_cast<std::size_t>(w)].push_back(static_cast<int>(g));
      if (waiting[g] == 0) ready.insert({groups_[g].front(), static_cast<int>(g)});
    }
    std::vector<int> out;
    while (!ready.empty()) {
      const int group = ready.begin()->second;
      ready.erase(ready.begin());
      out.push_back(group);
      for (const int n : next[static_cast<std::size_t>(group)])
        if (--waiting[static_cast<std::size_t>(n)] == 0)
          ready.insert({groups_[static_cast<std::size_t>(n)].front(), n});
    }
    return out;
  }
  bool possible() const { return order().size() == groups_.size(); }

  // For each node, the length of the longest way to its group from the inputs.
  std::vector<int> depths() const {
    std::vector<int> of_group(groups_.size()), of_node(graph_.nodes().size());
    for (const int g : order()) {
      int& depth = of_group[static_cast<std::size_t>(g)];
      for (const int w : waits_for_[static_cast<std::size_t>(g)])
        depth = std::max(depth, of_group[static_cast<std::size_t>(w)] + 1);
      for (const int node : groups_[static_cast<std::size_t>(g)])
        of_node[static_cast<std::size_t>(node)] = depth;
    }
    return of_node;
  }

  const std::vector<int>& nodes(int group) const { return groups_[static_cast<std::size_t>(group)]; }

 private:
  const Graph& graph_;
  std::vector<std::vector<int>> groups_;
  std::vector<std::set<int>> waits_for_;
};

std::vector<int> singles(std::size_t nodes) {
  std::vector<int> out(nodes);
  for (std::size_t i = 0; i < nodes; ++i) out[i] = static_cast<int>(i);
  return out;
}

// Nodes of equal (key, tag) get the number of the first of them.
template <class Tag>
std::vector<int> numbered(const std::vector<std::string>& keys, const std::vector<Tag>& tags) {
  std::vector<int> out = singles(keys.size());
  std::map<std::pair<std::string, Tag>, int> first;
  for (std::size_t i = 0; i < keys.size(); ++i)
    if (!keys[i].empty())
      out[i] = first.emplace(std::pair(keys[i], tags[i]), static_cast<int>(i)).first->second;
  return out;
}

}  // namespace

std::vector<std::vector<const Node*>> scheduled(const Graph& graph,
                                                const std::function<std::string(const Node&)>& key,
                                                std::size_t most) {
  std::vector<std::string> keys;
  std::vector<ValueId> weights;
  for (const Node& node : graph.nodes()) {
    keys.push_back(key(node));
    weights.push_back(node.inputs.size() > 1 ? node.inputs[1] : kNoValue);
  }
  std::vector<int> groups = numbered(keys, weights);
  // A weight used twice on one way (a recurrent layer) makes its group wait for itself.
  if (!Grouping(graph, groups).possible()) groups = singles(keys.size());
  // No way leads from a group to another one of the same depth, so that joining them keeps the order
  // possible.
  const Grouping joined(graph, numbered(keys, Grouping(graph, groups).depths()));
  std::vector<std::vector<const Node*>> out;
  for (const int g : joined.order()) {
    const std::vector<int>& nodes = joined.nodes(g);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (i % most == 0) out.emplace_back();
      out.back().push_back(&graph.nodes()[static_cast<std::size_t>(nodes[i])]);
    }
  }
  return out;
}

}  // namespace osprey

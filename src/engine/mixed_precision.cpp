#include "engine/mixed_precision.h"

#include <algorithm>
#include <cctype>
#include <chrono>

#include "core/error.h"
#include "passes/pass.h"

namespace osprey {
namespace {

using Clock = std::chrono::steady_clock;

void keep(Quantization& plan, const Block& block) {
  plan.kept.insert(block.values.begin(), block.values.end());
}

// Where a word's number ends that something follows: behind "block_1" of "block_1_expand".
std::size_t end_of_numbered_word(std::string_view tail) {
  for (std::size_t i = 1; i < tail.size(); ++i) {
    if (tail[i - 1] != '_' || std::isdigit(static_cast<unsigned char>(tail[i])) == 0) continue;
    std::size_t end = i;
    while (end < tail.size() && std::isdigit(static_cast<unsigned char>(tail[end])) != 0) ++end;
    if (end < tail.size() && tail[end] == '_') return end;
  }
  return 0;
}

class Search {
 public:
  Search(const Graph& graph, const Quantization& plan, const AccuracyCheck& check, const AccuracyBound& bound,
         const Progress& progress)
      : graph_(graph),
        plan_(plan),
        check_(check),
        bound_(bound),
        progress_(progress),
        blocks_(blocks_of(graph, plan)) {}

  Int8Decision run() {
    Int8Decision out{.bound = bound_.text(), .kept = {}};
    if (holds(plan_)) return out;
    std::vector<Int8Decision::Kept> order = by_change();
    Quantization plan = plan_;
    for (std::size_t step = 1; out.kept.size() < order.size();) {
      for (std::size_t i = 0; i < step && out.kept.size() < order.size(); ++i) {
        out.kept.push_back(order[out.kept.size()]);
        keep(plan, block(out.kept.back().block));
      }
      tell(0.5 + 0.5 * static_cast<double>(out.kept.size()) / static_cast<double>(order.size()),
           fmt::format("int8: {} of {} blocks in floats", out.kept.size(), order.size()));
      if (holds(plan)) return out;
      if (out_of_time()) step *= 2;
    }
    return out;  // all of them: what is left is fp32
  }

 private:
  bool holds(const Quantization& plan) const {
    const Graph graph = quantized(graph_, plan);
    if (bound_.change && check_.change(graph) > *bound_.change) return false;
    return !bound_.ap_drop || check_.ap_drop(graph) <= *bound_.ap_drop;
  }

  // What each block changes alone in int8, the most first; equal ones in their order.
  std::vector<Int8Decision::Kept> by_change() const {
    std::vector<Int8Decision::Kept> out;
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      tell(0.5 * static_cast<double>(i) / static_cast<double>(blocks_.size()),
           fmt::format("int8: what {} costs", blocks_[i].name));
      Quantization alone = plan_;
      for (const Block& other : blocks_)
        if (other.name != blocks_[i].name) keep(alone, other);
      out.push_back({blocks_[i].name, check_.change(quantized(graph_, alone))});
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const auto& a, const auto& b) { return a.change > b.change; });
    return out;
  }

  const Block& block(const std::string& name) const {
    return *std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.name == name; });
  }
  bool out_of_time() const {
    return std::chrono::duration<double>(Clock::now() - start_).count() > bound_.seconds;
  }
  void tell(double fraction, const std::string& what) const {
    if (progress_) progress_(fraction, what);
  }

  const Graph& graph_;
  const Quantization& plan_;
  const AccuracyCheck& check_;
  const AccuracyBound& bound_;
  const Progress& progress_;
  std::vector<Block> blocks_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

std::string block_name(std::string_view layer) {
  const std::size_t cut = layer.find_last_of("./");
  const std::string_view tail = cut == std::string_view::npos ? layer : layer.substr(cut + 1);
  if (const std::size_t end = end_of_numbered_word(tail))
    return std::string(layer.substr(0, layer.size() - tail.size() + end));
  return std::string(cut == std::string_view::npos ? layer : layer.substr(0, cut));
}

std::vector<Block> blocks_of(const Graph& graph, const Quantization& plan) {
  std::vector<Block> out;
  for (const Node& node : graph.nodes()) {
    if (!is_quantizable(graph, node) || !plan.limits.contains(graph.value(node.inputs[0]).name)) continue;
    const std::string name = block_name(node.name);
    auto it = std::find_if(out.begin(), out.end(), [&](const Block& b) { return b.name == name; });
    if (it == out.end()) it = out.insert(out.end(), {name, {}});
    it->values.push_back(graph.value(node.outputs[0]).name);
  }
  return out;
}

Graph quantized(const Graph& graph, const Quantization& plan) {
  Graph out = graph;
  quantize(out, {.quantization = plan});
  verify(out);
  return out;
}

std::string AccuracyBound::text() const {
  std::string out;
  if (change) out = fmt::format("detection change <= {}", *change);
  if (ap_drop) out += fmt::format("{}AP drop <= {}", out.empty() ? "" : ", ", *ap_drop);
  return out;
}

Int8Decision decide(const Graph& graph, const Quantization& plan, const AccuracyCheck& check,
                    const AccuracyBound& bound, const Progress& progress) {
  return Search(graph, plan, check, bound, progress).run();
}

Quantization without(Quantization plan, const Graph& graph, const std::vector<Int8Decision::Kept>& kept) {
  for (const Block& block : blocks_of(graph, plan))
    if (std::any_of(kept.begin(), kept.end(), [&](const auto& k) { return k.block == block.name; }))
      keep(plan, block);
  return plan;
}

}  // namespace osprey

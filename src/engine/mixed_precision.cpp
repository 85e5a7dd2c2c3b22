#include "engine/mixed_precision.h"

#include <algorithm>
#include <cctype>
#include <chrono>

#include "core/error.h"
#include "passes/pass.h"

namespace osprey {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kEighths = 8;

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

// Those that a plan leaves in integers.
std::vector<Block> open_blocks(const Graph& graph, const Quantization& plan) {
  std::vector<Block> out = blocks_of(graph, plan);
  std::erase_if(out, [&](const Block& block) {
    return std::all_of(block.values.begin(), block.values.end(),
                       [&](const std::string& value) { return plan.kept.contains(value); });
  });
  return out;
}

class Search {
 public:
  Search(const Graph& graph, const Quantization& plan, const AccuracyCheck& check, const AccuracyBound& bound)
      : graph_(graph), plan_(plan), check_(check), bound_(bound), blocks_(open_blocks(graph, plan)) {}

  Int8Decision run() {
    out_.bound = bound_.text();
    const std::size_t steps = bound_.shows_ap() ? kEighths / 2 : blocks_.size();
    check_.progress().expect((blocks_.size() + 1) * check_.photos().size() +
                             (bound_.ap_drop ? (steps + 2) * check_.runs_for_ap() : 0));
    const auto late = [this] { return out_of_time(); };
    std::size_t in_integers = first_that_holds(
        blocks_.size(), [this](std::size_t blocks) { return holds_as_measured(blocks); }, late);
    if (bound_.shows_ap())
      in_integers = check_.annotated() < kFewestForError
                        ? 0
                        : most_shown(
                              in_integers, [this](std::size_t blocks) { return ap_holds(blocks); }, late);
    for (std::size_t i = 0; i + in_integers < blocks_.size(); ++i) out_.kept.push_back(order()[i]);
    return std::move(out_);
  }

 private:
  bool holds_as_measured(std::size_t in_integers) {
    if (bound_.change && check_.change(quantized(graph_, with(in_integers))) > *bound_.change) return false;
    return !bound_.ap_drop || bound_.shows_ap() || ap_holds(in_integers);
  }

  bool ap_holds(std::size_t in_integers) {
    tell(fmt::format("int8: AP with {} of {} blocks in 8 bits", in_integers, blocks_.size()));
    const ApDrop drop = check_.ap_drop(quantized(graph_, with(in_integers)), bound_.margin);
    const bool holds = drop.at_most(bound_.margin) <= *bound_.ap_drop;
    out_.tried.push_back({in_integers, drop.value, drop.error, holds});
    if (holds) out_.ap_drop = drop.value, out_.ap_error = drop.error;
    return holds;
  }

  // The plan with so many blocks in integers, those that change least.
  Quantization with(std::size_t in_integers) {
    Quantization out = plan_;
    for (std::size_t i = 0; i + in_integers < blocks_.size(); ++i) keep(out, block(order()[i].block));
    return out;
  }

  // What each block changes alone in int8, the most first; equal ones in their order.
  const std::vector<Int8Decision::Kept>& order() {
    if (!order_.empty()) return order_;
    for (const Block& block : blocks_) {
      tell(fmt::format("int8: what {} costs", block.name));
      Quantization alone = plan_;
      for (const Block& other : blocks_)
        if (other.name != block.name) keep(alone, other);
      order_.push_back({block.name, check_.change(quantized(graph_, alone))});
    }
    std::stable_sort(order_.begin(), order_.end(),
                     [](const auto& a, const auto& b) { return a.change > b.change; });
    return order_;
  }

  const Block& block(const std::string& name) const {
    return *std::find_if(blocks_.begin(), blocks_.end(), [&](const Block& b) { return b.name == name; });
  }
  bool out_of_time() const {
    return std::chrono::duration<double>(Clock::now() - start_).count() > bound_.seconds;
  }
  void tell(std::string what) const { check_.progress().say(std::move(what)); }

  const Graph& graph_;
  const Quantization& plan_;
  const AccuracyCheck& check_;
  const AccuracyBound& bound_;
  std::vector<Block> blocks_;
  std::vector<Int8Decision::Kept> order_;
  Int8Decision out_;
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

std::size_t first_that_holds(std::size_t blocks, const Holds& holds, const Late& late) {
  for (std::size_t kept = 0, step = 1; kept < blocks; kept += step) {
    if (holds(blocks - kept)) return blocks - kept;
    if (late()) step *= 2;
  }
  return 0;  // what is left is fp32
}

std::size_t most_shown(std::size_t blocks, const Holds& holds, const Late& late) {
  if (blocks == 0 || holds(blocks)) return blocks;
  std::size_t out = 0;
  for (std::size_t eighth = kEighths / 2; eighth < kEighths; ++eighth) {
    const std::size_t some = blocks * eighth / kEighths;
    if (some == out) continue;
    if (late() || !holds(some)) break;
    out = some;
  }
  return out;
}

std::string AccuracyBound::text() const {
  std::string out;
  if (change) out = fmt::format("detection change <= {}", *change);
  if (ap_drop) {
    const std::string errors = margin > 0 ? fmt::format(" + {} standard errors", margin) : "";
    out += fmt::format("{}AP drop{} <= {}", out.empty() ? "" : ", ", errors, *ap_drop);
  }
  return out;
}

Int8Decision decide(const Graph& graph, const Quantization& plan, const AccuracyCheck& check,
                    const AccuracyBound& bound) {
  return Search(graph, plan, check, bound).run();
}

Quantization without(Quantization plan, const Graph& graph, const std::vector<Int8Decision::Kept>& kept) {
  for (const Block& block : blocks_of(graph, plan))
    if (std::any_of(kept.begin(), kept.end(), [&](const auto& k) { return k.block == block.name; }))
      keep(plan, block);
  return plan;
}

}  // namespace osprey

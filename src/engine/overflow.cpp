#include "engine/overflow.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "cpu/executor.h"
#include "engine/proposals.h"
#include "ops/normalize_image.h"
#include "passes/pass.h"

namespace osprey {
namespace {

constexpr float kFp16Max = 65504;

// NaN counts as the largest there is.
float largest_magnitude(const Tensor& tensor) {
  const Tensor wide = tensor.to_f32();
  float out = 0;
  for (const float v : wide.values<float>()) {
    if (std::isnan(v)) return INFINITY;
    out = std::max(out, std::abs(v));
  }
  return out;
}

// What a graph would have in f16: values, and layers whose weights are.
struct Lowered {
  std::set<std::string> values, layers;

  explicit Lowered(Graph graph) {
    lower_precision(graph, {.precision = DType::kF16});
    const auto narrow = [&](ValueId id) {
      return id != kNoValue && graph.value(id).type.dtype == DType::kF16;
    };
    for (const Node& node : graph.nodes()) {
      for (const ValueId id : node.outputs)
        if (narrow(id)) values.insert(graph.value(id).name);
      if (node.inputs.size() > 1 && narrow(node.inputs[1]) && graph.weight(node.inputs[1]))
        layers.insert(node.name);
    }
  }
};

class Search {
 public:
  explicit Search(const Graph& graph) : graph_(graph), lowered_(graph) {
    for (const Node& node : graph.nodes())
      for (const ValueId id : node.outputs)
        if (const std::string& name = graph.value(id).name; lowered_.values.contains(name))
          wanted_.push_back(name);
  }

  void look_at(ExecutorSession& session, const ImageView& photo) {
    RunOptions options{.wanted = wanted_};
    options.observe = [&](const std::string& name, const Tensor& value) {
      float& largest = largest_[name];
      largest = std::max(largest, largest_magnitude(value));
    };
    const std::vector<Proposal> proposals = synthetic_proposals(photo);
    const std::vector<Proposal>* const given = &proposals;
    if (takes_proposals(graph_)) options.inputs["proposals"] = proposal_rows({&given, 1});
    session.run({&photo, 1}, options);
  }

  OverflowReport report() {
    OverflowReport out;
    for (const Node& node : graph_.nodes()) {
      const std::string reason = why_f32(node);
      if (reason.empty()) continue;
      if (node.op.as<NormalizeImage>())
        fail(ErrorCode::kUsage, "fp16: the network's input, {}: use --precision bf16", reason);
      const std::string& value = graph_.value(node.outputs[0]).name;
      out.values.push_back(value);
      out.remarks.push_back(fmt::format("fp16: {} stays fp32: {}",
                                        value == node.name ? value : node.name + " (" + value + ")", reason));
    }
    return out;
  }

 private:
  // Empty: the node can be lowered.
  std::string why_f32(const Node& node) const {
    for (const ValueId id : node.outputs)
      if (overflows(id)) return fmt::format("its values reach {:.4g}", largest_.at(graph_.value(id).name));
    for (const ValueId id : node.inputs) {
      if (id == kNoValue) continue;
      if (overflows(id)) return fmt::format("it reads {}", graph_.value(id).name);
    }
    if (!lowered_.layers.contains(node.name)) return "";
    const float largest = largest_magnitude(graph_.weight(node.inputs[1])->load());
    return largest > kFp16Max ? fmt::format("its weights reach {:.4g}", largest) : "";
  }

  bool overflows(ValueId id) const {
    const auto it = largest_.find(graph_.value(id).name);
    return it != largest_.end() && it->second > kLargestInFp16;
  }
  const Graph& graph_;
  Lowered lowered_;
  std::vector<std::string> wanted_;
  std::map<std::string, float> largest_;
};

}  // namespace

OverflowReport find_overflow(const Graph& graph, std::span<const ImageView> photos, int threads,
                             const std::function<void(double)>& progress) {
  Search search(graph);
  const auto executor = make_cpu_executor(std::make_shared<const Graph>(graph), {.threads = threads});
  const auto session = executor->session();
  for (std::size_t i = 0; i < photos.size(); ++i) {
    search.look_at(*session, photos[i]);
    if (progress) progress(static_cast<double>(i + 1) / static_cast<double>(photos.size()));
  }
  return search.report();
}

}  // namespace osprey

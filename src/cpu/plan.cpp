#include "cpu/plan.h"

#include <algorithm>

#include "cpu/expand_depthwise.h"
#include "cpu/onednn.h"
#include "cpu/reorder.h"
#include "ops/conv.h"
#include "ops/normalize_image.h"
#include "ops/rescale_boxes.h"
#include "passes/memory_plan.h"

namespace osprey {
namespace {

class PrepareContext final : public CpuPrepare {
 public:
  PrepareContext(const CpuShared& shared, const CpuPlan& plan, const PlannedStep& step, int in_place)
      : shared_(shared), plan_(plan), step_(step), in_place_(in_place) {}

  const Node& node() const override { return *step_.node; }
  bool has_input(std::size_t i) const override { return i < step_.ins.size() && step_.ins[i] >= 0; }
  const CpuValue& input(std::size_t i) const override { return value(step_.ins.at(i)); }
  const CpuValue& output(std::size_t i) const override { return value(step_.outs.at(i)); }
  const TensorType& input_type(std::size_t i) const override {
    return shared_.graph().value(node().inputs.at(i)).type;
  }
  Tensor weight(std::size_t i) const override {
    const Weight* w = shared_.weight(node().inputs.at(i));
    check(w, "{}: input {} of {} is no weight", node().name, i, node().op.name());
    return w->load();
  }
  std::shared_ptr<const void> shared(
      const std::string& key, const std::function<std::shared_ptr<const void>()>& make) const override {
    return shared_.derived(key, make);
  }
  std::byte* constant_memory(std::size_t bytes) const override { return shared_.constants().take(bytes); }
  bool in_place(std::size_t i) const override { return in_place_ == static_cast<int>(i); }
  void request_scratch(std::size_t bytes) override { scratch_ = std::max(scratch_, bytes); }
  int threads() const override { return shared_.threads(); }

  std::size_t scratch() const { return scratch_; }

 private:
  const CpuValue& value(int index) const { return plan_.values.at(static_cast<std::size_t>(index)).value; }

  const CpuShared& shared_;
  const CpuPlan& plan_;
  const PlannedStep& step_;
  const int in_place_;
  std::size_t scratch_ = 0;
};

class Planner {
 public:
  Planner(const CpuShared& shared, const DimBindings& bindings)
      : shared_(shared), graph_(shared.graph()), bindings_(bindings) {}

  CpuPlan plan(CpuFusion fusion) {
    const int block = shared_.options().block < 0 ? preferred_block() : shared_.options().block;
    const LayoutPlan layouts = plan_layouts(graph_, shared_.kernels(), block);
    for (const LaidValue& v : layouts.values) plan_.values.push_back(planned(v));
    for (const LaidStep& s : layouts.steps)
      plan_.steps.push_back({s.node, nullptr, s.ins, s.outs, {}, {}, {}});
    plan_.outputs = layouts.outputs;
    if (fusion == CpuFusion::kPairs) fuse_pairs();
    set_phases();
    for (PlannedStep& step : plan_.steps) step.rows_from = rows_from(step);
    place();
    for (std::size_t i = 0; i < plan_.steps.size(); ++i) prepare(i);
    return std::move(plan_);
  }

 private:
  const TensorType& type(const PlannedValue& v) const { return graph_.value(v.id).type; }
  PlannedValue& value(int index) { return plan_.values[static_cast<std::size_t>(index)]; }

  bool is_input(ValueId id) const {
    return std::find(graph_.inputs().begin(), graph_.inputs().end(), id) != graph_.inputs().end();
  }

  bool bound(const TensorType& t) const {
    return std::all_of(t.dims.begin(), t.dims.end(),
                       [&](const Dim& d) { return d.symbol().empty() || bindings_.contains(d.symbol()); });
  }

  PlannedValue planned(const LaidValue& laid) const {
    PlannedValue out;
    out.id = laid.value;
    const TensorType& t = graph_.value(laid.value).type;
    out.value.dtype = t.dtype;
    out.value.layout = laid.layout;
    if (is_input(laid.value) && !bound(t)) {
      out.home = CpuHome::kPhotos;
      out.value.dims.assign(t.dims.size(), 0);
      return out;
    }
    if (shared_.weight(laid.value)) out.home = CpuHome::kWeight;
    for (const Dim& d : t.dims)
      out.value.dims.push_back(d.kind() == Dim::Kind::kUnknown ? 0 : d.evaluate(bindings_));
    if (!out.value.dims.empty()) out.bound = out.value.dims[0];
    const bool unbounded = std::any_of(t.dims.begin(), t.dims.end(),
                                       [](const Dim& d) { return d.kind() == Dim::Kind::kUnknown; });
    if (unbounded) out.home = CpuHome::kGrowable;
    if (out.home != CpuHome::kArena) return out;
    const bool dynamic = !t.dims.empty() && !t.dims[0].is_exact();
    out.capacity = out.value.bytes();
    if (dynamic)
      out.capacity = static_cast<std::size_t>(row_capacity(out.value.dims[0])) * out.value.row_bytes();
    return out;
  }

  std::vector<int> rows_from(const PlannedStep& step) const {
    std::vector<int> out;
    for (const int o : step.outs) {
      const auto& dims = type(plan_.values[static_cast<std::size_t>(o)]).dims;
      int from = -1;
      for (std::size_t i = 0; i < step.ins.size() && from < 0 && !dims.empty(); ++i) {
        if (step.ins[i] < 0) continue;
        const auto& in = type(plan_.values[static_cast<std::size_t>(step.ins[i])]).dims;
        if (dims[0].kind() == Dim::Kind::kAtMost && !in.empty() && in[0] == dims[0]) from = step.ins[i];
      }
      out.push_back(from);
    }
    return out;
  }

  // Convolutions and the depthwise ones that alone read them become one step, in the place of the second.
  void fuse_pairs() {
    const std::size_t none = plan_.steps.size();
    std::vector<std::size_t> maker(plan_.values.size(), none);
    std::vector<int> readers(plan_.values.size(), 0);
    for (const int o : plan_.outputs) ++readers[static_cast<std::size_t>(o)];
    for (std::size_t s = 0; s < plan_.steps.size(); ++s) {
      for (const int i : plan_.steps[s].ins)
        if (i >= 0) ++readers[static_cast<std::size_t>(i)];
      for (const int o : plan_.steps[s].outs) maker[static_cast<std::size_t>(o)] = s;
    }
    std::vector<bool> gone(plan_.steps.size(), false);
    for (PlannedStep& second : plan_.steps) {
      if (!second.node || !second.node->op.as<Conv>()) continue;
      const auto between = static_cast<std::size_t>(second.ins[0]);
      const std::size_t at = maker[between];
      if (at == none || gone[at] || readers[between] != 1) continue;
      PlannedStep& first = plan_.steps[at];
      if (!first.node || !first.node->op.as<Conv>() || !first.parts.empty()) continue;
      if (!expands_depthwise(PrepareContext(shared_, plan_, first, -1),
                             PrepareContext(shared_, plan_, second, -1)))
        continue;
      PlannedStep pair{second.node, nullptr, {first.ins[0]}, second.outs, {}, {}, {}};
      pair.parts.push_back(std::move(first));
      pair.parts.push_back(std::move(second));
      second = std::move(pair);
      plan_.hidden.push_back(plan_.values[between].id);
      gone[at] = true;
    }
    std::size_t kept = 0;
    for (std::size_t s = 0; s < plan_.steps.size(); ++s) {
      if (gone[s]) continue;
      if (kept != s) plan_.steps[kept] = std::move(plan_.steps[s]);
      ++kept;
    }
    plan_.steps.resize(kept);
  }

  // Preprocessing ends with the last normalize_image, postprocessing begins with the first rescale_boxes
  // that leaves the network.
  void set_phases() {
    std::size_t network = 0, post = plan_.steps.size();
    for (std::size_t i = plan_.steps.size(); i-- > 0;) {
      const Node* node = plan_.steps[i].node;
      if (node && node->op.as<NormalizeImage>()) network = std::max(network, i + 1);
      if (const auto* rescale = node ? node->op.as<RescaleBoxes>() : nullptr; rescale && !rescale->to_network)
        post = i;
    }
    for (std::size_t i = 0; i < plan_.steps.size(); ++i)
      plan_.steps[i].phase = i < network ? CpuPhase::kPreprocess
                             : i >= post ? CpuPhase::kPostprocess
                                         : CpuPhase::kNetwork;
  }

  // The same extents and layout; C order of as many elements a row is the same memory, too (flatten).
  bool same_memory(int a, int b) {
    const CpuValue &x = value(a).value, &y = value(b).value;
    const bool plain = x.layout.block == 1 && y.layout.block == 1;
    return x.dtype == y.dtype && x.layout == y.layout && value(a).capacity == value(b).capacity &&
           (x.dims == y.dims || (plain && !x.dims.empty() && !y.dims.empty() && x.dims[0] == y.dims[0]));
  }

  // Lifetimes, then places. A value that is made and never read lives for its own step.
  void place() {
    const int end = static_cast<int>(plan_.steps.size());
    std::vector<int> first(plan_.values.size(), end), last(plan_.values.size(), 0);
    for (int s = 0; s < end; ++s) {
      const PlannedStep& step = plan_.steps[static_cast<std::size_t>(s)];
      for (const int o : step.outs)
        first[static_cast<std::size_t>(o)] = last[static_cast<std::size_t>(o)] = s;
      for (const int i : step.ins)
        if (i >= 0) last[static_cast<std::size_t>(i)] = s;
    }
    for (const int o : plan_.outputs) last[static_cast<std::size_t>(o)] = end;

    std::vector<MemoryRequest> requests;
    std::vector<int> request_of(plan_.values.size(), -1), wanted(plan_.steps.size(), -1);
    const std::size_t guard = shared_.options().guards ? kGuardBytes : 0;
    for (std::size_t v = 0; v < plan_.values.size(); ++v) {
      if (!is_input(plan_.values[v].id) || plan_.values[v].home != CpuHome::kArena || first[v] < end)
        continue;
      request_of[v] = static_cast<int>(requests.size());
      requests.push_back({plan_.values[v].capacity + guard, 0, last[v], -1});
    }
    for (int s = 0; s < end; ++s) {
      const PlannedStep& step = plan_.steps[static_cast<std::size_t>(s)];
      for (std::size_t o = 0; o < step.outs.size(); ++o) {
        const auto out = static_cast<std::size_t>(step.outs[o]);
        if (plan_.values[out].home != CpuHome::kArena) continue;
        MemoryRequest request{plan_.values[out].capacity + guard, first[out], last[out], -1};
        if (o == 0) {
          wanted[static_cast<std::size_t>(s)] = reusable_input(step, last, s);
          if (const int i = wanted[static_cast<std::size_t>(s)]; i >= 0)
            request.reuses = request_of[static_cast<std::size_t>(step.ins[static_cast<std::size_t>(i)])];
        }
        request_of[out] = static_cast<int>(requests.size());
        requests.push_back(request);
      }
    }
    const MemoryPlan memory = plan_memory(requests);
    plan_.arena_bytes = memory.bytes;
    in_place_.assign(plan_.steps.size(), -1);
    for (std::size_t v = 0; v < plan_.values.size(); ++v)
      if (request_of[v] >= 0)
        plan_.values[v].offset = memory.offsets[static_cast<std::size_t>(request_of[v])];
    for (std::size_t s = 0; s < plan_.steps.size(); ++s) {
      if (wanted[s] < 0) continue;
      const auto out = static_cast<std::size_t>(plan_.steps[s].outs[0]);
      if (memory.in_place[static_cast<std::size_t>(request_of[out])]) in_place_[s] = wanted[s];
    }
  }

  // The input whose memory output 0 may take over, by the kernel's rule; -1 for none.
  int reusable_input(const PlannedStep& step, const std::vector<int>& last, int now) {
    if (!step.node || !step.parts.empty()) return -1;
    const CpuKernel& kernel = *shared_.kernels()[static_cast<std::size_t>(step.node - graph_.nodes().data())];
    for (const int i : kernel.in_place) {
      const int in =
          static_cast<std::size_t>(i) < step.ins.size() ? step.ins[static_cast<std::size_t>(i)] : -1;
      if (in < 0 || value(in).home != CpuHome::kArena || last[static_cast<std::size_t>(in)] != now) continue;
      if (std::count(step.ins.begin(), step.ins.end(), in) == 1 && same_memory(in, step.outs[0])) return i;
    }
    return -1;
  }

  // oneDNN refuses some layers that only a damaged or hostile engine has.
  template <class Make>
  static std::unique_ptr<CpuStep> step_of_layer(const Node& node, Make&& make) {
    return in_context(node.name, [&]() -> std::unique_ptr<CpuStep> {
      try {
        return make();
      } catch (const dnnl::error& e) {
        bad_input("oneDNN has no such {}: {}", node.op.name(), e.what());
      }
    });
  }

  void prepare(std::size_t index) {
    PlannedStep& step = plan_.steps[index];
    if (!step.node) {
      step.step = reorder_step();
      return;
    }
    if (!step.parts.empty()) {
      PrepareContext first(shared_, plan_, step.parts[0], -1), second(shared_, plan_, step.parts[1], -1);
      step.step = step_of_layer(*step.node, [&] { return expand_depthwise_step(first, second); });
      plan_.scratch_bytes = std::max(plan_.scratch_bytes, second.scratch());
      return;
    }
    const CpuKernel& kernel = *shared_.kernels()[static_cast<std::size_t>(step.node - graph_.nodes().data())];
    PrepareContext context(shared_, plan_, step, in_place_[index]);
    step.step = step_of_layer(*step.node, [&] { return kernel.prepare(context); });
    plan_.scratch_bytes = std::max(plan_.scratch_bytes, context.scratch());
  }

  const CpuShared& shared_;
  const Graph& graph_;
  const DimBindings& bindings_;
  CpuPlan plan_;
  std::vector<int> in_place_;  // for each step: the input that output 0 takes over, or -1
};

}  // namespace

CpuShared::CpuShared(std::shared_ptr<const Graph> graph, const CpuOptions& options)
    : graph_(std::move(graph)), options_(options) {
  for (const Weight& w : graph_->weights()) weights_[w.value] = &w;
  for (const Node& node : graph_->nodes()) {
    const auto& all = cpu_kernels();
    const auto kernel = std::find_if(all.begin(), all.end(),
                                     [&](const CpuKernel& k) { return k.op->name == node.op.name(); });
    if (kernel == all.end()) bad_input("{}: the CPU has no kernel for {}", node.name, node.op.name());
    const DType type = graph_->value(node.inputs.at(0)).type.dtype;
    if (std::find(kernel->dtypes.begin(), kernel->dtypes.end(), type) == kernel->dtypes.end())
      bad_input("{}: the CPU's {} does not take {}", node.name, node.op.name(), name_of(type));
    kernels_.push_back(&*kernel);
  }
}

const Weight* CpuShared::weight(ValueId id) const {
  const auto it = weights_.find(id);
  return it == weights_.end() ? nullptr : it->second;
}

std::shared_ptr<const void> CpuShared::derived(
    const std::string& key, const std::function<std::shared_ptr<const void>()>& make) const {
  std::shared_ptr<Derived> entry;
  {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Derived>& slot = derived_[key];
    if (!slot) slot = std::make_shared<Derived>();
    entry = slot;
  }
  std::call_once(entry->once, [&] { entry->value = make(); });
  return entry->value;
}

CpuPlan make_plan(const CpuShared& shared, const DimBindings& bindings, CpuFusion fusion) {
  return Planner(shared, bindings).plan(fusion);
}

}  // namespace osprey

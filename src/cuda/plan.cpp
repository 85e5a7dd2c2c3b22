#include "cuda/plan.h"

#include <algorithm>
#include <bit>
#include <list>
#include <map>
#include <set>

#include <fmt/format.h>

#include "backends/image_dims.h"
#include "cuda/alignment.h"
#include "cuda/conv_group_step.h"
#include "cuda/conversions.h"
#include "cuda/quantized_hopper_step.h"
#include "cuda/schedule.h"
#include "cuda/separable_step.h"
#include "cuda/squeezed_conv_step.h"
#include "ops/dequantize.h"
#include "ops/normalize_image.h"
#include "ops/paste_masks.h"
#include "ops/quantize.h"
#include "ops/rescale_boxes.h"
#include "ops/resize_masks.h"
#include "passes/memory_plan.h"

namespace osprey {
namespace {

constexpr int kSmallestPhotoClass = 512;
constexpr std::int64_t kMostRuns = std::int64_t{16} << 20;

class PrepareContext final : public CudaPrepare {
 public:
  PrepareContext(const CudaShared& shared, const CudaPlan& plan, const CudaPlannedStep& step, int in_place,
                 cudaStream_t stream)
      : shared_(shared), plan_(plan), step_(step), in_place_(in_place), stream_(stream) {}

  const Graph& graph() const override { return shared_.graph(); }
  const Node& node() const override { return *step_.node; }
  bool has_input(std::size_t i) const override { return i < step_.ins.size() && step_.ins[i] >= 0; }
  const CudaValue& input(std::size_t i) const override { return value(step_.ins.at(i)); }
  const CudaValue& output(std::size_t i) const override { return value(step_.outs.at(i)); }
  const CudaPhotos& photos() const override { return plan_.photos; }
  Tensor weight(std::size_t i) const override {
    const Weight* w = shared_.weight(node().inputs.at(i));
    check(w, "{}: input {} of {} is no weight", node().name, i, node().op.name());
    return w->load();
  }
  std::shared_ptr<const DeviceBuffer> shared(const std::string& key,
                                             const std::function<DeviceBuffer()>& make) const override {
    return shared_.derived(key, make);
  }
  bool in_place(std::size_t i) const override { return in_place_ == static_cast<int>(i); }
  void request_scratch(std::size_t bytes) override { scratch_ = std::max(scratch_, bytes); }
  bool tf32() const override { return shared_.options().tf32; }
  const CudaDevice& device() const override { return shared_.device(); }
  CudaTuner& tuner() const override { return shared_.tuner(); }
  cudaStream_t stream() const override { return stream_; }

  std::size_t scratch() const { return scratch_; }

 private:
  const CudaValue& value(int index) const { return plan_.values.at(static_cast<std::size_t>(index)).value; }

  const CudaShared& shared_;
  const CudaPlan& plan_;
  const CudaPlannedStep& step_;
  const int in_place_;
  const cudaStream_t stream_;
  std::size_t scratch_ = 0;
};

class Planner {
 public:
  Planner(const CudaShared& shared, const CudaShapeClass& shapes, cudaStream_t stream)
      : shared_(shared), graph_(shared.graph()), shapes_(shapes), stream_(stream) {}

  CudaPlan plan() {
    plan_.photos = {nullptr, shapes_.slot_bytes(), shapes_.max_height, shapes_.max_width};
    for (std::size_t id = 0; id < graph_.values().size(); ++id)
      plan_.values.push_back(placed(static_cast<ValueId>(id)));
    const auto key = [&](const Node& node) { return conv_group_key(graph_, node, shared_.device()); };
    if (!shared_.options().keep_values) join_conversions();
    std::vector<std::vector<const Node*>> groups = scheduled(graph_, key, kMostConvsOfAStep);
    // First, so that no group of maps and predictors loses some of its maps.
    if (!shared_.options().keep_values) join_separable(graph_, groups);
    join_predictors(graph_, shared_.device(), groups);
    join_squeezed_convs(graph_, shared_.options().tf32, groups);
    if (!shared_.options().keep_values) join_selections(graph_, shared_.device(), groups);
    for (const std::vector<const Node*>& nodes : groups)
      if (!joined_.contains(nodes.front())) plan_.steps.push_back(step_of(nodes));
    set_phases();
    number_counts();
    place();
    for (std::size_t i = 0; i < plan_.steps.size(); ++i) prepare(i);
    plan_.scratch_offset = plan_.arena_bytes;
    plan_.arena_bytes += device_aligned(plan_.scratch_bytes);
    return std::move(plan_);
  }

 private:
  CudaPlannedStep step_of(const std::vector<const Node*>& nodes) const {
    CudaPlannedStep out{nodes.front(), nullptr, {}, {}};
    for (const Node* node : nodes) {
      const bool reads_integers = readers_of_integers_.contains(node);
      for (const ValueId in : node->inputs) out.ins.push_back(reads_integers ? integers_of(in) : in);
      for (const ValueId made : node->outputs) {
        const auto stored = stored_as_.find(made);
        out.outs.push_back(stored == stored_as_.end() ? made : stored->second);
      }
    }
    out.nodes = nodes;
    return out;
  }

  // Finds the conversions that kernels before or behind them do themselves (cuda/conversions.h). Who wants to
  // see all values sees them as the graph has them.
  void join_conversions() {
    std::map<ValueId, int> readers;  // of floats
    for (const Node& node : graph_.nodes()) {
      const bool integers = reads_integers(graph_, node);
      if (integers) readers_of_integers_.insert(&node);
      for (const ValueId in : node.inputs) readers[in] += !(integers && integers_of(in) != in);
    }
    for (const Node& node : graph_.nodes()) {
      const bool dequantizes = node.op.as<Dequantize>() != nullptr;
      if (dequantizes && readers[node.outputs[0]] == 0 && !is_output(node.outputs[0])) joined_.insert(&node);
      if (!node.op.as<Quantize>() || readers[node.inputs[0]] > 1 || is_output(node.inputs[0])) continue;
      const Node* maker = graph_.producer(node.inputs[0]);
      if (!maker || maker->outputs[0] != node.inputs[0]) continue;
      const CudaPlannedStep step = step_of({maker});
      if (!stores_integers(PrepareContext(shared_, plan_, step, -1, stream_))) continue;
      stored_as_[node.inputs[0]] = node.outputs[0];
      joined_.insert(&node);
    }
  }

  // What a value was dequantised from; itself where it was not.
  ValueId integers_of(ValueId id) const {
    const Node* maker = graph_.producer(id);
    return maker && maker->op.as<Dequantize>() ? maker->inputs[0] : id;
  }

  CudaPlaced& value(int index) { return plan_.values[static_cast<std::size_t>(index)]; }
  const TensorType& type(int index) const { return graph_.value(index).type; }
  bool is_input(ValueId id) const {
    return std::find(graph_.inputs().begin(), graph_.inputs().end(), id) != graph_.inputs().end();
  }

  CudaPlaced placed(ValueId id) const {
    CudaPlaced out;
    out.id = id;
    const TensorType& t = type(id);
    out.value.dtype = t.dtype;
    if (shared_.weight(id)) out.home = CudaHome::kWeight;
    const bool bound = std::all_of(t.dims.begin(), t.dims.end(), [&](const Dim& d) {
      return d.symbol().empty() || shapes_.bindings.contains(d.symbol());
    });
    if (is_input(id) && !bound) {
      out.home = CudaHome::kPhotos;
      out.value.dims.assign(t.dims.size(), 0);
      return out;
    }
    for (const Dim& d : t.dims)
      out.value.dims.push_back(d.kind() == Dim::Kind::kUnknown ? unbounded_rows(id)
                                                               : d.evaluate(shapes_.bindings));
    return out;
  }

  // Room for an output whose type has no bound. A mask of S rows, enlarged linearly, crosses the threshold at
  // most S + 1 times a column of the photo.
  std::int64_t unbounded_rows(ValueId id) const {
    const Node* node = graph_.producer(id);
    check(node && (node->op.as<PasteMasks>() || node->op.as<ResizeMasks>()), "{}: has no bound",
          graph_.value(id).name);
    const std::int64_t side = type(node->inputs[0]).dims[1].evaluate(shapes_.bindings);
    const std::int64_t masks = type(node->inputs[1]).dims[0].evaluate(shapes_.bindings);
    return std::min(kMostRuns, masks * (2 + shapes_.max_width * (side + 2)));
  }

  // Preprocessing ends with the last normalize_image, postprocessing begins with the first rescale_boxes
  // that leaves the network.
  void set_phases() {
    std::size_t network = 0, post = plan_.steps.size();
    for (std::size_t i = plan_.steps.size(); i-- > 0;) {
      if (plan_.steps[i].node->op.as<NormalizeImage>()) network = std::max(network, i + 1);
      if (const auto* rescale = plan_.steps[i].node->op.as<RescaleBoxes>(); rescale && !rescale->to_network)
        post = i;
    }
    for (std::size_t i = 0; i < plan_.steps.size(); ++i)
      plan_.steps[i].phase = i < network ? CudaPhase::kPreprocess
                             : i >= post ? CudaPhase::kPostprocess
                                         : CudaPhase::kNetwork;
  }

  bool data_dependent(int index) const {
    const auto& dims = type(index).dims;
    return !dims.empty() && !dims[0].is_exact();
  }

  // An output shares the count of the input with the same bound, or of an earlier output of the same node; or
  // gets a new one.
  void number_counts() {
    for (const ValueId id : graph_.inputs())
      if (data_dependent(id)) value(id).count = plan_.counts++;
    for (const CudaPlannedStep& step : plan_.steps)
      for (std::size_t o = 0; o < step.outs.size(); ++o)
        if (data_dependent(step.outs[o])) value(step.outs[o]).count = count_of(step, o);
  }

  int count_of(const CudaPlannedStep& step, std::size_t output) {
    const Dim& rows = type(step.outs[output]).dims[0];
    if (rows.kind() == Dim::Kind::kUnknown) return plan_.counts++;
    if (!shared_.kernel(*step.node).selects_rows)
      for (const int in : step.ins)
        if (in >= 0 && data_dependent(in) && type(in).dims[0] == rows) return value(in).count;
    for (std::size_t o = 0; o < output; ++o)
      if (type(step.outs[o]).dims[0] == rows) return value(step.outs[o]).count;
    return plan_.counts++;
  }

  bool is_output(int index) const { return graph_.is_output(index); }

  // Counts, outputs, then the rest by lifetime. An output without a bound comes last of the outputs, and only
  // its beginning is downloaded each time.
  void place() {
    std::size_t end = device_aligned(static_cast<std::size_t>(plan_.counts) * sizeof(int));
    std::vector<int> outputs(graph_.outputs().begin(), graph_.outputs().end());
    const auto bounded = [&](int id) {
      const auto& dims = type(id).dims;
      return dims.empty() || dims[0].kind() != Dim::Kind::kUnknown;
    };
    std::stable_partition(outputs.begin(), outputs.end(), bounded);
    plan_.output_bytes = end;
    for (const int id : outputs) {
      CudaPlaced& v = value(id);
      check(v.home == CudaHome::kArena && !is_input(id), "output {}: nothing makes it",
            graph_.value(id).name);
      v.offset = end;
      end += device_aligned(v.value.bytes() + guard());
      plan_.output_bytes = bounded(id) ? end : v.offset + std::min(v.value.bytes(), runs_prefix());
    }
    place_rest(end);
  }

  std::size_t runs_prefix() const {
    const auto photos = shapes_.bindings.find("N");
    return kRunsPrefixBytes *
           (photos == shapes_.bindings.end() ? 1 : static_cast<std::size_t>(photos->second));
  }

  std::size_t guard() const { return shared_.options().guards ? kCudaGuardBytes : 0; }

  void place_rest(std::size_t start) {
    const int end = static_cast<int>(plan_.steps.size());
    std::vector<int> first(plan_.values.size(), end), last(plan_.values.size(), -1);
    for (int s = 0; s < end; ++s) {
      const CudaPlannedStep& step = plan_.steps[static_cast<std::size_t>(s)];
      for (const int o : step.outs)
        first[static_cast<std::size_t>(o)] = last[static_cast<std::size_t>(o)] = s;
      for (const int i : step.ins)
        if (i >= 0) last[static_cast<std::size_t>(i)] = s;
    }
    // Inputs stay for replays of the run, which do not upload them again.
    for (const ValueId id : graph_.inputs()) {
      int& until = last[static_cast<std::size_t>(id)];
      if (until >= 0) until = end;
    }
    if (shared_.options().keep_values) {
      first.assign(plan_.values.size(), 0);
      last.assign(plan_.values.size(), end);
    }
    std::vector<MemoryRequest> requests;
    std::vector<int> request_of(plan_.values.size(), -1), wanted(plan_.steps.size(), -1);
    const auto add = [&](int index, MemoryRequest request) {
      request_of[static_cast<std::size_t>(index)] = static_cast<int>(requests.size());
      requests.push_back(request);
    };
    for (const ValueId id : graph_.inputs())  // alive from the start
      if (value(id).home == CudaHome::kArena && last[static_cast<std::size_t>(id)] >= 0)
        add(id, {value(id).value.bytes() + guard(), 0, last[static_cast<std::size_t>(id)], -1});
    for (int s = 0; s < end; ++s) {
      const CudaPlannedStep& step = plan_.steps[static_cast<std::size_t>(s)];
      for (std::size_t o = 0; o < step.outs.size(); ++o) {
        const int out = step.outs[o];
        if (is_output(out)) continue;
        MemoryRequest request{value(out).value.bytes() + guard(), first[static_cast<std::size_t>(out)],
                              last[static_cast<std::size_t>(out)], -1};
        if (o == 0) {
          const int i = wanted[static_cast<std::size_t>(s)] = reusable_input(step, last, s);
          if (i >= 0)
            request.reuses = request_of[static_cast<std::size_t>(step.ins[static_cast<std::size_t>(i)])];
        }
        add(out, request);
      }
    }
    const MemoryPlan memory = plan_memory(requests, kDeviceAlignment);
    plan_.arena_bytes = start + memory.bytes;
    in_place_.assign(plan_.steps.size(), -1);
    for (std::size_t v = 0; v < plan_.values.size(); ++v)
      if (request_of[v] >= 0)
        plan_.values[v].offset = start + memory.offsets[static_cast<std::size_t>(request_of[v])];
    for (std::size_t s = 0; s < plan_.steps.size(); ++s)
      if (wanted[s] >= 0 && memory.in_place[static_cast<std::size_t>(
                                request_of[static_cast<std::size_t>(plan_.steps[s].outs[0])])])
        in_place_[s] = wanted[s];
  }

  // The input whose memory output 0 may take over, by the kernel's rule; -1 for none.
  int reusable_input(const CudaPlannedStep& step, const std::vector<int>& last, int now) {
    for (const int i : shared_.kernel(*step.node).in_place) {
      const int in =
          static_cast<std::size_t>(i) < step.ins.size() ? step.ins[static_cast<std::size_t>(i)] : -1;
      if (in < 0 || is_output(in) || value(in).home != CudaHome::kArena ||
          last[static_cast<std::size_t>(in)] != now)
        continue;
      if (std::count(step.ins.begin(), step.ins.end(), in) == 1 &&
          value(in).value.bytes() == value(step.outs[0]).value.bytes() && keeps_order(*step.node))
        return i;
    }
    return -1;
  }

  // A flatten moves elements unless its readers take channels last.
  bool keeps_order(const Node& node) const {
    if (node.op.name() != "flatten") return true;
    const auto& dims = value_dims(node.inputs[0]);
    return flattened_channels_last(graph_, node.outputs[0]) || dims[1] == 1 || dims[2] * dims[3] == 1;
  }
  const Shape& value_dims(int index) const {
    return plan_.values[static_cast<std::size_t>(index)].value.dims;
  }

  void prepare(std::size_t index) {
    CudaPlannedStep& step = plan_.steps[index];
    if (step.nodes.size() > 1 ||
        is_conv_group(*step.node, conv_group_key(graph_, *step.node, shared_.device())))
      return prepare_group(step);
    PrepareContext context(shared_, plan_, step, in_place_[index], stream_);
    step.step = in_context(step.node->name, [&] { return shared_.kernel(*step.node).prepare(context); });
    plan_.scratch_bytes = std::max(plan_.scratch_bytes, context.scratch());
  }

  void prepare_group(CudaPlannedStep& step) {
    std::vector<CudaPlannedStep> members;
    for (const Node* node : step.nodes) members.push_back(step_of({node}));
    std::list<PrepareContext> contexts;
    std::vector<CudaPrepare*> prepares;
    for (const CudaPlannedStep& member : members)
      prepares.push_back(&contexts.emplace_back(shared_, plan_, member, -1, stream_));
    const auto each = [&](CudaPrepare& p) {
      return in_context(p.node().name, [&] { return shared_.kernel(p.node()).prepare(p); });
    };
    const auto scratch = [&] {
      std::size_t most = 0;
      for (const PrepareContext& context : contexts) most = std::max(most, context.scratch());
      return most;
    };
    step.step = in_context(step.name(), [&] {
      return is_squeezed_conv(step.nodes) ? squeezed_conv_step(prepares)
                                          : conv_group_step(prepares, each, scratch);
    });
    plan_.scratch_bytes = std::max(plan_.scratch_bytes, scratch());
  }

  const CudaShared& shared_;
  const Graph& graph_;
  const CudaShapeClass& shapes_;
  const cudaStream_t stream_;
  CudaPlan plan_;
  std::set<const Node*> joined_;  // conversions that are no steps
  std::set<const Node*> readers_of_integers_;
  std::map<ValueId, ValueId> stored_as_;  // results that their makers store in 8 bits
  std::vector<int> in_place_;             // for each step: the input that output 0 takes over, or -1
};

const CudaKernel& kernel_of(const Graph& graph, const Node& node) {
  const auto& kernels = cuda_kernels();
  const auto it = std::find_if(kernels.begin(), kernels.end(),
                               [&](const CudaKernel& k) { return k.op->name == node.op.name(); });
  if (it == kernels.end())
    bad_input("{}: CUDA has no kernel for {}; build with --device cpu", node.name, node.op.name());
  const DType type = graph.value(node.inputs.at(0)).type.dtype;
  if (std::find(it->dtypes.begin(), it->dtypes.end(), type) == it->dtypes.end())
    bad_input("{}: CUDA's {} does not take {}", node.name, node.op.name(), name_of(type));
  return *it;
}

}  // namespace

std::string CudaPlannedStep::name() const {
  return nodes.size() < 2 ? node->name : fmt::format("{} and {} more", node->name, nodes.size() - 1);
}

void check_cuda_kernels(const Graph& graph) {
  for (const Node& node : graph.nodes()) kernel_of(graph, node);
}

CudaShared::CudaShared(std::shared_ptr<const Graph> graph, const CudaOptions& options)
    : graph_(std::move(graph)), options_(options) {
  for (const Weight& w : graph_->weights()) weights_[w.value] = &w;
  for (const Node& node : graph_->nodes()) kernels_.push_back(&kernel_of(*graph_, node));
  std::string why;
  const std::vector<CudaDevice> devices = cuda_devices(&why);
  if (devices.empty()) fail(ErrorCode::kDevice, "{}; run with --device cpu, or see `osprey doctor`", why);
  if (options.device < 0 || static_cast<std::size_t>(options.device) >= devices.size())
    fail(ErrorCode::kDevice, "there is no GPU {}: this machine has {}", options.device, devices.size());
  device_ = devices[static_cast<std::size_t>(options.device)];
  cuda_check(cudaSetDevice(device_.index), device_.name);
  tuner_ =
      std::make_unique<CudaTuner>(device_, options.tuning_budget, options.tuning_cache, options.progress);
}

const CudaKernel& CudaShared::kernel(const Node& node) const {
  return *kernels_[static_cast<std::size_t>(&node - graph_->nodes().data())];
}

const Weight* CudaShared::weight(ValueId id) const {
  const auto it = weights_.find(id);
  return it == weights_.end() ? nullptr : it->second;
}

std::shared_ptr<const DeviceBuffer> CudaShared::derived(const std::string& key,
                                                        const std::function<DeviceBuffer()>& make) const {
  std::shared_ptr<Derived> entry;
  {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Derived>& slot = derived_[key];
    if (!slot) slot = std::make_shared<Derived>();
    entry = slot;
  }
  std::call_once(entry->once, [&] {
    entry->buffer = std::make_shared<const DeviceBuffer>(make());
    weight_bytes_ += entry->buffer->size();
  });
  return entry->buffer;
}

CudaShapeClass shape_class(const Graph& graph, std::span<const ImageView> photos) {
  CudaShapeClass out{bind_image_dims(graph, photos)};
  for (const ImageView& photo : photos) {
    out.max_height = std::max(out.max_height, photo.height);
    out.max_width = std::max(out.max_width, photo.width);
  }
  for (int* side : {&out.max_height, &out.max_width})
    *side = std::max(kSmallestPhotoClass, static_cast<int>(std::bit_ceil(static_cast<unsigned>(*side))));
  for (const Node& node : graph.nodes())
    if (node.op.as<NormalizeImage>()) {
      const auto& dims = graph.value(node.outputs[0]).type.dims;
      out.bindings["rh"] = dims[2].evaluate(out.bindings);
      out.bindings["rw"] = dims[3].evaluate(out.bindings);
    }
  return out;
}

CudaPlan make_cuda_plan(const CudaShared& shared, const CudaShapeClass& shapes, cudaStream_t stream) {
  return Planner(shared, shapes, stream).plan();
}

}  // namespace osprey

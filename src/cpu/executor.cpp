#include "cpu/executor.h"

#include <algorithm>
#include <cstring>

#include <omp.h>
#include <sched.h>

#include "backends/image_dims.h"
#include "cpu/denormals.h"
#include "cpu/reorder.h"
#include "cpu/session.h"

namespace osprey {
namespace {

constexpr std::size_t kPlansKept = 16;  // of a session; a plan holds a few megabytes of generated code
constexpr std::byte kGuardByte{0xa5};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// OpenMP's thread count belongs to the calling thread: set for a run, given back after it.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~ThreadScope() { omp_set_num_threads(before_); }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

int cores_of_process() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, omp_get_num_procs());
}

class PlanExecutor final : public CpuExecutor {
 public:
  explicit PlanExecutor(std::shared_ptr<const CpuShared> shared) : shared_(std::move(shared)) {}
  std::unique_ptr<ExecutorSession> session() const override { return cpu_session(); }
  std::unique_ptr<CpuSession> cpu_session() const override { return std::make_unique<PlanSession>(shared_); }

 private:
  std::shared_ptr<const CpuShared> shared_;
};

}  // namespace

// What a kernel sees of one step.
class PlanSession::Context final : public CpuRun {
 public:
  Context(PlanSession& session, CpuPlan& plan, std::span<const ImageView> photos,
          const RunParameters& parameters)
      : session_(session), plan_(plan), photos_(photos), parameters_(parameters) {}

  void enter(PlannedStep& step) { step_ = &step; }

  const CpuValue& in(std::size_t i) const override { return value(step_->ins.at(i)); }
  const CpuValue& out(std::size_t i) const override { return value(step_->outs.at(i)); }
  void set_rows(std::size_t i, std::int64_t rows) override { value(step_->outs.at(i)).dims.at(0) = rows; }
  const CpuValue& grow(std::size_t i, std::int64_t rows) override {
    CpuValue& v = value(step_->outs.at(i));
    std::vector<std::byte>& memory = session_.growable(step_->outs[i]);
    const std::size_t bytes = static_cast<std::size_t>(rows) * v.row_bytes();
    if (memory.size() < bytes) memory.resize(bytes + bytes / 2);
    v.data = memory.data();
    v.dims[0] = rows;
    return v;
  }
  std::span<std::byte> scratch() override {
    return {session_.arena_.data() + plan_.arena_bytes, plan_.scratch_bytes};
  }
  std::span<const ImageView> photos() const override { return photos_; }
  const RunParameters& parameters() const override { return parameters_; }
  int threads() const override { return session_.shared_->threads(); }

 private:
  CpuValue& value(int index) const { return plan_.values.at(static_cast<std::size_t>(index)).value; }

  PlanSession& session_;
  CpuPlan& plan_;
  std::span<const ImageView> photos_;
  const RunParameters& parameters_;
  PlannedStep* step_ = nullptr;
};

PlanSession::PlanSession(std::shared_ptr<const CpuShared> shared) : shared_(std::move(shared)) {}

std::vector<std::byte>& PlanSession::growable(int value) {
  return growable_[plans_.front().plan.values[static_cast<std::size_t>(value)].id];
}

// Finds or makes the plan, and brings it to the front.
const CpuPlan& PlanSession::bring_plan(const DimBindings& bindings, CpuFusion fusion) {
  const auto it = std::find_if(plans_.begin(), plans_.end(), [&](const CachedPlan& p) {
    return p.bindings == bindings && p.fusion == fusion;
  });
  if (it != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, it);
  } else {
    plans_.push_front({bindings, fusion, make_plan(*shared_, bindings, fusion)});
    if (plans_.size() > kPlansKept) plans_.pop_back();
  }
  return plans_.front().plan;
}

// A run that wants a value which steps keep to themselves has them done one by one.
void PlanSession::use_plan(const DimBindings& bindings, const RunOptions& options) {
  const CpuPlan& plan = bring_plan(bindings, CpuFusion::kPairs);
  const bool misses = std::any_of(plan.hidden.begin(), plan.hidden.end(), [&](ValueId id) {
    const std::string& name = shared_->graph().value(id).name;
    return std::find(options.wanted.begin(), options.wanted.end(), name) != options.wanted.end();
  });
  if (misses) bring_plan(bindings, CpuFusion::kNone);
  place_values();
}

// Points the values into the arena, which a larger plan may have moved.
void PlanSession::place_values() {
  CpuPlan& plan = plans_.front().plan;
  arena_.reserve(plan.arena_bytes + plan.scratch_bytes);
  for (PlannedValue& v : plan.values)
    if (v.home == CpuHome::kArena) v.value.data = arena_.data() + v.offset;
}

PlannedValue& PlanSession::input(ValueId id) {
  for (PlannedValue& v : plans_.front().plan.values)
    if (v.id == id) return v;
  fail(ErrorCode::kInternal, "input {} has no place", shared_->graph().value(id).name);
}

void PlanSession::feed(ValueId id, const Tensor& value) {
  CpuValue& v = input(id).value;
  if (!v.dims.empty()) v.dims[0] = value.dim(0);
  if (!value.empty()) std::memcpy(v.data, value.bytes().data(), value.bytes().size());
}

RunTimes PlanSession::run(std::span<const ImageView> photos, const RunOptions& options) {
  const Graph& graph = shared_->graph();
  const ThreadScope threads(shared_->threads());
  DimBindings bindings = bind_image_dims(graph, photos);
  std::vector<ValueId> others;
  for (const ValueId id : graph.inputs())
    if (const std::string& name = graph.value(id).name; name != "photos" && name != "sizes")
      others.push_back(id);
  for (const ValueId id : others) bind_input(graph, id, options.inputs, bindings);
  use_plan(bindings, options);
  for (const ValueId id : others) feed(id, options.inputs.at(graph.value(id).name));
  const ValueId sizes = graph.find("sizes");
  if (sizes != kNoValue) {
    auto* out = reinterpret_cast<std::int32_t*>(input(sizes).value.data);
    for (const ImageView& photo : photos) {
      *out++ = photo.height;
      *out++ = photo.width;
    }
  }
  return run_steps(photos, options);
}

RunTimes PlanSession::run_tensors(const std::map<std::string, Tensor>& inputs, const RunOptions& options) {
  const Graph& graph = shared_->graph();
  const ThreadScope threads(shared_->threads());
  DimBindings bindings;
  for (const ValueId id : graph.inputs()) bind_input(graph, id, inputs, bindings);
  use_plan(bindings, options);
  for (const ValueId id : graph.inputs()) feed(id, inputs.at(graph.value(id).name));
  return run_steps({}, options);
}

// The counts that a step's outputs start with, and the guards behind them.
void PlanSession::start_outputs(PlannedStep& step) {
  CpuPlan& plan = plans_.front().plan;
  for (std::size_t o = 0; o < step.outs.size(); ++o) {
    PlannedValue& v = plan.values[static_cast<std::size_t>(step.outs[o])];
    const int from = step.rows_from[o];
    if (!v.value.dims.empty())
      v.value.dims[0] = from < 0 ? v.bound : plan.values[static_cast<std::size_t>(from)].value.dims[0];
    if (shared_->options().guards && v.home == CpuHome::kArena)
      std::memset(v.value.data + v.capacity, static_cast<int>(kGuardByte), kGuardBytes);
  }
}

RunTimes PlanSession::run_steps(std::span<const ImageView> photos, const RunOptions& options) {
  CpuPlan& plan = plans_.front().plan;
  const DenormalScope denormals(shared_->threads());
  Context context(*this, plan, photos, options.parameters);
  RunTimes times;
  auto phase_start = Clock::now();
  CpuPhase phase = CpuPhase::kPreprocess;
  const auto close_phase = [&] {
    double& sum = phase == CpuPhase::kPreprocess ? times.preprocess
                  : phase == CpuPhase::kNetwork  ? times.network
                                                 : times.postprocess;
    sum += seconds_since(phase_start);
    phase_start = Clock::now();
  };
  for (PlannedStep& step : plan.steps) {
    if (step.phase != phase) {
      close_phase();
      phase = step.phase;
    }
    start_outputs(step);
    context.enter(step);
    const auto start = options.time_nodes ? Clock::now() : Clock::time_point{};
    step.step->run(context);
    if (options.time_nodes) times.nodes.push_back(node_time(step, seconds_since(start)));
    if (shared_->options().guards) check_guards(step);
    if (!options.wanted.empty()) observe(step, options);
  }
  close_phase();
  return times;
}

NodeTime PlanSession::node_time(const PlannedStep& step, double seconds) const {
  NodeTime out;
  const auto& values = plans_.front().plan.values;
  out.name = step.node ? step.node->name
                       : shared_->graph().value(values[static_cast<std::size_t>(step.ins[0])].id).name;
  out.op = step.node ? std::string(step.node->op.name()) : "reorder";
  out.detail = step.step->detail();
  out.seconds = seconds;
  out.flops = step.step->flops();
  const PlannedValue& made = values[static_cast<std::size_t>(step.outs[0])];
  if (step.rows_from[0] >= 0 && made.bound > 0)  // of the live rows only
    out.flops *= static_cast<double>(made.value.dims[0]) / static_cast<double>(made.bound);
  for (const int i : step.ins)
    if (i >= 0) out.bytes += static_cast<double>(values[static_cast<std::size_t>(i)].value.bytes());
  for (const int o : step.outs)
    out.bytes += static_cast<double>(values[static_cast<std::size_t>(o)].value.bytes());
  return out;
}

void PlanSession::observe(const PlannedStep& step, const RunOptions& options) const {
  if (!step.node || !options.observe) return;
  for (const int o : step.outs) {
    const PlannedValue& v = plans_.front().plan.values[static_cast<std::size_t>(o)];
    const std::string& name = shared_->graph().value(v.id).name;
    if (std::find(options.wanted.begin(), options.wanted.end(), name) != options.wanted.end())
      options.observe(name, c_order_copy(v.value, shared_->threads()));
  }
}

void PlanSession::check_guards(const PlannedStep& step) const {
  for (const int o : step.outs) {
    const PlannedValue& v = plans_.front().plan.values[static_cast<std::size_t>(o)];
    if (v.home != CpuHome::kArena) continue;
    const std::byte* guard = v.value.data + v.capacity;
    check(std::all_of(guard, guard + kGuardBytes, [](std::byte b) { return b == kGuardByte; }),
          "{}: wrote past the end of {}", step.node ? step.node->name : "reorder",
          shared_->graph().value(v.id).name);
  }
}

Tensor PlanSession::output(const std::string& name) const {
  check(!plans_.empty(), "output {}: nothing has run yet", name);
  const CpuPlan& plan = plans_.front().plan;
  for (const int o : plan.outputs) {
    const PlannedValue& v = plan.values[static_cast<std::size_t>(o)];
    if (shared_->graph().value(v.id).name != name) continue;
    return Tensor::borrow(v.value.dtype, v.value.dims, {v.value.data, v.value.bytes()}, nullptr);
  }
  fail(ErrorCode::kUsage, "the graph has no output {}", name);
}

std::unique_ptr<CpuExecutor> make_cpu_executor(std::shared_ptr<const Graph> graph,
                                               const CpuOptions& options) {
  CpuOptions chosen = options;
  if (chosen.threads <= 0) chosen.threads = cores_of_process();
  return std::make_unique<PlanExecutor>(std::make_shared<const CpuShared>(std::move(graph), chosen));
}

}  // namespace osprey

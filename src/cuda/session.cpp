#include "cuda/session.h"

#include <algorithm>
#include <utility>

#include "backends/image_dims.h"
#include "cuda/nvtx.h"

namespace osprey {
namespace {

constexpr std::size_t kPlansKept = 16;

}  // namespace

// The current device belongs to the calling thread.
void PlanCudaSession::enter() const {
  cuda_check(cudaSetDevice(shared_->device().index), shared_->device().name);
}

bool PlanCudaSession::is_under_way(const CudaLane& lane) const {
  return std::find(under_way_.begin(), under_way_.end(), &lane) != under_way_.end();
}

RunTimes PlanCudaSession::run(std::span<const ImageView> photos, const RunOptions& options) {
  const ProfilerRange range("osprey run");
  check(under_way_.empty(), "run: another one has not ended");
  begin_on_photos(photos, options);
  return finish();
}

bool PlanCudaSession::start(std::span<const ImageView> photos, const RunOptions& options) {
  check(under_way_.size() < kCudaLanes, "start: {} runs have not ended", kCudaLanes);
  check(!options.time_nodes && options.wanted.empty(), "start: values are looked at in whole runs");
  return begin_on_photos(photos, options);
}

bool PlanCudaSession::begin_on_photos(std::span<const ImageView> photos, const RunOptions& options) {
  const Graph& graph = shared_->graph();
  CudaShapeClass shapes = shape_class(graph, photos);
  CudaInputs inputs{.photos = photos, .tensors = {}, .parameters = options.parameters};
  for (const ValueId id : graph.inputs()) {
    const std::string& name = graph.value(id).name;
    if (name == "photos" || name == "sizes") continue;
    bind_input(graph, id, options.inputs, shapes.bindings);
    inputs.tensors.emplace_back(id, &options.inputs.at(name));
  }
  const bool singly = options.time_nodes || !options.wanted.empty() || shared_->options().guards;
  return begin(shapes, inputs, [&](CudaLane& lane) { singly ? lane.launch_singly(options) : lane.launch(); });
}

RunTimes PlanCudaSession::run_tensors(const std::map<std::string, Tensor>& tensors,
                                      const RunOptions& options) {
  check(under_way_.empty(), "run: another one has not ended");
  const Graph& graph = shared_->graph();
  CudaShapeClass shapes;
  CudaInputs inputs{.photos = {}, .tensors = {}, .parameters = options.parameters};
  for (const ValueId id : graph.inputs()) {
    bind_input(graph, id, tensors, shapes.bindings);
    inputs.tensors.emplace_back(id, &tensors.at(graph.value(id).name));
  }
  begin(shapes, inputs, [&](CudaLane& lane) { lane.launch_singly(options); });
  return finish();
}

// False where there is no room for the run beside another one. Whatever else went wrong there goes wrong
// again, and is told, when it is tried alone. A run alone takes the room of a lane that is idle.
bool PlanCudaSession::begin(const CudaShapeClass& shapes, const CudaInputs& inputs, const Launch& launch) {
  enter();
  const bool beside = !under_way_.empty();
  if (beside && one_lane_) return false;
  last_ = nullptr;
  try {
    put(free_lane(), shapes, inputs, launch);
    return true;
  } catch (const Error& e) {
    const bool idle_lane = std::find(lanes_.begin(), lanes_.end(), nullptr) == lanes_.end();
    if (e.code() != ErrorCode::kDevice || !(beside || idle_lane)) throw;
  }
  keep_one_lane();
  return !beside && begin(shapes, inputs, launch);
}

void PlanCudaSession::put(CudaLane& lane, const CudaShapeClass& shapes, const CudaInputs& inputs,
                          const Launch& launch) {
  try {
    lane.upload(plan_for(shapes, lane), inputs);
    if (inputs.photos.size() > 1)  // they fill the device, and are slower side by side
      for (const CudaLane* other : under_way_) lane.follow(*other);
    launch(lane);
  } catch (...) {
    cudaStreamSynchronize(lane.stream());  // what began reads memory that may go now
    throw;
  }
  under_way_.push_back(&lane);
}

// The first one unless it is under way: who starts no run beside another has no second lane.
CudaLane& PlanCudaSession::free_lane() {
  for (const auto& lane : lanes_)
    if (lane && !is_under_way(*lane)) return *lane;
  const auto free = std::find(lanes_.begin(), lanes_.end(), nullptr);
  *free = std::make_unique<CudaLane>(shared_, static_cast<int>(free - lanes_.begin()));
  return **free;
}

// That of the run under way, or else a new one.
void PlanCudaSession::keep_one_lane() {
  one_lane_ = true;
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    if (!lanes_[i] || is_under_way(*lanes_[i])) continue;
    lanes_[i].reset();
    for (const auto& cached : plans_) cached->lanes[i] = {};
  }
}

std::shared_ptr<CachedPlan> PlanCudaSession::plan_for(const CudaShapeClass& shapes, const CudaLane& lane) {
  const auto it = std::find_if(plans_.begin(), plans_.end(),
                               [&](const auto& cached) { return cached->shapes == shapes; });
  if (it != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, it);
    return plans_.front();
  }
  for (const CudaLane* other : under_way_) other->wait();  // measurements want the device for themselves
  CachedPlan made{.shapes = shapes, .plan = make_cuda_plan(*shared_, shapes, lane.stream())};
  plans_.push_front(std::make_shared<CachedPlan>(std::move(made)));
  lane.wait();  // the plan's own memory is ready for the other lane, too
  if (plans_.size() > kPlansKept) plans_.pop_back();  // lanes keep theirs
  return plans_.front();
}

RunTimes PlanCudaSession::finish() {
  check(!under_way_.empty(), "finish: no run has begun");
  enter();
  CudaLane& lane = *under_way_.front();
  under_way_.pop_front();  // whatever becomes of it
  lane.finish(result_);
  last_ = &lane;
  return result_.times;
}

double PlanCudaSession::replay(int replays) {
  check(last_ && under_way_.empty(), "replay: nothing has run yet, or has not ended");
  enter();
  return last_->replay(replays);
}

Tensor PlanCudaSession::value(const std::string& name) {
  const ValueId id = shared_->graph().find(name);
  const bool kept = id != kNoValue && (shared_->options().keep_values || shared_->graph().is_output(id));
  check(last_ && under_way_.empty(), "value {}: nothing has run yet, or has not ended", name);
  check(kept, "value {}: not kept", name);
  enter();
  return last_->value(id);
}

Tensor PlanCudaSession::output(const std::string& name) const {
  check(result_.plan != nullptr, "output {}: nothing has run yet", name);
  const ValueId id = shared_->graph().find(name);
  if (id == kNoValue || !shared_->graph().is_output(id))
    fail(ErrorCode::kUsage, "the graph has no output {}", name);
  return result_.output(shared_->graph(), id);
}

std::size_t PlanCudaSession::arena_bytes() const {
  std::size_t sum = shared_->weight_bytes();
  for (const auto& lane : lanes_)
    if (lane) sum += lane->device_bytes();
  return sum;
}

}  // namespace osprey

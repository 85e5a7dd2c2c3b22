#include "cuda/session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "backends/image_dims.h"
#include "backends/network_size.h"
#include "core/parallel.h"
#include "cuda/nvtx.h"
#include "ops/normalize_image.h"
#include "ops/resize_image.h"

namespace osprey {
namespace {

constexpr std::size_t kPlansKept = 16;
constexpr int kGuardByte = 0xa5;
constexpr std::size_t kStagedAtOnce = std::size_t{4} << 20;  // bytes; less is not worth a thread

using Clock = std::chrono::steady_clock;

// Photos that were resized, or given as if they were: channels last in C order already.
bool is_image(const Graph& graph, ValueId id) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(), [&](const Node& node) {
    return (node.op.as<ResizeImage>() && node.outputs[0] == id) ||
           (node.op.as<NormalizeImage>() && node.inputs[0] == id);
  });
}

// Floats, and the integers of layers.
bool is_map(const Graph& graph, const CudaPlaced& v) {
  const auto types = {DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kU8};
  return v.value.dims.size() == 4 && std::ranges::find(types, v.value.dtype) != types.end() &&
         !is_image(graph, v.id);
}

// Between channels last (device) and C order (host), of `dims` in C order.
void permute(const std::byte* from, std::byte* to, const Shape& dims, std::size_t size,
             bool to_channels_last) {
  const std::int64_t channels = dims[1], pixels = dims[2] * dims[3];
  for (std::int64_t n = 0; n < dims[0]; ++n)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t p = 0; p < pixels; ++p) {
        const auto plain = static_cast<std::size_t>((n * channels + c) * pixels + p) * size;
        const auto last = static_cast<std::size_t>((n * pixels + p) * channels + c) * size;
        std::memcpy(to + (to_channels_last ? last : plain), from + (to_channels_last ? plain : last), size);
      }
}

// The top-left corner of photos that lie in larger slots: u8 [N,H,W,3].
Tensor cropped(const Tensor& from, std::int64_t height, std::int64_t width) {
  Tensor out = Tensor::zeros(from.dtype(), {from.dim(0), height, width, from.dim(3)});
  const std::int64_t pixel = from.dim(3) * static_cast<std::int64_t>(size_of(from.dtype()));
  for (std::int64_t n = 0; n < from.dim(0); ++n)
    for (std::int64_t y = 0; y < height; ++y)
      std::memcpy(out.mutable_data() + (n * height + y) * width * pixel,
                  from.bytes().data() + (n * from.dim(1) + y) * from.dim(2) * pixel,
                  static_cast<std::size_t>(width * pixel));
  return out;
}

}  // namespace

CudaStream::CudaStream() {
  cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a CUDA stream");
}
CudaStream::~CudaStream() { cudaStreamDestroy(stream_); }

CudaEvent::CudaEvent() { cuda_check(cudaEventCreate(&event_), "making a CUDA event"); }
CudaEvent::~CudaEvent() {
  if (event_) cudaEventDestroy(event_);
}
CudaEvent::CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
void CudaEvent::record(cudaStream_t stream) {
  cuda_check(cudaEventRecord(event_, stream), "recording an event");
}

double seconds_between(const CudaEvent& from, const CudaEvent& to) {
  float milliseconds = 0;
  cuda_check(cudaEventElapsedTime(&milliseconds, from.get(), to.get()), "reading events");
  return static_cast<double>(milliseconds) * 1e-3;
}

CudaGraph::~CudaGraph() {
  if (exec_) cudaGraphExecDestroy(exec_);
}
CudaGraph::CudaGraph(CudaGraph&& other) noexcept
    : exec_(std::exchange(other.exec_, nullptr)), nodes_(other.nodes_) {}
CudaGraph& CudaGraph::operator=(CudaGraph&& other) noexcept {
  std::swap(exec_, other.exec_);
  std::swap(nodes_, other.nodes_);
  return *this;
}

void CudaGraph::capture(cudaStream_t stream, const std::function<void()>& launches) {
  cudaGraph_t graph = nullptr;
  cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing a CUDA graph");
  try {
    launches();
  } catch (...) {  // the stream must leave capture mode, whatever went wrong
    cudaStreamEndCapture(stream, &graph);
    if (graph) cudaGraphDestroy(graph);
    throw;
  }
  cuda_check(cudaStreamEndCapture(stream, &graph), "capturing a CUDA graph");
  cudaGraphGetNodes(graph, nullptr, &nodes_);
  cudaGraphExec_t exec = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&exec, graph, 0);
  cudaGraphDestroy(graph);
  cuda_check(made, "instantiating a CUDA graph");
  if (exec_) cudaGraphExecDestroy(exec_);
  exec_ = exec;
  cuda_check(cudaGraphUpload(exec_, stream), "uploading a CUDA graph");
}

void CudaGraph::replay(cudaStream_t stream) {
  cuda_check(cudaGraphLaunch(exec_, stream), "running a CUDA graph");
}

// What a kernel sees of one step.
class PlanCudaSession::Context final : public CudaRun {
 public:
  Context(PlanCudaSession& session, CudaPlan& plan) : session_(session), plan_(plan) {}

  void enter(const CudaPlannedStep& step) { step_ = &step; }

  const CudaValue& in(std::size_t i) const override { return value(step_->ins.at(i)); }
  const CudaValue& out(std::size_t i) const override { return value(step_->outs.at(i)); }
  bool has_input(std::size_t i) const override { return i < step_->ins.size() && step_->ins[i] >= 0; }
  std::byte* scratch() const override { return session_.arena_.data() + plan_.scratch_offset; }
  cudaStream_t stream() const override { return session_.stream_.get(); }
  const CudaPhotos& photos() const override { return plan_.photos; }
  const CudaParameters* parameters() const override { return session_.parameters_.as<CudaParameters>(); }

 private:
  const CudaValue& value(int index) const { return plan_.values.at(static_cast<std::size_t>(index)).value; }

  PlanCudaSession& session_;
  CudaPlan& plan_;
  const CudaPlannedStep* step_ = nullptr;
};

PlanCudaSession::PlanCudaSession(std::shared_ptr<const CudaShared> shared)
    : shared_(std::move(shared)),
      parameters_(sizeof(CudaParameters)),
      host_parameters_(sizeof(CudaParameters)) {}

// Work on the device may still read what the members own.
PlanCudaSession::~PlanCudaSession() {
  cudaStreamSynchronize(copies_.get());
  cudaStreamSynchronize(stream_.get());
}

// The current device belongs to the calling thread.
void PlanCudaSession::enter() { cuda_check(cudaSetDevice(shared_->device().index), shared_->device().name); }

// Finds or makes the plan, brings it to the front, and makes room for it.
void PlanCudaSession::use_plan(const CudaShapeClass& shapes) {
  const auto it =
      std::find_if(plans_.begin(), plans_.end(), [&](const CachedPlan& p) { return p.shapes == shapes; });
  if (it != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, it);
  } else {
    plans_.push_front({shapes, make_cuda_plan(*shared_, shapes, stream_.get()), {}, -1});
    if (plans_.size() > kPlansKept) plans_.pop_back();
  }
  const auto batch = shapes.bindings.find("N");
  reserve(plan(), batch == shapes.bindings.end() ? 0 : batch->second);
}

// Graphs that were captured with memory which has moved are captured again when they are next used.
void PlanCudaSession::reserve(const CudaPlan& plan, std::int64_t photos) {
  const auto photo_bytes = static_cast<std::size_t>(photos * plan.photos.slot_bytes);
  const auto grow = [&](auto& buffer, std::size_t bytes) {
    if (buffer.size() >= bytes) return;
    cuda_check(cudaStreamSynchronize(stream_.get()), "waiting for the GPU");
    buffer = {};  // the old one first: both may not fit
    buffer = std::remove_reference_t<decltype(buffer)>(bytes);
    ++memory_version_;
  };
  grow(arena_, plan.arena_bytes);
  grow(photos_, photo_bytes);
  grow(staging_, photo_bytes + static_cast<std::size_t>(photos) * 2 * sizeof(std::int32_t));
}

// Points the values into the arena, which a larger plan may have moved.
void PlanCudaSession::place_values(CudaPlan& plan) {
  for (CudaPlaced& v : plan.values) {
    if (v.home == CudaHome::kArena) v.value.data = arena_.data() + v.offset;
    if (v.count >= 0) v.value.rows = arena_.as<int>() + v.count;
  }
  plan.photos.data = photos_.as<std::uint8_t>();
}

// Photos that a GPU has decoded (cuda/jpeg.h) are copied where they are.
bool PlanCudaSession::copied_on_device(const ImageView& photo, std::byte* to, cudaStream_t stream) {
  cudaPointerAttributes where{};
  cuda_check(cudaPointerGetAttributes(&where, photo.pixels), "looking at a photo");
  if (where.type != cudaMemoryTypeDevice) return false;
  const auto row = static_cast<std::size_t>(photo.width) * 3;
  cuda_check(cudaMemcpy2DAsync(to, row, photo.pixels, static_cast<std::size_t>(photo.stride), row,
                               static_cast<std::size_t>(photo.height), cudaMemcpyDeviceToDevice, stream),
             "copying a photo");
  return true;
}

// Through page-locked memory, from which the copies run by themselves. One thread would copy there at a
// fraction of the bus's speed.
void PlanCudaSession::upload_photos(std::span<const ImageView> photos, std::byte* to, cudaStream_t stream) {
  const ProfilerRange range("osprey upload");
  const std::int64_t slot = plan().photos.slot_bytes;
  const auto row_bytes = [](const ImageView& photo) { return static_cast<std::size_t>(photo.width) * 3; };
  const auto staged = [&](std::size_t i) { return staging_.data() + static_cast<std::int64_t>(i) * slot; };
  const auto on_device = [&](std::size_t i) { return to + static_cast<std::int64_t>(i) * slot; };
  struct Rows {
    std::size_t photo;
    int begin, end;
  };
  std::vector<std::size_t> from_host;
  std::vector<Rows> pieces;
  for (std::size_t i = 0; i < photos.size(); ++i) {
    if (copied_on_device(photos[i], on_device(i), stream)) continue;
    from_host.push_back(i);
    const int rows = std::max(1, static_cast<int>(kStagedAtOnce / row_bytes(photos[i])));
    for (int y = 0; y < photos[i].height; y += rows)
      pieces.push_back({i, y, std::min(y + rows, photos[i].height)});
  }
  parallel_for(static_cast<std::int64_t>(pieces.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) {
      const Rows& piece = pieces[static_cast<std::size_t>(k)];
      const ImageView& photo = photos[piece.photo];
      for (int y = piece.begin; y < piece.end; ++y)
        std::memcpy(staged(piece.photo) + static_cast<std::size_t>(y) * row_bytes(photo), photo.row(y),
                    row_bytes(photo));
    }
  });
  for (const std::size_t i : from_host)
    cuda_check(cudaMemcpyAsync(on_device(i), staged(i),
                               row_bytes(photos[i]) * static_cast<std::size_t>(photos[i].height),
                               cudaMemcpyHostToDevice, stream),
               "uploading a photo");
}

// The photos that came while another run computed, to where the graph reads them.
void PlanCudaSession::take_arrived(std::span<const ImageView> photos) {
  cuda_check(cudaStreamWaitEvent(stream_.get(), uploads_[turn_].end.get()), "waiting for photos");
  for (std::size_t i = 0; i < photos.size(); ++i) {
    const std::int64_t offset = static_cast<std::int64_t>(i) * plan().photos.slot_bytes;
    const auto bytes =
        static_cast<std::size_t>(photos[i].width) * 3 * static_cast<std::size_t>(photos[i].height);
    cuda_check(cudaMemcpyAsync(photos_.data() + offset, arriving_.data() + offset, bytes,
                               cudaMemcpyDeviceToDevice, stream_.get()),
               "moving a photo");
  }
}

void PlanCudaSession::upload_sizes() {
  const ValueId sizes = shared_->graph().find("sizes");
  if (sizes == kNoValue) return;
  const std::size_t behind = sizes_.size() * static_cast<std::size_t>(plan().photos.slot_bytes);
  auto* number = reinterpret_cast<std::int32_t*>(staging_.data() + behind);
  const auto* const begin = number;
  for (const auto& [height, width] : sizes_) {
    *number++ = height;
    *number++ = width;
  }
  cuda_check(cudaMemcpyAsync(plan().values[static_cast<std::size_t>(sizes)].value.data, begin,
                             sizes_.size() * 2 * sizeof(std::int32_t), cudaMemcpyHostToDevice, stream_.get()),
             "uploading sizes");
}

void PlanCudaSession::upload_parameters(const RunParameters& p) {
  const float unset = std::nanf("");
  const CudaParameters now{p.first_score_threshold.value_or(unset), p.score_threshold.value_or(unset),
                           p.nms_iou.value_or(unset), p.mask_threshold.value_or(unset),
                           p.max_detections.value_or(-1)};
  std::memcpy(host_parameters_.data(), &now, sizeof now);
  cuda_check(cudaMemcpyAsync(parameters_.data(), host_parameters_.data(), sizeof now, cudaMemcpyHostToDevice,
                             stream_.get()),
             "uploading thresholds");
}

// In the stream's order; memory of the host that is not page-locked has been read when this returns.
void PlanCudaSession::feed(ValueId id, const Tensor& value) {
  const CudaPlaced& placed = plan().values[static_cast<std::size_t>(id)];
  Tensor ordered = value;
  if (is_map(shared_->graph(), placed)) {
    ordered = Tensor::zeros(value.dtype(), value.shape());
    permute(value.bytes().data(), ordered.mutable_data(), value.shape(), size_of(value.dtype()), true);
  }
  const auto copy = [&](void* to, const void* from, std::size_t bytes) {
    if (bytes > 0)
      cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_.get()),
                 "uploading a tensor");
  };
  copy(placed.value.data, ordered.bytes().data(), ordered.bytes().size());
  const int live = value.shape().empty() ? 0 : static_cast<int>(value.dim(0));
  if (placed.count >= 0) copy(placed.value.rows, &live, sizeof live);
}

// Of one kernel after the other, which lets values be looked at.
bool PlanCudaSession::eagerly(const RunOptions& options) const {
  return options.time_nodes || !options.wanted.empty() || !shared_->options().graph ||
         shared_->options().guards;
}

// Everything that a run reads, on the device or on its way; only then the run before this one is waited for.
void PlanCudaSession::prepare(std::span<const ImageView> photos, const RunOptions& options) {
  enter();
  const Graph& graph = shared_->graph();
  CudaShapeClass shapes = shape_class(graph, photos);
  std::vector<ValueId> others;
  for (const ValueId id : graph.inputs())
    if (const std::string& name = graph.value(id).name; name != "photos" && name != "sizes")
      others.push_back(id);
  for (const ValueId id : others) bind_input(graph, id, options.inputs, shapes.bindings);
  if (running_ && shapes != plans_.front().shapes) settle();  // another plan may need the memory
  use_plan(shapes);
  const bool beside = running_;
  if (beside && arriving_.size() < photos_.size()) arriving_ = DeviceBuffer(photos_.size());
  // What the run before read from the host's memory has been read.
  if (beside) cuda_check(cudaEventSynchronize(ready_.get()), "waiting for an upload");
  const cudaStream_t stream = beside ? copies_.get() : stream_.get();
  Upload& upload = uploads_[turn_ ^ 1];
  upload.begin.record(stream);
  upload_photos(photos, beside ? arriving_.data() : photos_.data(), stream);
  upload.end.record(stream);
  if (beside) settle();
  turn_ ^= 1;
  if (beside) take_arrived(photos);
  place_values(plan());
  sizes_.clear();
  for (const ImageView& photo : photos) sizes_.emplace_back(photo.height, photo.width);
  upload_sizes();
  for (const ValueId id : others) feed(id, options.inputs.at(graph.value(id).name));
  upload_parameters(options.parameters);
  ready_.record(stream_.get());
}

RunTimes PlanCudaSession::run(std::span<const ImageView> photos, const RunOptions& options) {
  const ProfilerRange range("osprey run");
  check(!running_ && !settled_, "run: another one has not ended");
  if (!eagerly(options)) {
    start(photos, options);
    return finish();
  }
  prepare(photos, options);
  return run_eagerly(options);
}

void PlanCudaSession::start(std::span<const ImageView> photos, const RunOptions& options) {
  check(!(running_ && settled_), "start: two runs have not ended");
  check(!options.time_nodes && options.wanted.empty(), "start: values are looked at in whole runs");
  prepare(photos, options);
  if (shared_->options().graph)
    graph().replay(stream_.get());
  else
    launch_all();
  done_.record(stream_.get());
  launch_download();
  running_ = true;
}

RunTimes PlanCudaSession::finish() {
  check(running_ || settled_, "finish: no run has begun");
  enter();
  if (!settled_) settle();
  settled_ = false;
  return result_.times;
}

RunTimes PlanCudaSession::run_tensors(const std::map<std::string, Tensor>& inputs,
                                      const RunOptions& options) {
  enter();
  const Graph& graph = shared_->graph();
  CudaShapeClass shapes;
  for (const ValueId id : graph.inputs()) bind_input(graph, id, inputs, shapes.bindings);
  use_plan(shapes);
  place_values(plan());
  uploads_[turn_].begin.record(stream_.get());
  for (const ValueId id : graph.inputs()) feed(id, inputs.at(graph.value(id).name));
  upload_parameters(options.parameters);
  uploads_[turn_].end.record(stream_.get());
  ready_.record(stream_.get());
  return run_eagerly(options);
}

void PlanCudaSession::launch_all() {
  Context context(*this, plan());
  for (const CudaPlannedStep& step : plan().steps) {
    context.enter(step);
    in_context(step.name(), [&] { step.step->launch(context); });
  }
}

// The current plan's, captured again where memory has moved.
CudaGraph& PlanCudaSession::graph() {
  CachedPlan& cached = plans_.front();
  if (cached.graph.empty() || cached.memory_version != memory_version_) {
    cached.graph.capture(stream_.get(), [&] { launch_all(); });
    cached.memory_version = memory_version_;
  }
  return cached.graph;
}

RunTimes PlanCudaSession::run_eagerly(const RunOptions& options) {
  Context context(*this, plan());
  std::vector<CudaEvent> events(options.time_nodes ? plan().steps.size() + 1 : 0);
  if (options.time_nodes) events[0].record(stream_.get());
  for (std::size_t s = 0; s < plan().steps.size(); ++s) {
    const CudaPlannedStep& step = plan().steps[s];
    const std::string name = step.name();
    const ProfilerRange range(name.c_str());
    if (shared_->options().guards) fill_guards(step);
    context.enter(step);
    in_context(step.name(), [&] { step.step->launch(context); });
    if (options.time_nodes) events[s + 1].record(stream_.get());
    if (shared_->options().guards) check_guards(step);
    if (!options.wanted.empty()) in_context(step.name(), [&] { observe(step, options); });
  }
  done_.record(stream_.get());
  launch_download();
  running_ = true;
  RunTimes times = finish();
  if (!options.time_nodes) return times;
  times.network = 0;
  for (std::size_t s = 0; s < plan().steps.size(); ++s) {
    const CudaPlannedStep& step = plan().steps[s];
    times.nodes.push_back(node_time(step, seconds_between(events[s], events[s + 1])));
    double& sum = step.phase == CudaPhase::kPreprocess ? times.preprocess
                  : step.phase == CudaPhase::kNetwork  ? times.network
                                                       : times.postprocess;
    sum += times.nodes.back().seconds;
  }
  return times;
}

Tensor PlanCudaSession::value(const std::string& name) {
  const ValueId id = shared_->graph().find(name);
  const bool kept = shared_->options().keep_values || (id != kNoValue && shared_->graph().is_output(id));
  check(!plans_.empty() && kept, "value {}: not kept", name);
  check(id != kNoValue && plan().values[static_cast<std::size_t>(id)].home == CudaHome::kArena,
        "value {}: there is none", name);
  return fetch(plan().values[static_cast<std::size_t>(id)]);
}

double PlanCudaSession::replay(int replays) {
  check(!plans_.empty() && !running_ && !settled_, "replay: nothing has run yet, or has not ended");
  enter();
  CudaGraph* const captured = shared_->options().graph ? &graph() : nullptr;
  ready_.record(stream_.get());
  for (int i = 0; i < replays; ++i) {
    if (captured)
      captured->replay(stream_.get());
    else
      launch_all();
  }
  done_.record(stream_.get());
  cuda_check(cudaStreamSynchronize(stream_.get()), "running on the GPU");
  return seconds_between(ready_, done_) / std::max(replays, 1);
}

// One copy of counts and outputs; of mask runs the beginning.
void PlanCudaSession::launch_download() {
  PinnedBuffer& outputs = outputs_[turn_];
  if (outputs.size() < plan().output_bytes) outputs = PinnedBuffer(plan().output_bytes);
  cuda_check(cudaMemcpyAsync(outputs.data(), arena_.data(), plan().output_bytes, cudaMemcpyDeviceToHost,
                             stream_.get()),
             "downloading detections");
  downloaded_.record(stream_.get());
}

// Waits for the run under way, whose values are still on the device, and brings the rest of the mask runs
// where there is more.
void PlanCudaSession::settle() {
  running_ = false;  // whatever becomes of it
  cuda_check(cudaEventSynchronize(downloaded_.get()), "running on the GPU");
  result_ = {.plan = &plan(), .outputs = &outputs_[turn_], .runs = {}, .times = {}};
  const Upload& upload = uploads_[turn_];
  RunTimes& times = result_.times;
  times.upload = seconds_between(upload.begin, upload.end);
  times.device = times.network = seconds_between(ready_, done_);
  times.download = seconds_between(done_, downloaded_);
  for (const ValueId id : shared_->graph().outputs()) {
    const CudaPlaced& v = plan().values[static_cast<std::size_t>(id)];
    const auto& dims = shared_->graph().value(id).type.dims;
    if (dims.empty() || dims[0].kind() != Dim::Kind::kUnknown) continue;
    const std::int64_t live = rows(v);
    check(live <= v.value.dims[0], "{}: {} entries, and room for {}", shared_->graph().value(id).name, live,
          v.value.dims[0]);
    const auto bytes = static_cast<std::size_t>(live) * size_of(v.value.dtype);
    if (v.offset + bytes <= plan().output_bytes) continue;
    result_.runs = Tensor::zeros(v.value.dtype, {live});
    cuda_check(cudaMemcpy(result_.runs.mutable_data(), v.value.data, bytes, cudaMemcpyDeviceToHost),
               "downloading masks");
  }
  settled_ = true;
}

// The live rows of an output after its download.
std::int64_t PlanCudaSession::rows(const CudaPlaced& v) const {
  if (v.value.dims.empty()) return 1;
  if (v.count < 0) return v.value.dims[0];
  return reinterpret_cast<const int*>(result_.outputs->data())[v.count];
}

NodeTime PlanCudaSession::node_time(const CudaPlannedStep& step, double seconds) const {
  NodeTime out{step.name(), std::string(step.node->op.name()), step.step->detail(), seconds,
               step.step->flops()};
  for (const auto* list : {&step.ins, &step.outs})
    for (const int i : *list)
      if (i >= 0) out.bytes += static_cast<double>(plan().values[static_cast<std::size_t>(i)].value.bytes());
  return out;
}

void PlanCudaSession::observe(const CudaPlannedStep& step, const RunOptions& options) {
  if (!options.observe) return;
  for (const int o : step.outs) {
    const std::string& name = shared_->graph().value(o).name;
    if (std::find(options.wanted.begin(), options.wanted.end(), name) == options.wanted.end()) continue;
    options.observe(name, fetch(plan().values[static_cast<std::size_t>(o)]));
  }
}

// A value in C order, its live rows, from the device.
Tensor PlanCudaSession::fetch(const CudaPlaced& placed) {
  cuda_check(cudaStreamSynchronize(stream_.get()), "running on the GPU");
  Shape dims = placed.value.dims;
  if (placed.count >= 0) {
    int live = 0;
    cuda_check(cudaMemcpy(&live, placed.value.rows, sizeof live, cudaMemcpyDeviceToHost), "reading a count");
    dims[0] = std::min<std::int64_t>(live, dims[0]);
  }
  Tensor raw = Tensor::zeros(placed.value.dtype, dims);
  if (raw.empty()) return raw;
  cuda_check(cudaMemcpy(raw.mutable_data(), placed.value.data, raw.bytes().size(), cudaMemcpyDeviceToHost),
             "reading a value");
  if (is_map(shared_->graph(), placed)) {
    Tensor plain = Tensor::zeros(raw.dtype(), dims);
    permute(raw.bytes().data(), plain.mutable_data(), dims, size_of(raw.dtype()), false);
    return plain;
  }
  const auto& type = shared_->graph().value(placed.id).type.dims;
  if (type.size() == 4 && type[1] == Dim::symbol("rh") && type[2] == Dim::symbol("rw")) {
    std::vector<ImageView> photos;
    for (const auto& [height, width] : sizes_) photos.push_back({nullptr, width, height, 0});
    const DimBindings exact = bind_image_dims(shared_->graph(), photos);
    return cropped(raw, exact.at("rh"), exact.at("rw"));
  }
  return raw;
}

void PlanCudaSession::fill_guards(const CudaPlannedStep& step) {
  for (const int o : step.outs) {
    const CudaPlaced& v = plan().values[static_cast<std::size_t>(o)];
    cuda_check(cudaMemsetAsync(v.value.data + v.value.bytes(), kGuardByte, kCudaGuardBytes, stream_.get()),
               "guards");
  }
}

void PlanCudaSession::check_guards(const CudaPlannedStep& step) {
  cuda_check(cudaStreamSynchronize(stream_.get()), step.name());
  for (const int o : step.outs) {
    const CudaPlaced& v = plan().values[static_cast<std::size_t>(o)];
    std::array<std::uint8_t, kCudaGuardBytes> guard{};
    cuda_check(cudaMemcpy(guard.data(), v.value.data + v.value.bytes(), guard.size(), cudaMemcpyDeviceToHost),
               "guards");
    check(std::all_of(guard.begin(), guard.end(), [](std::uint8_t b) { return b == kGuardByte; }),
          "{}: wrote past the end of {}", step.name(), shared_->graph().value(v.id).name);
  }
}

Tensor PlanCudaSession::output(const std::string& name) const {
  check(result_.plan, "output {}: nothing has run yet", name);
  const ValueId id = shared_->graph().find(name);
  if (id == kNoValue || !shared_->graph().is_output(id))
    fail(ErrorCode::kUsage, "the graph has no output {}", name);
  const CudaPlaced& v = result_.plan->values[static_cast<std::size_t>(id)];
  const auto& type = shared_->graph().value(id).type.dims;
  if (!type.empty() && type[0].kind() == Dim::Kind::kUnknown && !result_.runs.shape().empty())
    return result_.runs;
  Shape dims = v.value.dims;
  if (!dims.empty()) dims[0] = rows(v);
  const auto bytes = static_cast<std::size_t>(element_count(dims)) * size_of(v.value.dtype);
  const Bytes data{result_.outputs->data() + v.offset, bytes};
  if (!is_map(shared_->graph(), v)) return Tensor::borrow(v.value.dtype, dims, data, nullptr);
  Tensor plain = Tensor::zeros(v.value.dtype, dims);
  permute(data.data(), plain.mutable_data(), dims, size_of(v.value.dtype), false);
  return plain;
}

}  // namespace osprey

#include "cuda/lane.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/image_dims.h"
#include "core/parallel.h"
#include "cuda/nvtx.h"
#include "ops/normalize_image.h"
#include "ops/resize_image.h"

namespace osprey {
namespace {

constexpr int kGuardByte = 0xa5;
constexpr std::size_t kStagedAtOnce = std::size_t{4} << 20;  // bytes; less is not worth a thread

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

// Without a bound: mask runs.
bool is_unbounded(const Graph& graph, ValueId id) {
  const auto& dims = graph.value(id).type.dims;
  return !dims.empty() && dims[0].kind() == Dim::Kind::kUnknown;
}

// The live rows of an output after its download.
std::int64_t rows_of(const CudaPlaced& v, const PinnedBuffer& outputs) {
  if (v.value.dims.empty()) return 1;
  if (v.count < 0) return v.value.dims[0];
  return reinterpret_cast<const int*>(outputs.data())[v.count];
}

}  // namespace

Tensor CudaResult::output(const Graph& graph, ValueId id) const {
  if (is_unbounded(graph, id) && !runs.shape().empty()) return runs;
  const CudaPlaced& v = plan->values[static_cast<std::size_t>(id)];
  Shape dims = v.value.dims;
  if (!dims.empty()) dims[0] = rows_of(v, outputs);
  const auto bytes = static_cast<std::size_t>(element_count(dims)) * size_of(v.value.dtype);
  const Bytes data{outputs.data() + v.offset, bytes};
  if (!is_map(graph, v)) return Tensor::borrow(v.value.dtype, dims, data, nullptr);
  Tensor plain = Tensor::zeros(v.value.dtype, dims);
  permute(data.data(), plain.mutable_data(), dims, size_of(v.value.dtype), false);
  return plain;
}

// What a kernel sees of one step.
class CudaLane::Context final : public CudaRun {
 public:
  explicit Context(const CudaLane& lane) : lane_(lane), placed_(lane.placed()) {}

  void enter(const CudaPlannedStep& step) { step_ = &step; }

  const CudaValue& in(std::size_t i) const override { return lane_.at(step_->ins.at(i)); }
  const CudaValue& out(std::size_t i) const override { return lane_.at(step_->outs.at(i)); }
  bool has_input(std::size_t i) const override { return i < step_->ins.size() && step_->ins[i] >= 0; }
  std::byte* scratch() const override { return lane_.arena_.data() + lane_.plan().scratch_offset; }
  cudaStream_t stream() const override { return lane_.stream(); }
  const CudaPhotos& photos() const override { return placed_.photos; }
  const CudaParameters* parameters() const override { return lane_.parameters_.as<CudaParameters>(); }
  int lane() const override { return lane_.index_; }

 private:
  const CudaLane& lane_;
  const PlacedPlan& placed_;
  const CudaPlannedStep* step_ = nullptr;
};

CudaLane::CudaLane(std::shared_ptr<const CudaShared> shared, int index)
    : shared_(std::move(shared)),
      index_(index),
      parameters_(sizeof(CudaParameters)),
      host_parameters_(sizeof(CudaParameters)) {}

// Work on the device may still read what the members own.
CudaLane::~CudaLane() { cudaStreamSynchronize(stream_.get()); }

void CudaLane::wait() const { cuda_check(cudaStreamSynchronize(stream_.get()), "running on the GPU"); }

void CudaLane::upload(std::shared_ptr<CachedPlan> cached, const CudaInputs& inputs) {
  cached_ = std::move(cached);
  reserve(inputs.photos.size());
  place();
  sizes_.clear();
  for (const ImageView& photo : inputs.photos) sizes_.emplace_back(photo.height, photo.width);
  begun_.record(stream_.get());
  upload_photos(inputs.photos);
  upload_sizes();
  for (const auto& [id, tensor] : inputs.tensors) feed(id, *tensor);
  upload_parameters(inputs.parameters);
  uploaded_.record(stream_.get());
}

void CudaLane::reserve(std::size_t photos) {
  const std::size_t photo_bytes = photos * static_cast<std::size_t>(plan().photos.slot_bytes);
  const auto grow = [](auto& buffer, std::size_t bytes) {
    if (buffer.size() >= bytes) return;
    buffer = {};  // the old one first: both may not fit
    buffer = std::remove_reference_t<decltype(buffer)>(bytes);
  };
  if (arena_.size() < plan().arena_bytes || photos_.size() < photo_bytes) ++memory_version_;
  grow(arena_, plan().arena_bytes);
  grow(photos_, photo_bytes);
  grow(staging_, photo_bytes + photos * 2 * sizeof(std::int32_t));
  grow(outputs_, plan().output_bytes);
}

// Points the values into the lane's memory, unless they do already. A graph has addresses, too.
void CudaLane::place() {
  PlacedPlan& out = placed();
  if (out.memory_version == memory_version_) return;
  out = {.values = {}, .photos = plan().photos, .graph = {}, .memory_version = memory_version_};
  out.photos.data = photos_.as<std::uint8_t>();
  for (const CudaPlaced& v : plan().values) {
    CudaValue& value = out.values.emplace_back(v.value);
    if (v.home == CudaHome::kArena) value.data = arena_.data() + v.offset;
    if (v.count >= 0) value.rows = arena_.as<int>() + v.count;
  }
}

// Photos that a GPU has decoded (cuda/jpeg.h) are copied where they are.
bool CudaLane::copied_on_device(const ImageView& photo, std::byte* to) {
  cudaPointerAttributes where{};
  cuda_check(cudaPointerGetAttributes(&where, photo.pixels), "looking at a photo");
  if (where.type != cudaMemoryTypeDevice) return false;
  const auto row = static_cast<std::size_t>(photo.width) * 3;
  cuda_check(
      cudaMemcpy2DAsync(to, row, photo.pixels, static_cast<std::size_t>(photo.stride), row,
                        static_cast<std::size_t>(photo.height), cudaMemcpyDeviceToDevice, stream_.get()),
      "copying a photo");
  return true;
}

// Through page-locked memory, from which the copies run by themselves. One thread would copy there at a
// fraction of the bus's speed.
void CudaLane::upload_photos(std::span<const ImageView> photos) {
  const ProfilerRange range("osprey upload");
  const std::int64_t slot = plan().photos.slot_bytes;
  const auto row_bytes = [](const ImageView& photo) { return static_cast<std::size_t>(photo.width) * 3; };
  const auto staged = [&](std::size_t i) { return staging_.data() + static_cast<std::int64_t>(i) * slot; };
  const auto on_device = [&](std::size_t i) { return photos_.data() + static_cast<std::int64_t>(i) * slot; };
  struct Rows {
    std::size_t photo;
    int begin, end;
  };
  std::vector<std::size_t> from_host;
  std::vector<Rows> pieces;
  for (std::size_t i = 0; i < photos.size(); ++i) {
    if (copied_on_device(photos[i], on_device(i))) continue;
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
                               cudaMemcpyHostToDevice, stream_.get()),
               "uploading a photo");
}

void CudaLane::upload_sizes() {
  const ValueId sizes = shared_->graph().find("sizes");
  if (sizes == kNoValue || sizes_.empty()) return;
  const std::size_t behind = sizes_.size() * static_cast<std::size_t>(plan().photos.slot_bytes);
  auto* number = reinterpret_cast<std::int32_t*>(staging_.data() + behind);
  const auto* const begin = number;
  for (const auto& [height, width] : sizes_) {
    *number++ = height;
    *number++ = width;
  }
  cuda_check(cudaMemcpyAsync(at(sizes).data, begin, sizes_.size() * 2 * sizeof(std::int32_t),
                             cudaMemcpyHostToDevice, stream_.get()),
             "uploading sizes");
}

void CudaLane::upload_parameters(const RunParameters& p) {
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
void CudaLane::feed(ValueId id, const Tensor& tensor) {
  const CudaPlaced& planned = plan().values[static_cast<std::size_t>(id)];
  Tensor ordered = tensor;
  if (is_map(shared_->graph(), planned)) {
    ordered = Tensor::zeros(tensor.dtype(), tensor.shape());
    permute(tensor.bytes().data(), ordered.mutable_data(), tensor.shape(), size_of(tensor.dtype()), true);
  }
  const auto copy = [&](void* to, const void* from, std::size_t bytes) {
    if (bytes > 0)
      cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_.get()),
                 "uploading a tensor");
  };
  copy(at(id).data, ordered.bytes().data(), ordered.bytes().size());
  const int live = tensor.shape().empty() ? 0 : static_cast<int>(tensor.dim(0));
  if (planned.count >= 0) copy(at(id).rows, &live, sizeof live);
}

void CudaLane::follow(const CudaLane& other) {
  cuda_check(cudaStreamWaitEvent(stream_.get(), other.done_.get()), "waiting for another run");
}

void CudaLane::launch() {
  between_steps_.clear();
  ready_.record(stream_.get());
  if (shared_->options().graph)
    graph().replay(stream_.get());
  else
    launch_all();
  done_.record(stream_.get());
  download();
}

void CudaLane::launch_all() {
  Context context(*this);
  for (const CudaPlannedStep& step : plan().steps) {
    context.enter(step);
    in_context(step.name(), [&] { step.step->launch(context); });
  }
}

CudaGraph& CudaLane::graph() {
  CudaGraph& out = placed().graph;
  if (out.empty()) out.capture(stream_.get(), [&] { launch_all(); });
  return out;
}

void CudaLane::launch_singly(const RunOptions& options) {
  Context context(*this);
  ready_.record(stream_.get());
  between_steps_ = std::vector<CudaEvent>(options.time_nodes ? plan().steps.size() + 1 : 0);
  if (options.time_nodes) between_steps_[0].record(stream_.get());
  for (std::size_t s = 0; s < plan().steps.size(); ++s) {
    const CudaPlannedStep& step = plan().steps[s];
    const std::string name = step.name();
    const ProfilerRange range(name.c_str());
    if (shared_->options().guards) fill_guards(step);
    context.enter(step);
    in_context(step.name(), [&] { step.step->launch(context); });
    if (options.time_nodes) between_steps_[s + 1].record(stream_.get());
    if (shared_->options().guards) check_guards(step);
    if (!options.wanted.empty()) in_context(step.name(), [&] { observe(step, options); });
  }
  done_.record(stream_.get());
  download();
}

// One copy of counts and outputs; of mask runs the beginning.
void CudaLane::download() {
  cuda_check(cudaMemcpyAsync(outputs_.data(), arena_.data(), plan().output_bytes, cudaMemcpyDeviceToHost,
                             stream_.get()),
             "downloading detections");
  downloaded_.record(stream_.get());
}

// The rest of the mask runs is still on the device.
void CudaLane::finish(CudaResult& result) {
  cuda_check(cudaEventSynchronize(downloaded_.get()), "running on the GPU");
  RunTimes times;
  times.upload = seconds_between(begun_, uploaded_);
  times.device = times.network = seconds_between(ready_, done_);
  times.download = seconds_between(done_, downloaded_);
  if (!between_steps_.empty()) add_node_times(times);
  Tensor runs;
  for (const ValueId id : shared_->graph().outputs()) {
    if (!is_unbounded(shared_->graph(), id)) continue;
    const CudaPlaced& v = plan().values[static_cast<std::size_t>(id)];
    const std::int64_t live = rows_of(v, outputs_);
    check(live <= v.value.dims[0], "{}: {} entries, and room for {}", shared_->graph().value(id).name, live,
          v.value.dims[0]);
    const auto bytes = static_cast<std::size_t>(live) * size_of(v.value.dtype);
    if (v.offset + bytes <= plan().output_bytes) continue;
    runs = Tensor::zeros(v.value.dtype, {live});
    cuda_check(cudaMemcpy(runs.mutable_data(), at(id).data, bytes, cudaMemcpyDeviceToHost),
               "downloading masks");
  }
  std::swap(outputs_, result.outputs);
  result.plan = {cached_, &cached_->plan};
  result.runs = std::move(runs);
  result.times = std::move(times);
}

void CudaLane::add_node_times(RunTimes& times) const {
  times.network = 0;
  for (std::size_t s = 0; s < plan().steps.size(); ++s) {
    const CudaPlannedStep& step = plan().steps[s];
    NodeTime node{step.name(), std::string(step.node->op.name()), step.step->detail(),
                  seconds_between(between_steps_[s], between_steps_[s + 1]), step.step->flops()};
    for (const auto* list : {&step.ins, &step.outs})
      for (const int i : *list)
        if (i >= 0) node.bytes += static_cast<double>(at(i).bytes());
    double& sum = step.phase == CudaPhase::kPreprocess ? times.preprocess
                  : step.phase == CudaPhase::kNetwork  ? times.network
                                                       : times.postprocess;
    sum += node.seconds;
    times.nodes.push_back(std::move(node));
  }
}

double CudaLane::replay(int replays) {
  CudaGraph* const captured = shared_->options().graph ? &graph() : nullptr;
  ready_.record(stream_.get());
  for (int i = 0; i < replays; ++i) {
    if (captured)
      captured->replay(stream_.get());
    else
      launch_all();
  }
  done_.record(stream_.get());
  wait();
  return seconds_between(ready_, done_) / std::max(replays, 1);
}

Tensor CudaLane::value(ValueId id) {
  const CudaPlaced& planned = plan().values[static_cast<std::size_t>(id)];
  check(planned.home == CudaHome::kArena, "value {}: there is none", shared_->graph().value(id).name);
  return fetch(id);
}

void CudaLane::observe(const CudaPlannedStep& step, const RunOptions& options) {
  if (!options.observe) return;
  for (const int o : step.outs) {
    const std::string& name = shared_->graph().value(o).name;
    if (std::find(options.wanted.begin(), options.wanted.end(), name) == options.wanted.end()) continue;
    options.observe(name, fetch(o));
  }
}

// A value in C order, its live rows, from the device.
Tensor CudaLane::fetch(ValueId id) {
  wait();
  const CudaPlaced& planned = plan().values[static_cast<std::size_t>(id)];
  const CudaValue& value = at(id);
  Shape dims = value.dims;
  if (planned.count >= 0) {
    int live = 0;
    cuda_check(cudaMemcpy(&live, value.rows, sizeof live, cudaMemcpyDeviceToHost), "reading a count");
    dims[0] = std::min<std::int64_t>(live, dims[0]);
  }
  Tensor raw = Tensor::zeros(value.dtype, dims);
  if (raw.empty()) return raw;
  cuda_check(cudaMemcpy(raw.mutable_data(), value.data, raw.bytes().size(), cudaMemcpyDeviceToHost),
             "reading a value");
  if (is_map(shared_->graph(), planned)) {
    Tensor plain = Tensor::zeros(raw.dtype(), dims);
    permute(raw.bytes().data(), plain.mutable_data(), dims, size_of(raw.dtype()), false);
    return plain;
  }
  const auto& type = shared_->graph().value(id).type.dims;
  if (type.size() == 4 && type[1] == Dim::symbol("rh") && type[2] == Dim::symbol("rw")) {
    std::vector<ImageView> photos;
    for (const auto& [height, width] : sizes_) photos.push_back({nullptr, width, height, 0});
    const DimBindings exact = bind_image_dims(shared_->graph(), photos);
    return cropped(raw, exact.at("rh"), exact.at("rw"));
  }
  return raw;
}

void CudaLane::fill_guards(const CudaPlannedStep& step) {
  for (const int o : step.outs)
    cuda_check(cudaMemsetAsync(at(o).data + at(o).bytes(), kGuardByte, kCudaGuardBytes, stream_.get()),
               "guards");
}

void CudaLane::check_guards(const CudaPlannedStep& step) {
  cuda_check(cudaStreamSynchronize(stream_.get()), step.name());
  for (const int o : step.outs) {
    std::array<std::uint8_t, kCudaGuardBytes> guard{};
    cuda_check(cudaMemcpy(guard.data(), at(o).data + at(o).bytes(), guard.size(), cudaMemcpyDeviceToHost),
               "guards");
    check(std::all_of(guard.begin(), guard.end(), [](std::uint8_t b) { return b == kGuardByte; }),
          "{}: wrote past the end of {}", step.name(), shared_->graph().value(o).name);
  }
}

}  // namespace osprey

#include "cuda/cuda_harness.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <optional>

#include <cuda_runtime_api.h>

#include "cuda/check.h"
#include "cuda/conversions.h"
#include "cuda/conversions_harness.h"
#include "cuda/device_buffer.h"
#include "cuda/executor.h"
#include "cuda/guarded_device.h"
#include "cuda/streams.h"
#include "cuda/tuner.h"
#include "ops/cast.h"
#include "ops/dequantize.h"
#include "ops/flatten.h"
#include "ops/normalize_image.h"
#include "ops/paste_masks.h"
#include "ops/quantized_conv.h"
#include "ops/quantized_linear.h"
#include "ops/resize_image.h"
#include "ops/resize_masks.h"

namespace osprey {
namespace {

constexpr int kLargestSide = 16384;  // of a photo; what claims more was no geometry

bool is_float(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16; }

// NaN in floats; in integers a number that no memory lies behind.
std::byte garbage(DType type) { return is_float(type) ? std::byte{0xFF} : std::byte{0xCD}; }

// Images before they are normalized have their channels last in C order already.
bool takes_image(const Op& op, std::size_t input) { return op.as<NormalizeImage>() && input == 0; }
bool gives_image(const Op& op) { return op.as<ResizeImage>() != nullptr; }

// 4-D maps between C order and channels last.
std::vector<std::byte> reordered(Bytes from, DType dtype, const Shape& dims, bool to_channels_last) {
  std::vector<std::byte> out(from.begin(), from.end());
  if (dims.size() != 4 || !(is_float(dtype) || dtype == DType::kI8 || dtype == DType::kU8)) return out;
  const std::size_t size = size_of(dtype);
  const auto count = static_cast<std::size_t>(element_count(dims));
  const auto channels = static_cast<std::size_t>(dims[1]),
             pixels = static_cast<std::size_t>(dims[2] * dims[3]);
  for (std::size_t i = 0; i < count; ++i) {  // i counts in C order
    const std::size_t n = i / (channels * pixels), c = i / pixels % channels, p = i % pixels;
    const std::size_t last = (n * pixels + p) * channels + c;
    const std::size_t a = to_channels_last ? i : last, b = to_channels_last ? last : i;
    std::memcpy(&out[b * size], &from[a * size], size);
  }
  return out;
}

struct Slot {
  CudaValue value;
  bool absent = false, counted = false;
  std::optional<int> start_rows;   // of an input: what its count holds before a run
  std::vector<std::byte> content;  // of an input
  std::unique_ptr<GuardedDevice> buffer;
  std::shared_ptr<GuardedDevice> rows;  // the count, which values of one bound share

  void allocate() {
    buffer = std::make_unique<GuardedDevice>(value.bytes(), garbage(value.dtype));
    value.data = buffer->data();
    if (!counted) return;
    if (!rows) rows = std::make_shared<GuardedDevice>(sizeof(int), garbage(DType::kI32));
    value.rows = reinterpret_cast<int*>(rows->data());
  }
  void reset() {
    if (absent) return;
    buffer->reset();
    buffer->upload(content);
    if (!counted) return;
    rows->reset();
    if (start_rows) rows->upload(Bytes(reinterpret_cast<const std::byte*>(&*start_rows), sizeof(int)));
  }
  std::int64_t live_rows() const {
    if (!counted) return value.dims.empty() ? 1 : value.dims[0];
    int live = 0;
    std::memcpy(&live, rows->download(sizeof(int)).data(), sizeof(int));
    return live;
  }
  void expect_intact(const std::string& what) const {
    if (absent) return;
    EXPECT_TRUE(buffer->intact()) << "written outside " << what;
    EXPECT_TRUE(!rows || rows->intact()) << "written beside the row count of " << what;
  }
};

// Work captured from a stream.
class CapturedGraph {
 public:
  template <class Body>
  CapturedGraph(cudaStream_t stream, Body&& body) {
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin of a capture");
    try {
      body();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph_);
      cudaGraphDestroy(graph_);
      throw;
    }
    cuda_check(cudaStreamEndCapture(stream, &graph_), "end of a capture");
    cuda_check(cudaGraphInstantiate(&executable_, graph_, 0), "instantiating a graph");
  }
  ~CapturedGraph() {
    cudaGraphExecDestroy(executable_);
    cudaGraphDestroy(graph_);
  }
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;
  void launch(cudaStream_t stream) { cuda_check(cudaGraphLaunch(executable_, stream), "replaying a graph"); }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

// Without a budget: what the libraries put first runs.
CudaTuner& shared_tuner() {
  static CudaTuner tuner(cuda_devices().at(0), 0,
                         std::filesystem::temp_directory_path() / "osprey_test_cuda_tuning", {});
  return tuner;
}

class Harness final : public CudaPrepare, public CudaRun {
 public:
  // in_place: the input whose memory output 0 takes over, or -1.
  explicit Harness(const KernelCase& test, int in_place = -1, const Conversions& conversions = {})
      : test_(test), in_place_(in_place), graph_("test"), device_(cuda_devices().at(0)) {
    std::vector<ValueId> ids;
    for (std::size_t i = 0; i < test.inputs.size(); ++i) ids.push_back(add_input(i));
    const std::size_t dequantized = conversions.maps.size();
    for (std::size_t i = 0; i < dequantized; ++i)
      ids[i] = graph_.add_node(conversions.maps[i], {ids[i]}, "").outputs[0];
    node_ = &graph_.add_node(test.op, ids, "node");
    for (const ValueId output : node_->outputs) graph_.add_output(output);
    kernel_ = find_kernel();
    EXPECT_TRUE(std::ranges::count(kernel_->dtypes, graph_.value(ids.at(0)).type.dtype))
        << "the kernel declines this type";
    make_photos();
    make_parameters();
    const Quantize* quantize = conversions.result ? &*conversions.result : nullptr;
    EXPECT_TRUE(dequantized == 0 || reads_integers(graph_, *node_)) << "the kernel reads no integers";
    for (std::size_t i = 0; i < node_->outputs.size(); ++i) add_output(i, quantize);
    if (!quantize) return;
    graph_.add_node(*quantize, {node_->outputs[0]}, "quantize");
    node_ = &graph_.nodes()[dequantized];
    EXPECT_TRUE(stores_integers(*this)) << "the kernel stores no integers";
  }

  std::vector<int> places() const {
    std::vector<int> out;
    for (const int i : kernel_->in_place)
      if (const auto at = static_cast<std::size_t>(i);
          has_input(at) && inputs_[at].value.bytes() == outputs_[0].value.bytes() && !reorders())
        out.push_back(i);
    return out;
  }

  std::vector<Tensor> run_every_way() {
    const auto step = prepare();
    std::vector<Tensor> first = run_once([&] { step->launch(*this); });
    expect_same(run_once([&] { step->launch(*this); }), first, "a second run");
    reset();
    CapturedGraph graph(stream(), [&] { step->launch(*this); });
    expect_same(run_once([&] { graph.launch(stream()); }), first, "a replayed graph");
    return first;
  }

  std::vector<Tensor> run_eagerly() {
    const auto step = prepare();
    return run_once([&] { step->launch(*this); });
  }

  double time(int launches, int runs) {
    const auto step = prepare();
    run_once([&] { step->launch(*this); });
    CapturedGraph graph(stream(), [&] {
      for (int i = 0; i < launches; ++i) step->launch(*this);
    });
    CudaEvent begin, end;
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i <= runs; ++i) {  // the first run warms up
      begin.record(stream());
      graph.launch(stream());
      end.record(stream());
      cuda_check(cudaStreamSynchronize(stream()), "timing");
      if (i > 0) least = std::min(least, seconds_between(begin, end));
    }
    return least / launches;
  }

  static void expect_same(const std::vector<Tensor>& got, const std::vector<Tensor>& want,
                          const std::string& what) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].shape(), want[i].shape()) << "output " << i << " of " << what;
      EXPECT_TRUE(std::ranges::equal(got[i].bytes(), want[i].bytes())) << "output " << i << " of " << what;
    }
  }

  const Graph& graph() const override { return graph_; }
  const Node& node() const override { return *node_; }
  bool has_input(std::size_t i) const override { return i < inputs_.size() && !inputs_[i].absent; }
  const CudaValue& input(std::size_t i) const override { return planned_.at(i); }
  const CudaValue& output(std::size_t i) const override { return planned_outputs_.at(i); }
  const CudaPhotos& photos() const override { return running_ ? photos_ : planned_photos_; }
  Tensor weight(std::size_t i) const override {
    weights_.at(i) = true;
    return test_.inputs.at(i).data;
  }
  std::shared_ptr<const DeviceBuffer> shared(const std::string& key,
                                             const std::function<DeviceBuffer()>& make) const override {
    auto& made = shared_[key];
    if (!made) made = std::make_shared<const DeviceBuffer>(make());
    return made;
  }
  bool in_place(std::size_t i) const override { return static_cast<int>(i) == in_place_; }
  void request_scratch(std::size_t bytes) override { scratch_bytes_ = std::max(scratch_bytes_, bytes); }
  bool tf32() const override { return false; }
  const CudaDevice& device() const override { return device_; }
  CudaTuner& tuner() const override { return shared_tuner(); }
  cudaStream_t stream() const override { return stream_.get(); }

  const CudaValue& in(std::size_t i) const override { return inputs_.at(i).value; }
  const CudaValue& out(std::size_t i) const override { return outputs_.at(i).value; }
  std::byte* scratch() const override { return scratch_->data(); }
  const CudaParameters* parameters() const override {
    return reinterpret_cast<const CudaParameters*>(parameters_->data());
  }

 private:
  ValueId add_input(std::size_t i) {
    const KernelInput& in = test_.inputs[i];
    weights_.push_back(false);
    if (in.data.shape().empty() && in.data.empty()) {
      inputs_.push_back({.absent = true});
      planned_.push_back({});
      return kNoValue;
    }
    TensorType type{in.data.dtype(), {in.data.shape().begin(), in.data.shape().end()}};
    Slot slot{.value = {in.data.dtype(), in.data.shape()}};
    if (in.bound > 0) {
      type.dims[0] = Dim::at_most(in.bound);
      slot.counted = true;
      slot.start_rows = static_cast<int>(in.data.shape()[0]);
      slot.value.dims[0] = in.bound;
    }
    if (const Bytes bytes = in.data.bytes(); takes_image(test_.op, i))
      slot.content.assign(bytes.begin(), bytes.end());
    else
      slot.content = reordered(bytes, in.data.dtype(), in.data.shape(), true);
    planned_.push_back(slot.value);
    slot.allocate();
    inputs_.push_back(std::move(slot));
    return graph_.add_input("in" + std::to_string(i), std::move(type));
  }

  void add_output(std::size_t i, const Quantize* quantize) {
    const TensorType& type = graph_.value(node_->outputs[i]).type;
    Slot slot{.value = {quantize && i == 0 ? dtype_of(quantize->to) : type.dtype, {}}};
    for (const Dim& dim : type.dims)
      slot.value.dims.push_back(dim.kind() == Dim::Kind::kUnknown ? capacity()
                                                                  : dim.evaluate(test_.bindings));
    planned_outputs_.push_back(slot.value);
    slot.counted = !type.dims.at(0).is_exact();
    if (slot.counted) slot.rows = count_of(type.dims[0]);
    slot.allocate();
    outputs_.push_back(std::move(slot));
  }

  // The count that an output shares: an input's of the same bound, unless the kernel selects rows, or an
  // earlier output's. Null: a new one.
  std::shared_ptr<GuardedDevice> count_of(const Dim& rows) const {
    if (rows.kind() == Dim::Kind::kUnknown) return nullptr;
    const auto has_bound = [&](ValueId id) {
      return id >= 0 && !graph_.value(id).type.dims.empty() && graph_.value(id).type.dims[0] == rows;
    };
    for (std::size_t k = 0; k < inputs_.size() && !kernel_->selects_rows; ++k)
      if (has_bound(node_->inputs[k])) return inputs_[k].rows;
    for (std::size_t k = 0; k < outputs_.size(); ++k)
      if (has_bound(node_->outputs[k])) return outputs_[k].rows;
    return nullptr;
  }

  // Of an output without a bound: the runs of masks.
  std::int64_t capacity() const {
    check(test_.op.as<PasteMasks>() || test_.op.as<ResizeMasks>(),
          "harness: {} has an output without a bound", test_.op.name());
    const std::int64_t masks = planned_.at(1).dims[0], side = planned_.at(0).dims[1];
    const std::int64_t columns = planned_photos_.max_width;
    return std::min<std::int64_t>(masks * (2 + columns * (side + 2)), 16 << 20);
  }

  // The photos in their slots, and their sizes in the op's second input.
  void make_photos() {
    int height = 512, width = 512;
    const auto make_room = [&](double h, double w) {
      while (height < h && height < kLargestSide) height *= 2;
      while (width < w && width < kLargestSide) width *= 2;
    };
    for (const ImageView& photo : test_.photos) make_room(photo.height, photo.width);
    for (const KernelInput& in : test_.inputs)  // geometry
      if (test_.photos.empty() && in.data.dtype() == DType::kF32 && in.data.shape().size() == 2 &&
          in.data.dim(1) == 6)
        for (std::int64_t n = 0; n < in.data.dim(0); ++n) {
          const float* row = in.data.values<float>().data() + 6 * n;
          make_room(row[4], row[5]);
        }
    const std::int64_t slot = std::int64_t{3} * height * width;
    planned_photos_ = {nullptr, slot, height, width};
    photos_ = planned_photos_;
    if (!test_.op.as<ResizeImage>()) return;
    inputs_.at(0).value.data = nullptr;  // photos are no value in memory
    std::vector<std::byte> pixels(static_cast<std::size_t>(slot) * test_.photos.size(), kGuardByte);
    std::vector<std::int32_t> sizes;
    for (std::size_t n = 0; n < test_.photos.size(); ++n) {
      const ImageView& photo = test_.photos[n];
      std::byte* to = pixels.data() + n * static_cast<std::size_t>(slot);
      const std::size_t row = static_cast<std::size_t>(photo.width) * 3;
      for (int y = 0; y < photo.height; ++y)
        to = std::copy_n(reinterpret_cast<const std::byte*>(photo.row(y)), row, to);
      sizes.push_back(photo.height), sizes.push_back(photo.width);
    }
    photo_memory_ = std::make_unique<GuardedDevice>(pixels.size(), kGuardByte);
    photo_memory_->upload(pixels);
    photos_.data = reinterpret_cast<const std::uint8_t*>(photo_memory_->data());
    const auto bytes = std::as_bytes(std::span<const std::int32_t>(sizes));
    inputs_.at(1).content.assign(bytes.begin(), bytes.end());
  }

  // A flatten of more than one pixel and channel cannot work in place.
  bool reorders() const {
    const Shape& dims = planned_.at(0).dims;
    return test_.op.as<Flatten>() && dims[1] > 1 && dims[2] * dims[3] > 1;
  }

  void make_parameters() {
    const RunParameters& p = test_.parameters;
    constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
    const CudaParameters values{p.first_score_threshold.value_or(kNone), p.score_threshold.value_or(kNone),
                                p.nms_iou.value_or(kNone), p.mask_threshold.value_or(kNone),
                                p.max_detections.value_or(-1)};
    parameters_ = std::make_unique<GuardedDevice>(sizeof(values), kGuardByte);
    parameters_->upload(Bytes(reinterpret_cast<const std::byte*>(&values), sizeof(values)));
  }

  const CudaKernel* find_kernel() const {
    for (const CudaKernel& kernel : cuda_kernels())
      if (kernel.op == &node_->op.info()) return &kernel;
    fail(ErrorCode::kInternal, "no CUDA kernel for {}", node_->op.name());
  }

  std::unique_ptr<CudaStep> prepare() {
    auto step = kernel_->prepare(*this);
    scratch_ = std::make_unique<GuardedDevice>(scratch_bytes_, std::byte{0xFF});
    // The executor keeps weights on the host: what a kernel needs of them it has packed for itself.
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      if (weights_[i]) inputs_[i].value.data = nullptr;
    if (in_place_ >= 0) outputs_[0].value.data = inputs_[static_cast<std::size_t>(in_place_)].value.data;
    running_ = true;
    return step;
  }

  void reset() {
    for (Slot& slot : outputs_) slot.reset();
    for (Slot& slot : inputs_) slot.reset();
    scratch_->reset();
    cuda_check(cudaDeviceSynchronize(), "before a run");
  }

  template <class Body>
  std::vector<Tensor> run_once(Body&& body) {
    reset();
    body();
    cuda_check(cudaStreamSynchronize(stream()), "running the kernel");
    std::vector<Tensor> out;
    for (std::size_t i = 0; i < outputs_.size(); ++i) out.push_back(result(i));
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      outputs_[i].expect_intact("output " + std::to_string(i));
    for (std::size_t i = 0; i < inputs_.size(); ++i) check_input(i);
    EXPECT_TRUE(scratch_->intact()) << "written outside the scratch";
    EXPECT_TRUE(parameters_->intact()) << "written beside the parameters";
    EXPECT_TRUE(!photo_memory_ || photo_memory_->intact()) << "written beside the photos";
    return out;
  }

  void check_input(std::size_t i) const {
    const Slot& slot = inputs_[i];
    const std::string name = "input " + std::to_string(i);
    slot.expect_intact(name);
    if (slot.absent || static_cast<int>(i) == in_place_) return;
    EXPECT_TRUE(slot.buffer->download(slot.content.size()) == slot.content) << name << " was changed";
    EXPECT_TRUE(!slot.counted || slot.live_rows() == *slot.start_rows)
        << "the row count of " << name << " was changed";
  }

  Tensor result(std::size_t i) const {
    const Slot& slot = outputs_[i];
    CudaValue live = slot.value;
    live.dims[0] = slot.live_rows();
    if (live.dims[0] < 0 || live.dims[0] > slot.value.dims[0]) {
      ADD_FAILURE() << live.dims[0] << " live rows of output " << i << ", whose bound is "
                    << slot.value.dims[0];
      live.dims[0] = 0;
    }
    const GuardedDevice& memory =
        i == 0 && in_place_ >= 0 ? *inputs_[static_cast<std::size_t>(in_place_)].buffer : *slot.buffer;
    std::vector<std::byte> bytes = memory.download(live.bytes());
    if (!gives_image(test_.op)) bytes = reordered(bytes, live.dtype, live.dims, false);
    Tensor out = Tensor::zeros(live.dtype, live.dims);
    if (!bytes.empty()) std::memcpy(out.mutable_data(), bytes.data(), bytes.size());
    return out;
  }

  const KernelCase& test_;
  int in_place_;
  Graph graph_;
  const Node* node_ = nullptr;
  const CudaKernel* kernel_ = nullptr;
  CudaDevice device_;
  CudaStream stream_;
  std::vector<Slot> inputs_, outputs_;
  std::vector<CudaValue> planned_, planned_outputs_;
  mutable std::vector<bool> weights_;  // inputs that the kernel asked for on the host
  mutable std::map<std::string, std::shared_ptr<const DeviceBuffer>> shared_;
  CudaPhotos planned_photos_, photos_;
  bool running_ = false;
  std::size_t scratch_bytes_ = 0;
  std::unique_ptr<GuardedDevice> scratch_, parameters_, photo_memory_;
};

double largest_finite(std::span<const float> values) {
  double out = 0;
  for (const float v : values)
    if (std::isfinite(v)) out = std::max(out, std::abs(double{v}));
  return out;
}

bool close(float got, float want, double allowed) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got);
  if (std::isinf(want) || std::isinf(got)) return got == want;
  return std::abs(double{got} - double{want}) <= allowed;
}

void expect_close(const Tensor& got, const Tensor& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  if (!is_float(got.dtype())) {
    ASSERT_EQ(got.dtype(), want.dtype()) << what;
    EXPECT_TRUE(std::ranges::equal(got.bytes(), want.bytes())) << what << ": other integers";
    return;
  }
  const Tensor a = got.to_f32(), b = rounded_to(want.to_f32(), got.dtype()).to_f32();
  const auto x = a.values<float>(), y = b.values<float>();
  const double allowed = tolerance * largest_finite(y);
  std::size_t wrong = 0, first = 0;
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(double{x[i]} - double{y[i]}));  // NaN leaves it
    if (close(x[i], y[i], allowed)) continue;
    if (wrong++ == 0) first = i;
  }
  EXPECT_EQ(wrong, 0u) << what << ": " << wrong << " of " << x.size() << " elements of "
                       << to_string(got.shape()) << " off by up to " << worst << " where " << allowed
                       << " is allowed; the first, " << first << ", is " << (wrong ? x[first] : 0) << ", not "
                       << (wrong ? y[first] : 0);
}

}  // namespace

bool cuda_available(std::string* why) { return !cuda_devices(why).empty(); }

namespace {

// With OSPREY_SHORT_CASES (cuda_harness.h).
class ShortForm final : public testing::Environment {
 public:
  bool on() const { return on_; }

  // Whether the next case runs: small ones, the first of a test and every seventh.
  bool takes(const KernelCase& test) {
    constexpr int kFirst = 4, kEvery = 7;
    begin_test();
    std::size_t numbers = 0;
    for (const KernelInput& in : test.inputs)
      numbers += static_cast<std::size_t>(element_count(in.data.shape()));
    const bool taken = numbers <= most_numbers_ && (small_ < kFirst || small_ % kEvery == 0);
    small_ += numbers <= most_numbers_;
    ++(taken ? ran_ : left_out_);
    return taken;
  }

  void take_as_small(std::size_t numbers) {
    begin_test();
    most_numbers_ = numbers;
  }

  void TearDown() override {
    if (!on_ || ran_ + left_out_ == 0) return;
    std::cout << "short form: " << ran_ << " cases ran, " << left_out_ << " did not\n";
  }

 private:
  static constexpr std::size_t kMostNumbers = 20000;  // of a small case

  void begin_test() {
    const testing::TestInfo* now = testing::UnitTest::GetInstance()->current_test_info();
    if (now != test_) test_ = now, small_ = 0, most_numbers_ = kMostNumbers;
  }

  bool on_ = std::getenv("OSPREY_SHORT_CASES") != nullptr;
  const testing::TestInfo* test_ = nullptr;
  std::size_t most_numbers_ = kMostNumbers;
  int small_ = 0, ran_ = 0, left_out_ = 0;
};

ShortForm& short_form = *static_cast<ShortForm*>(testing::AddGlobalTestEnvironment(new ShortForm));

}  // namespace

bool short_cases() { return short_form.on(); }

void take_as_small(std::size_t numbers) { short_form.take_as_small(numbers); }

std::vector<Tensor> run_cuda(const KernelCase& test) {
  if (short_form.on()) return short_form.takes(test) ? Harness(test).run_eagerly() : run_oracle(test);
  Harness harness(test);
  std::vector<Tensor> out = harness.run_every_way();
  for (const int i : harness.places())
    Harness::expect_same(Harness(test, i).run_eagerly(), out, "a run in place of input " + std::to_string(i));
  return out;
}

std::vector<Tensor> run_cuda(const KernelCase& test, const Conversions& conversions) {
  Harness harness(test, -1, conversions);
  return short_form.on() ? harness.run_eagerly() : harness.run_every_way();
}

double time_cuda(const KernelCase& test, int launches, int runs) {
  return Harness(test).time(launches, runs);
}

std::vector<Tensor> run_oracle(const KernelCase& test) {
  KernelCase wide = test;
  if (const auto* op = test.op.as<QuantizedConv>()) {
    QuantizedConv known = *op;
    if (known.to == StoredType::kF16) known.to = StoredType::kF32;
    wide.op = known;
    // In C order only oneDNN's reference code takes integers, a thousand times slower.
    constexpr CpuLayout channels_last{0};
    for (const std::size_t map : {0u, 4u})
      if (map < wide.inputs.size()) wide.inputs[map].layout = channels_last;
    wide.output_layout = channels_last;
  }
  if (const auto* op = test.op.as<QuantizedLinear>(); op && op->to == StoredType::kF16) {
    QuantizedLinear known = *op;
    known.to = StoredType::kF32;
    wide.op = known;
  }
  if (const auto* op = test.op.as<Dequantize>()) wide.op = Dequantize{.scale = op->scale};
  if (test.op.as<Cast>()) wide.op = Cast{};
  if (const auto* op = test.op.as<NormalizeImage>()) {
    NormalizeImage known = *op;
    known.to = FloatType::kF32;
    wide.op = known;
  }
  for (KernelInput& in : wide.inputs)
    if (is_float(in.data.dtype()) && !(in.data.shape().empty() && in.data.empty()))
      in.data = in.data.to_f32();
  return run_kernel(wide);
}

Tensor rounded_to(const Tensor& values, DType type) {
  if (values.dtype() != DType::kF32 || type == DType::kF32 || !is_float(type)) return values;
  Tensor out = Tensor::zeros(type, values.shape());
  const auto from = values.values<float>();
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (type == DType::kF16) out.mutable_values<Half>()[i] = to_half(from[i]);
    if (type == DType::kBF16) out.mutable_values<BFloat16>()[i] = to_bfloat16(from[i]);
  }
  return out;
}

void expect_close(const std::vector<Tensor>& got, const std::vector<Tensor>& want, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i)
    expect_close(got[i], want[i], tolerance, what + ", output " + std::to_string(i));
}

void expect_as_on_cpu(const KernelCase& test, double tolerance, const std::string& what) {
  expect_close(run_cuda(test), run_oracle(test), tolerance, what);
}

}  // namespace osprey

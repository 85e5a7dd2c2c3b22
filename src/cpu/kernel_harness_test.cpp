#include "cpu/kernel_harness.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "cpu/pages.h"

namespace osprey {
namespace {

constexpr std::size_t kGuard = 64;  // bytes on each side, so that alignment stays
constexpr std::byte kGuardByte{0xA5}, kGarbage{0xCD};

// Aligned bytes between guard words.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::size_t size) : size_(size), memory_(size + 3 * kGuard, kGuardByte) {
    void* start = memory_.data() + kGuard;
    std::size_t room = memory_.size() - kGuard;
    data_ = static_cast<std::byte*>(std::align(64, size, start, room));
    std::fill_n(data_, size, kGarbage);
  }
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool intact() const {
    const auto ok = [](std::byte b) { return b == kGuardByte; };
    return std::all_of(memory_.data(), static_cast<const std::byte*>(data_), ok) &&
           std::all_of(static_cast<const std::byte*>(data_) + size_, memory_.data() + memory_.size(), ok);
  }

 private:
  std::size_t size_;
  std::vector<std::byte> memory_;
  std::byte* data_;
};

struct Slot {
  CpuValue value;  // dims[0] live
  std::int64_t bound = 0;
  bool unbounded = false;
  bool dynamic =
      false;  // its first extent is data-dependent: memory holds whole blocks of rows (cpu/kernel.h)
  std::shared_ptr<GuardedBuffer> buffer;

  void allocate() {
    CpuValue full = value;
    if (!full.dims.empty()) full.dims[0] = dynamic ? row_capacity(bound) : bound;
    buffer = std::make_shared<GuardedBuffer>(full.bytes());
    value.data = buffer->data();
  }
};

class Harness final : public CpuPrepare, public CpuRun {
 public:
  explicit Harness(const KernelCase& test) : test_(test), graph_("test") {
    std::vector<ValueId> ids;
    for (std::size_t i = 0; i < test.inputs.size(); ++i) ids.push_back(add_input(i));
    node_ = &graph_.add_node(test.op, ids, "node");
    kernel_ = find_kernel();
    for (std::size_t i = 0; i < node_->outputs.size(); ++i) add_output(i);
    check_ports();
  }

  std::vector<Tensor> run_twice() {
    const auto step = kernel_->prepare(*this);
    scratch_memory_ = std::make_unique<GuardedBuffer>(scratch_bytes_);
    const std::vector<Tensor> first = run_once(*step), second = run_once(*step);
    for (std::size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(first[i].shape(), second[i].shape()) << "output " << i << " of a second run";
      EXPECT_TRUE(std::ranges::equal(first[i].bytes(), second[i].bytes()))
          << "output " << i << " of a second run";
    }
    return second;
  }

  KernelTime time(int runs) {
    const auto step = kernel_->prepare(*this);
    scratch_memory_ = std::make_unique<GuardedBuffer>(scratch_bytes_);
    KernelTime best{1e9, 1e9};
    for (int i = 0; i <= runs; ++i) {  // the first is for warming up
      for (std::size_t k = 0; k < outputs_.size(); ++k) reset_rows(k, outputs_[k].buffer == nullptr);
      const double wall = seconds(CLOCK_MONOTONIC), processor = seconds(CLOCK_PROCESS_CPUTIME_ID);
      step->run(*this);
      if (i == 0) continue;
      best.wall = std::min(best.wall, seconds(CLOCK_MONOTONIC) - wall);
      best.processor = std::min(best.processor, seconds(CLOCK_PROCESS_CPUTIME_ID) - processor);
    }
    return best;
  }

  const Node& node() const override { return *node_; }
  bool has_input(std::size_t i) const override { return i < inputs_.size() && inputs_[i].buffer; }
  const CpuValue& input(std::size_t i) const override { return bounds_.at(i); }
  const CpuValue& output(std::size_t i) const override { return output_bounds_.at(i); }
  const TensorType& input_type(std::size_t i) const override {
    return graph_.value(node_->inputs.at(i)).type;
  }
  Tensor weight(std::size_t i) const override { return test_.inputs.at(i).data; }
  std::shared_ptr<const void> shared(
      const std::string&, const std::function<std::shared_ptr<const void>()>& make) const override {
    return make();
  }
  std::byte* constant_memory(std::size_t bytes) const override { return constants_.take(bytes); }
  bool in_place(std::size_t) const override { return false; }
  void request_scratch(std::size_t bytes) override { scratch_bytes_ = std::max(scratch_bytes_, bytes); }
  int threads() const override { return test_.threads; }

  const CpuValue& in(std::size_t i) const override { return inputs_.at(i).value; }
  const CpuValue& out(std::size_t i) const override { return outputs_.at(i).value; }
  void set_rows(std::size_t i, std::int64_t rows) override {
    Slot& slot = outputs_.at(i);
    EXPECT_LE(rows, slot.bound) << "rows of output " << i;
    slot.value.dims[0] = rows;
  }
  const CpuValue& grow(std::size_t i, std::int64_t rows) override {
    Slot& slot = outputs_.at(i);
    EXPECT_TRUE(slot.unbounded) << "output " << i << " has a bound";
    slot.bound = slot.value.dims[0] = rows;
    slot.allocate();
    return slot.value;
  }
  std::span<std::byte> scratch() override { return {scratch_memory_->data(), scratch_bytes_}; }
  std::span<const ImageView> photos() const override { return test_.photos; }
  const RunParameters& parameters() const override { return test_.parameters; }

 private:
  ValueId add_input(std::size_t i) {
    const KernelInput& in = test_.inputs[i];
    if (in.data.shape().empty() && in.data.empty()) {
      bounds_.emplace_back(), inputs_.emplace_back();
      return kNoValue;
    }
    TensorType type{in.data.dtype(), {in.data.shape().begin(), in.data.shape().end()}};
    if (in.bound > 0) type.dims[0] = Dim::at_most(in.bound);
    Slot slot{.value = {in.data.dtype(), in.data.shape(), in.layout},
              .bound = in.data.shape().empty() ? 1 : in.data.shape()[0],
              .dynamic = in.bound > 0};
    slot.allocate();
    const std::vector<std::byte> bytes = to_layout(in.data, in.layout);
    std::copy(bytes.begin(), bytes.end(), slot.value.data);
    CpuValue bound = slot.value;
    bound.data = nullptr;
    if (in.bound > 0) bound.dims[0] = in.bound;
    bounds_.push_back(bound);
    inputs_.push_back(std::move(slot));
    return graph_.add_input("in" + std::to_string(i), std::move(type));
  }

  void add_output(std::size_t i) {
    const TensorType& type = graph_.value(node_->outputs[i]).type;
    Slot slot{.value = {type.dtype, {}, type.rank() == 4 ? test_.output_layout : CpuLayout{}}};
    for (const Dim& dim : type.dims) {
      if (dim.kind() == Dim::Kind::kUnknown) slot.unbounded = true;
      slot.value.dims.push_back(slot.unbounded ? 0 : dim.evaluate(test_.bindings));
    }
    slot.bound = slot.value.dims.at(0);
    slot.dynamic = !slot.unbounded && !type.dims.at(0).is_exact();
    output_bounds_.push_back(slot.value);
    outputs_.push_back(std::move(slot));
  }

  const CpuKernel* find_kernel() const {
    for (const CpuKernel& kernel : cpu_kernels())
      if (kernel.op == &node_->op.info()) return &kernel;
    fail(ErrorCode::kInternal, "no CPU kernel for {}", node_->op.name());
  }

  void check_ports() const {
    EXPECT_TRUE(std::ranges::count(kernel_->dtypes, input_type(0).dtype)) << "the kernel declines this type";
    const auto check_port = [&](auto rule, std::size_t i, const CpuValue& value) {
      if (value.dims.size() != 4) return;
      const CpuPort port = rule ? rule(*node_, i, graph_) : CpuPort::kPlain;
      EXPECT_TRUE(port != CpuPort::kPlain || value.layout.block == 1) << "port " << i << " wants C order";
    };
    for (std::size_t i = 0; i < inputs_.size(); ++i) check_port(kernel_->input, i, inputs_[i].value);
    for (std::size_t i = 0; i < outputs_.size(); ++i) check_port(kernel_->output, i, outputs_[i].value);
  }

  static double seconds(clockid_t clock) {
    timespec t{};
    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }

  // The rows that an output has before the kernel says anything (cpu/kernel.h), and garbage in them.
  void reset_rows(std::size_t i, bool fresh) {
    Slot& slot = outputs_[i];
    if (slot.unbounded) slot.bound = 0;
    slot.value.dims[0] = slot.bound;
    const Dim& dim = graph_.value(node_->outputs[i]).type.dims.at(0);
    const auto counts = [&](std::size_t k) {
      return has_input(k) && input_type(k).rank() > 0 && input_type(k).dims[0] == dim;
    };
    for (std::size_t k = 0; k < inputs_.size(); ++k)
      if (!dim.is_exact() && counts(k)) slot.value.dims[0] = inputs_[k].value.dims[0];
    if (fresh || slot.unbounded) slot.allocate();
  }

  std::vector<Tensor> run_once(CpuStep& step) {
    for (std::size_t i = 0; i < outputs_.size(); ++i) reset_rows(i, true);
    step.run(*this);
    std::vector<Tensor> out;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      EXPECT_TRUE(outputs_[i].buffer->intact()) << "written outside output " << i;
      out.push_back(from_layout(outputs_[i].value));
    }
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      EXPECT_TRUE(!has_input(i) || inputs_[i].buffer->intact()) << "written outside input " << i;
    EXPECT_TRUE(scratch_memory_->intact()) << "written outside the scratch";
    return out;
  }

  const KernelCase& test_;
  Graph graph_;
  const Node* node_ = nullptr;
  const CpuKernel* kernel_ = nullptr;
  std::vector<Slot> inputs_, outputs_;
  std::vector<CpuValue> bounds_, output_bounds_;
  std::size_t scratch_bytes_ = 0;
  std::unique_ptr<GuardedBuffer> scratch_memory_;
  mutable PagePool constants_;
};

// Calls body(offset in C order, offset in the layout) for every element.
template <class Body>
void for_each_offset(const CpuValue& value, Body&& body) {
  const CpuPlanes planes(value);
  std::int64_t plain = 0;
  for (std::int64_t n = 0; n < value.dims[0]; ++n)
    for (std::int64_t c = 0; c < value.dims[1]; ++c)
      for (std::int64_t y = 0; y < value.dims[2]; ++y)
        for (std::int64_t x = 0; x < value.dims[3]; ++x) body(plain++, planes.at(n, c, y, x));
}

}  // namespace

std::vector<float> random_floats(std::int64_t count, float low, float high, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& v : out) v = low + (high - low) * static_cast<float>(engine() >> 8) * 0x1p-24f;
  return out;
}

Tensor random_tensor(Shape shape, float low, float high, std::uint32_t seed) {
  const std::int64_t count = element_count(shape);
  return tensor_of(random_floats(count, low, high, seed), std::move(shape));
}

std::vector<Tensor> run_kernel(const KernelCase& test) { return Harness(test).run_twice(); }

KernelTime time_kernel(const KernelCase& test, int runs) { return Harness(test).time(runs); }

std::vector<std::byte> to_layout(const Tensor& plain, CpuLayout layout) {
  if (plain.shape().size() != 4 || layout.block == 1) return {plain.bytes().begin(), plain.bytes().end()};
  const CpuValue value{plain.dtype(), plain.shape(), layout};
  const std::size_t size = size_of(plain.dtype());
  std::vector<std::byte> out(value.bytes());
  for_each_offset(value, [&](std::int64_t from, std::int64_t to) {
    std::memcpy(&out[static_cast<std::size_t>(to) * size],
                &plain.bytes()[static_cast<std::size_t>(from) * size], size);
  });
  return out;
}

Tensor from_layout(const CpuValue& value) {
  Tensor out = Tensor::zeros(value.dtype, value.dims);
  if (value.dims.size() != 4 || value.layout.block == 1) {
    if (!out.empty()) std::memcpy(out.mutable_data(), value.data, value.bytes());
    return out;
  }
  const auto size = static_cast<std::int64_t>(size_of(value.dtype));
  for_each_offset(value, [&](std::int64_t to, std::int64_t from) {
    std::memcpy(out.mutable_data() + to * size, value.data + from * size, static_cast<std::size_t>(size));
  });
  const CpuPlanes planes(value);
  for (std::int64_t plane = 0; plane < planes.count; ++plane)
    for (std::int64_t p = 0; p < planes.height * planes.width; ++p)
      for (std::int64_t lane = planes.live_lanes(plane); lane < planes.lanes; ++lane) {
        const std::byte* padding =
            value.data + (plane * planes.plane_size() + p * planes.lanes + lane) * size;
        EXPECT_TRUE(std::all_of(padding, padding + size, [](std::byte b) { return b == std::byte{0}; }))
            << "padded channel " << lane << " of plane " << plane << " is not zero";
      }
  return out;
}

}  // namespace osprey

// The layers' few products are done here: a call of a library takes longer than they do.
#include "ops/squeeze_excite.h"

#include "cpu/channel_means.h"
#include "cpu/scratch.h"
#include "cpu/vector_math.h"

namespace osprey {
namespace {

constexpr std::int64_t kGroup = 16;          // outputs of a layer side by side
constexpr std::int64_t kChains = 4;          // sums of an output, which take the inputs in turn
constexpr std::int64_t kLeastShared = 2048;  // groups times inputs; less is done by one thread

// Weights as [group of outputs][input][output of the group], the last group padded with zeros.
struct Layer {
  std::int64_t inputs, outputs, padded;
  std::vector<float> weights, bias;
};

std::int64_t padded(std::int64_t outputs) { return (outputs + kGroup - 1) / kGroup * kGroup; }

Layer layer_of(const CpuPrepare& p, std::size_t at) {
  const Tensor weight = p.weight(at).to_f32(), bias = p.weight(at + 1).to_f32();
  Layer out{weight.dim(1), weight.dim(0), padded(weight.dim(0)), {}, {}};
  out.weights.resize(static_cast<std::size_t>(out.inputs * out.padded));
  out.bias.resize(static_cast<std::size_t>(out.padded));
  std::copy_n(bias.values<float>().data(), out.outputs, out.bias.data());
  for (std::int64_t o = 0; o < out.outputs; ++o)
    for (std::int64_t i = 0; i < out.inputs; ++i)
      out.weights[static_cast<std::size_t>((o / kGroup * out.inputs + i) * kGroup + o % kGroup)] =
          weight.values<float>()[static_cast<std::size_t>(o * out.inputs + i)];
  return out;
}

// y = activation(weights * x + bias), of a group of outputs, padding ones included.
struct LayerJob {
  const Layer* layer;
  const float* x;
  float* y;
  Activation activation;
  std::int64_t group;
};

[[gnu::always_inline]] inline void run_group(const LayerJob* job) {
  const Layer& layer = *job->layer;
  const std::int64_t o = job->group * kGroup;
  Floats<16> sums[kChains] = {*reinterpret_cast<const Floats<16>*>(layer.bias.data() + o)};
  const float* weights = layer.weights.data() + o * layer.inputs;
  std::int64_t i = 0;
  const auto add = [&](Floats<16>& to) {
    to += job->x[i++] * *reinterpret_cast<const Floats<16>*>(weights);
    weights += kGroup;
  };
  while (i + kChains <= layer.inputs)
    for (Floats<16>& part : sums) add(part);
  while (i < layer.inputs) add(sums[0]);
  Floats<16> sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  activate_lanes(job->activation, sum);
  *reinterpret_cast<Floats<16>*>(job->y + o) = sum;
}

// A row of a plane.
template <class T>
struct Row {
  const T* x;
  const float* gates;
  T* y;
  std::int64_t lanes, live, width;
};

template <class T>
[[gnu::always_inline]] inline void scale_row(const Row<T>* row) {
  const T* x = row->x;
  T* y = row->y;
  for (std::int64_t i = 0; i < row->width; ++i, x += row->lanes, y += row->lanes) {
    for (std::int64_t k = 0; k < row->live; ++k) y[k] = store_float<T>(load_float(x[k]) * row->gates[k]);
    for (std::int64_t k = row->live; k < row->lanes; ++k) y[k] = T{};
  }
}

class SqueezeExciteStep final : public CpuStep {
 public:
  explicit SqueezeExciteStep(CpuPrepare& p)
      : activation_(p.op<SqueezeExcite>().activation),
        means_(p.input(0)),
        squeeze_(layer(p, 1)),
        expand_(layer(p, 3)) {
    Scratch scratch(*this, nullptr, p.input(0).dims[0]);
    p.request_scratch(scratch.bytes);
  }

  void run(CpuRun& run) override {
    const Scratch scratch(*this, run.scratch().data(), run.in(0).dims[0]);
    with_float(run.in(0).dtype, [&]<class T>() {
      means_.run<T>(run.in(0), scratch.sums, run.threads(), [&](std::int64_t n, std::int64_t c, float mean) {
        scratch.means[n * squeeze_->inputs + c] = mean;
      });
      find_gates(run, scratch);
      scale<T>(run, scratch.gates);
    });
  }

 private:
  struct Scratch {
    Scratch(const SqueezeExciteStep& step, std::byte* memory, std::int64_t images) {
      ScratchLayout layout(memory);
      sums = layout.take<float>(step.means_.floats());
      means = layout.take<float>(images * step.squeeze_->inputs);
      hidden = layout.take<float>(images * step.squeeze_->padded);
      gates = layout.take<float>(images * step.expand_->padded);
      bytes = layout.size();
    }
    float *sums, *means, *hidden, *gates;
    std::size_t bytes;
  };

  static std::shared_ptr<const Layer> layer(const CpuPrepare& p, std::size_t at) {
    return std::static_pointer_cast<const Layer>(
        p.shared(fmt::format("squeeze_excite:{}", p.node().inputs[at]),
                 [&] { return std::make_shared<const Layer>(layer_of(p, at)); }));
  }

  void find_gates(CpuRun& run, const Scratch& scratch) const {
    run_layer(run, *squeeze_, scratch.means, squeeze_->inputs, scratch.hidden, activation_);
    run_layer(run, *expand_, scratch.hidden, squeeze_->padded, scratch.gates, Activation::kSigmoid);
  }

  // Of all images; `stride` is between the inputs of two.
  static void run_layer(CpuRun& run, const Layer& layer, const float* x, std::int64_t stride, float* y,
                        Activation activation) {
    const std::int64_t images = run.in(0).dims[0], groups = layer.padded / kGroup;
    const bool small = images * groups * layer.inputs < kLeastShared;
    cpu_for(images * groups, small ? 1 : run.threads(), [&](std::int64_t i) {
      const std::int64_t n = i / groups;
      const LayerJob of{&layer, x + n * stride, y + n * layer.padded, activation, i % groups};
      const LayerJob* const job = &of;
      vectorised<run_group>(job);
    });
  }

  template <class T>
  void scale(CpuRun& run, const float* gates) const {
    const CpuPlanes planes(run.in(0));
    const std::int64_t size = planes.width * planes.lanes;
    cpu_for(planes.count * planes.height, run.threads(), [&](std::int64_t i) {
      const std::int64_t plane = i / planes.height;
      const Row<T> row{.x = reinterpret_cast<const T*>(run.in(0).data) + i * size,
                       .gates = gates + plane / planes.per_image * expand_->padded +
                                plane % planes.per_image * planes.lanes,
                       .y = reinterpret_cast<T*>(run.out(0).data) + i * size,
                       .lanes = planes.lanes,
                       .live = planes.live_lanes(plane),
                       .width = planes.width};
      const Row<T>* const job = &row;
      vectorised<scale_row<T>>(job);
    });
  }

  const Activation activation_;
  const ChannelMeans means_;
  const std::shared_ptr<const Layer> squeeze_, expand_;
};

}  // namespace

CpuKernel squeeze_excite_cpu() {
  return {.op = &kOpInfo<SqueezeExcite>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            return std::make_unique<SqueezeExciteStep>(p);
          },
          .in_place = {0}};
}

}  // namespace osprey

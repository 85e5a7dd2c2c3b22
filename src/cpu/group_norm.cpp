// Channels' sums first, then their squared distances from the groups' means, then the result: three passes,
// each over pieces of planes that depend on the map alone.
#include "ops/group_norm.h"

#include <algorithm>
#include <cmath>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr std::int64_t kPiece = 2048;  // pixels of a task
constexpr std::int64_t kStrip = 128;   // pixels whose sum is kept in f32
constexpr std::int64_t kLanes = 16;    // channels, or pixels of one channel, that are summed side by side

// A value in any layout, as planes of lanes side by side; a matrix has one pixel of all its channels.
struct Maps {
  std::int64_t images, channels, pixels, lanes, per_image;  // planes of an image

  explicit Maps(const CpuValue& x) : images(x.dims[0]), channels(x.dims[1]) {
    const bool matrix = x.dims.size() == 2;
    pixels = matrix ? 1 : x.dims[2] * x.dims[3];
    lanes = matrix || x.layout.block == 0 ? channels : x.layout.block;
    per_image = (channels + lanes - 1) / lanes;
  }
  std::int64_t padded() const { return per_image * lanes; }
  std::int64_t pieces() const { return (pixels + kPiece - 1) / kPiece; }
  std::int64_t tasks() const { return images * per_image * pieces(); }
};

// What a run keeps for itself.
struct Memory {
  double* sums;             // of each task, its lanes
  float *mean, *by, *bias;  // of each image, its padded channels

  static std::size_t bytes(const Maps& m) {
    return static_cast<std::size_t>(m.tasks() * m.lanes) * sizeof(double) +
           static_cast<std::size_t>(3 * m.images * m.padded()) * sizeof(float);
  }
  Memory(const Maps& m, std::span<std::byte> scratch)
      : sums(reinterpret_cast<double*>(scratch.data())),
        mean(reinterpret_cast<float*>(sums + m.tasks() * m.lanes)),
        by(mean + m.images * m.padded()),
        bias(by + m.images * m.padded()) {}
};

template <class T>
struct Piece {
  const T* x;
  T* y;
  double* sums;
  const float *mean, *by, *bias;  // of its lanes; `mean` may be null: then sums are of the numbers themselves
  std::int64_t pixels, lanes;
  bool relu;
};

template <class T>
[[gnu::always_inline]] inline float summand(const T& x, float mean, bool squares) {
  const float v = load_float(x) - mean;
  return squares ? v * v : v;
}

// One channel, pixels side by side.
template <class T>
[[gnu::always_inline]] inline double sum_line(const T* x, std::int64_t pixels, float mean, bool squares) {
  double sum = 0;
  for (std::int64_t first = 0; first < pixels; first += kStrip * kLanes) {
    const std::int64_t count = std::min(kStrip * kLanes, pixels - first);
    float parts[kLanes] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
      for (std::int64_t k = 0; k < kLanes; ++k) parts[k] += summand(x[first + i + k], mean, squares);
    for (; i < count; ++i) parts[i % kLanes] += summand(x[first + i], mean, squares);
    for (const float part : parts) sum += part;
  }
  return sum;
}

// `width` channels from the first of `x`.
template <class T>
[[gnu::always_inline]] inline void sum_lanes(const Piece<T>& p, std::int64_t first, std::int64_t width) {
  float mean[kLanes] = {};
  for (std::int64_t k = 0; p.mean && k < width; ++k) mean[k] = p.mean[first + k];
  double sums[kLanes] = {};
  for (std::int64_t begin = 0; begin < p.pixels; begin += kStrip) {
    float parts[kLanes] = {};
    const std::int64_t end = std::min(begin + kStrip, p.pixels);
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t k = 0; k < width; ++k)
        parts[k] += summand(p.x[i * p.lanes + first + k], mean[k], p.mean != nullptr);
    for (std::int64_t k = 0; k < width; ++k) sums[k] += parts[k];
  }
  for (std::int64_t k = 0; k < width; ++k) p.sums[first + k] = sums[k];
}

template <class T>
[[gnu::always_inline]] inline void sum_piece(const Piece<T>* piece) {
  const Piece<T>& p = *piece;
  if (p.lanes == 1) {
    p.sums[0] = sum_line(p.x, p.pixels, p.mean ? p.mean[0] : 0, p.mean != nullptr);
    return;
  }
  std::int64_t k = 0;
  for (; k + kLanes <= p.lanes; k += kLanes) sum_lanes(p, k, kLanes);
  if (k < p.lanes) sum_lanes(p, k, p.lanes - k);
}

template <class T>
[[gnu::always_inline]] inline void write_piece(const Piece<T>* piece) {
  const Piece<T>& p = *piece;
  const auto result = [&](const T& x, std::int64_t k) {
    const float v = (load_float(x) - p.mean[k]) * p.by[k] + p.bias[k];
    return store_float<T>(p.relu && v < 0 ? 0.0f : v);
  };
  if (p.lanes == 1) {
    for (std::int64_t i = 0; i < p.pixels; ++i) p.y[i] = result(p.x[i], 0);
    return;
  }
  for (std::int64_t i = 0; i < p.pixels; ++i)
    for (std::int64_t k = 0; k < p.lanes; ++k) p.y[i * p.lanes + k] = result(p.x[i * p.lanes + k], k);
}

class GroupNormStep final : public CpuStep {
 public:
  explicit GroupNormStep(CpuPrepare& p)
      : op_(p.op<GroupNorm>()), scale_(p.weight(1).to_f32()), bias_(p.weight(2).to_f32()) {
    p.request_scratch(Memory::bytes(Maps(p.input(0))));
  }

  void run(CpuRun& run) override {
    with_float(run.in(0).dtype, [&]<class T>() { normalise<T>(run); });
  }

 private:
  template <class T>
  void normalise(CpuRun& run) const {
    const Maps maps(run.in(0));
    const Memory memory(maps, run.scratch());
    const auto for_pieces = [&](auto&& body, const float* mean) {
      cpu_for(maps.tasks(), run.threads(), [&](std::int64_t task) {
        const std::int64_t plane = task / maps.pieces(), first = task % maps.pieces() * kPiece;
        const std::int64_t at = (plane * maps.pixels + first) * maps.lanes, lane = plane * maps.lanes;
        body(Piece<T>{.x = reinterpret_cast<const T*>(run.in(0).data) + at,
                      .y = reinterpret_cast<T*>(run.out(0).data) + at,
                      .sums = memory.sums + task * maps.lanes,
                      .mean = mean ? mean + lane : nullptr,
                      .by = memory.by + lane,
                      .bias = memory.bias + lane,
                      .pixels = std::min(kPiece, maps.pixels - first),
                      .lanes = maps.lanes,
                      .relu = op_.activation == Activation::kRelu});
      });
    };
    const auto sum = [](const Piece<T>& piece) {
      const Piece<T>* const job = &piece;
      vectorised<sum_piece<T>>(job);
    };
    for_pieces(sum, nullptr);
    for_groups(maps, memory, run.threads(), [&](std::int64_t at, std::size_t, double mean) {
      memory.mean[at] = static_cast<float>(mean);
    });
    for_pieces(sum, memory.mean);
    for_groups(maps, memory, run.threads(), [&](std::int64_t at, std::size_t channel, double variance) {
      const auto factor = static_cast<float>(1 / std::sqrt(variance + op_.epsilon));
      memory.by[at] = factor * scale_.values<float>()[channel];
      memory.bias[at] = bias_.values<float>()[channel];
    });
    for_pieces(
        [](const Piece<T>& piece) {
          const Piece<T>* const job = &piece;
          vectorised<write_piece<T>>(job);
        },
        memory.mean);
  }

  // Calls body(place among an image's padded channels, channel, mean of what was summed in its group); of
  // padding all is zero.
  template <class Body>
  void for_groups(const Maps& m, const Memory& memory, int threads, Body&& body) const {
    const std::int64_t each = m.channels / op_.groups;
    const double count = static_cast<double>(each * m.pixels);
    cpu_for(m.images, threads, [&](std::int64_t image) {
      const auto sum_of = [&](std::int64_t channel) {
        const std::int64_t plane = image * m.per_image + channel / m.lanes;
        double sum = 0;
        for (std::int64_t i = 0; i < m.pieces(); ++i)
          sum += memory.sums[(plane * m.pieces() + i) * m.lanes + channel % m.lanes];
        return sum;
      };
      for (std::int64_t first = 0; first < m.channels; first += each) {
        double sum = 0;
        for (std::int64_t c = first; c < first + each; ++c) sum += sum_of(c);
        for (std::int64_t c = first; c < first + each; ++c)
          body(image * m.padded() + c, static_cast<std::size_t>(c), sum / count);
      }
      for (std::int64_t c = m.channels; c < m.padded(); ++c)
        for (float* const of : {memory.mean, memory.by, memory.bias}) of[image * m.padded() + c] = 0;
    });
  }

  const GroupNorm op_;
  const Tensor scale_, bias_;
};

CpuPort map_port(const Node&, std::size_t i, const Graph&) {
  return i == 0 ? CpuPort::kAny : CpuPort::kPlain;
}

}  // namespace

CpuKernel group_norm_cpu() {
  return {
      .op = &kOpInfo<GroupNorm>,
      .dtypes = {DType::kF32, DType::kBF16},
      .input = map_port,
      .output = any_port,
      .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> { return std::make_unique<GroupNormStep>(p); },
      .in_place = {0}};
}

}  // namespace osprey

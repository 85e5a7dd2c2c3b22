// A bin's value is the mean of bilinear samples at the crossings of sample rows and sample columns, so what a
// pixel counts in it is the product of a weight of its row and one of its column. A box first adds up, for
// each bin, the weights of the rows and of the columns its samples touch; then each feature row is read
// once: summed into the bins of its columns, and from there into the bins of its rows. That is a third of the
// work of sampling, and differs from it by rounding only.
//
// Channels lie side by side in vectors. Boxes run in parallel, sorted by where they lie, so that neighbours
// find their features in the cache.
#include "ops/roi_align.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <omp.h>

#include "cpu/boxes.h"
#include "cpu/roi_corners.h"
#include "cpu/scratch.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr int kMostSamples = 1024;       // a side of a bin; only boxes far larger than any map get there
constexpr std::int64_t kChunk = 4;       // boxes a task
constexpr std::int64_t kMostLanes = 64;  // channels taken together

// What the pixels along one axis count in each bin: row `bin` of `weights` over the pixels [begin, end), of
// which only [first[bin], last[bin]) are not zero.
struct Axis {
  float* weights;  // [bins, stride]
  std::int32_t *first, *last;
  std::int64_t stride;
  std::int32_t begin = 0, end = 0;

  const float* row(std::int64_t bin) const { return weights + bin * stride; }
};

struct Extent {
  float start, length;  // feature pixels
};

Extent extent_of(float low, float high, float scale, bool aligned) {
  const float shift = aligned ? 0.5f : 0.0f;
  const float start = low * scale - shift, end = high * scale - shift;
  return {start, aligned ? end - start : std::max(end - start, 1.0f)};
}

// Calls body(bin, pixel, weight) for the two pixels beside every sample that lies in the map.
template <class Body>
void for_each_tap(Extent e, int bins, int samples, std::int64_t size, Body&& body) {
  const float bin_size = e.length / static_cast<float>(bins);
  for (int bin = 0; bin < bins; ++bin)
    for (int s = 0; s < samples; ++s) {
      float at = e.start + static_cast<float>(bin) * bin_size +
                 (static_cast<float>(s) + 0.5f) * bin_size / static_cast<float>(samples);
      if (!(at >= -1.0f && at <= static_cast<float>(size))) continue;
      at = std::max(at, 0.0f);
      auto low = static_cast<std::int32_t>(at);
      if (low >= size - 1) {
        low = static_cast<std::int32_t>(size - 1);
        at = static_cast<float>(low);
      }
      const float above = at - static_cast<float>(low);
      body(bin, low, 1.0f - above);
      if (above > 0) body(bin, low + 1, above);
    }
}

// False when no sample of the box lies in the map.
bool weigh(Axis& axis, Extent e, int bins, int wanted_samples, std::int64_t size) {
  if (!std::isfinite(e.start) || !std::isfinite(e.length)) return false;
  const float per_bin = std::ceil(e.length / static_cast<float>(bins));
  const int samples =
      wanted_samples > 0 ? wanted_samples : static_cast<int>(std::clamp(per_bin, 0.0f, float{kMostSamples}));

  axis.begin = std::numeric_limits<std::int32_t>::max(), axis.end = 0;
  std::fill_n(axis.first, bins, axis.begin);
  std::fill_n(axis.last, bins, 0);
  for_each_tap(e, bins, samples, size, [&](int bin, std::int32_t pixel, float) {
    axis.first[bin] = std::min(axis.first[bin], pixel);
    axis.last[bin] = std::max(axis.last[bin], pixel + 1);
  });
  for (int bin = 0; bin < bins; ++bin) {
    if (axis.last[bin] == 0) axis.first[bin] = 0;
    if (axis.last[bin] > 0) axis.begin = std::min(axis.begin, axis.first[bin]);
    axis.end = std::max(axis.end, axis.last[bin]);
  }
  if (axis.begin >= axis.end) return false;
  for (int bin = 0; bin < bins; ++bin)
    std::fill(axis.weights + bin * axis.stride + axis.begin, axis.weights + bin * axis.stride + axis.end,
              0.0f);
  const float share = 1.0f / static_cast<float>(samples);
  for_each_tap(e, bins, samples, size, [&](int bin, std::int32_t pixel, float weight) {
    axis.weights[bin * axis.stride + pixel] += weight * share;
  });
  return true;
}

// Where one group of channels of one box is read and written; strides in elements.
struct Crop {
  const void* from;  // the map's first pixel
  std::int64_t pixel, row;
  void* to;
  std::int64_t bin, channel;
  int live;  // channels to write
  const Axis *ys, *xs;
  int bins;
  float* sums;  // [bins * bins, lanes]
};

template <int lanes>
[[gnu::always_inline]] inline void load(Floats<lanes>& out, const float* from) {
  out = *reinterpret_cast<const Floats<lanes>*>(from);
}
template <int lanes>
[[gnu::always_inline]] inline void load(Floats<lanes>& out, const BFloat16* from) {
  float wide[lanes];
  for (int i = 0; i < lanes; ++i) wide[i] = std::bit_cast<float>(std::uint32_t{from[i].bits} << 16);
  load<lanes>(out, wide);
}
inline void store(float* to, float v) { *to = v; }
inline void store(BFloat16* to, float v) { *to = to_bfloat16(v); }

// Takes `vectors` times `lanes` channels.
template <class T, int lanes, int vectors>
[[gnu::always_inline]] inline void crop(const Crop* c) {
  using V = Floats<lanes>;
  V* sums = reinterpret_cast<V*>(c->sums);
  const int bins = c->bins;
  for (int i = 0; i < bins * bins * vectors; ++i) sums[i] = V{};
  for (std::int32_t y = c->ys->begin; y < c->ys->end; ++y) {
    const T* row = static_cast<const T*>(c->from) + y * c->row;
    int first = 0, last = bins;
    while (first < last && !(c->ys->first[first] <= y && y < c->ys->last[first])) ++first;
    while (first < last && !(c->ys->first[last - 1] <= y && y < c->ys->last[last - 1])) --last;
    if (first == last) continue;
    for (int bx = 0; bx < bins; ++bx) {
      const float* wx = c->xs->row(bx);
      V sum[vectors];  // in registers, once the loops over them are unrolled
      for (int v = 0; v < vectors; ++v) sum[v] = V{};
      for (std::int32_t x = c->xs->first[bx]; x < c->xs->last[bx]; ++x)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          V pixel;
          load<lanes>(pixel, row + x * c->pixel + v * lanes);
          sum[v] += wx[x] * pixel;
        }
      for (int by = first; by < last; ++by)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sums[(by * bins + bx) * vectors + v] += c->ys->row(by)[y] * sum[v];
    }
  }
  T* to = static_cast<T*>(c->to);
  constexpr int kChannels = lanes * vectors;
  if (c->channel == 1) {
    for (int b = 0; b < bins * bins; ++b)
      for (int i = 0; i < c->live; ++i) store(to + b * c->bin + i, c->sums[b * kChannels + i]);
  } else {
    for (int i = 0; i < c->live; ++i)
      for (int b = 0; b < bins * bins; ++b)
        store(to + i * c->channel + b * c->bin, c->sums[b * kChannels + i]);
  }
}

class RoiAlignStep final : public CpuStep {
 public:
  explicit RoiAlignStep(CpuPrepare& prepare) : op_(prepare.op<RoiAlign>()) {
    for (std::size_t l = 0; l < op_.scales.size(); ++l) {
      longest_y_ = std::max(longest_y_, prepare.input(l).dims[2]);
      longest_x_ = std::max(longest_x_, prepare.input(l).dims[3]);
    }
    lay_out(nullptr, prepare.input(op_.scales.size()).dims[0], prepare.threads());
    prepare.request_scratch(layout_.size());
  }

  void run(CpuRun& run) override {
    const CpuValue& rois = run.in(op_.scales.size());
    const std::int64_t count = rois.dims[0];
    lay_out(run.scratch().data(), count, run.threads());
    sort_rois(rows_of<Roi>(rois), count);
    cpu_for((count + kChunk - 1) / kChunk, run.threads(), [&](std::int64_t chunk) {
      for (std::int64_t i = chunk * kChunk; i < std::min(count, (chunk + 1) * kChunk); ++i) {
        const std::int64_t r = static_cast<std::uint32_t>(order_[i]);
        if (run.out(0).dtype == DType::kF32) {
          align<float>(run, rows_of<Roi>(rois)[r], r);
        } else {
          align<BFloat16>(run, rows_of<Roi>(rois)[r], r);
        }
      }
    });
  }

 private:
  void lay_out(std::byte* memory, std::int64_t rois, int threads) {
    layout_ = ScratchLayout(memory);
    order_ = layout_.take<std::uint64_t>(rois);
    thread_size_ = (longest_y_ + longest_x_ + kMostLanes * op_.out + 4) * op_.out;
    thread_size_ = (thread_size_ + 15) / 16 * 16;
    thread_memory_ = layout_.take<float>(threads * thread_size_);
  }

  std::size_t level_of(const Box& b) const {
    const float level =
        std::floor(static_cast<float>(op_.canonical_level) +
                   std::log2(std::sqrt(area_of(b, op_.inclusive)) / op_.canonical_size + op_.level_epsilon)) -
        static_cast<float>(op_.first_level);
    if (!(level > 0)) return 0;  // NaN, too
    return static_cast<std::size_t>(std::min(level, static_cast<float>(op_.scales.size() - 1)));
  }

  // By level, image, and tile of 256 network pixels; the row itself is in the low half.
  void sort_rois(const Roi* rois, std::int64_t count) {
    const auto tile = [](float at) { return static_cast<std::uint64_t>(std::clamp(at / 256, 0.0f, 63.0f)); };
    for (std::int64_t r = 0; r < count; ++r) {
      const Box& b = rois[r].box;
      const std::uint64_t place = is_finite(b) ? tile(b.y0 + b.y1) << 6 | tile(b.x0 + b.x1) : 0;
      const auto image = static_cast<std::uint64_t>(rois[r].image);
      order_[r] = level_of(b) << 56 | (image & 0xfff) << 44 | place << 32 | static_cast<std::uint64_t>(r);
    }
    std::sort(order_, order_ + count);
  }

  template <class T>
  void align(CpuRun& run, const Roi& roi, std::int64_t r) const {
    const std::size_t level = level_of(roi.box);
    const CpuPlanes in(run.in(level)), out(run.out(0));
    const T* from = rows_of<T>(run.in(level));
    T* to = mutable_rows_of<T>(run.out(0));
    const int bins = op_.out;

    float* memory = thread_memory_ + omp_get_thread_num() * thread_size_;
    float* sums = memory;
    float* wy = sums + kMostLanes * bins * bins;
    float* wx = wy + longest_y_ * bins;
    auto* bounds = reinterpret_cast<std::int32_t*>(wx + longest_x_ * bins);
    Axis ys{wy, bounds, bounds + bins, longest_y_}, xs{wx, bounds + 2 * bins, bounds + 3 * bins, longest_x_};
    const float scale = op_.scales[level];
    const Box& b = roi.box;
    const bool inside = weigh(ys, extent_of(b.y0, b.y1, scale, op_.aligned), bins, op_.samples, in.height) &&
                        weigh(xs, extent_of(b.x0, b.x1, scale, op_.aligned), bins, op_.samples, in.width);
    const std::int64_t out_row = out.per_image * out.plane_size();
    if (!inside || out.lanes * out.per_image > out.channels) std::fill_n(to + r * out_row, out_row, T{});
    if (!inside) return;

    Crop crop_of{.pixel = in.lanes,
                 .row = in.width * in.lanes,
                 .bin = out.lanes,
                 .channel = out.lanes == 1 ? out.plane_size() : 1,
                 .ys = &ys,
                 .xs = &xs,
                 .bins = bins,
                 .sums = sums};
    for (std::int64_t c = 0; c < in.channels;) {
      // As many channels as lie side by side on both sides.
      const std::int64_t room =
          std::min(in.lanes - c % in.lanes, out.lanes == 1 ? kMostLanes : out.lanes - c % out.lanes);
      const int lanes = room >= kMostLanes ? kMostLanes : room >= 16 ? 16 : room >= 8 ? 8 : 1;
      crop_of.from = from + in.at(static_cast<std::int64_t>(roi.image), c, 0, 0);
      crop_of.to = to + out.at(r, c, 0, 0);
      crop_of.live = static_cast<int>(std::min<std::int64_t>(lanes, in.channels - c));
      const Crop* const job = &crop_of;
      if (lanes == kMostLanes) vectorised<crop<T, 16, kMostLanes / 16>>(job);
      if (lanes == 16) vectorised<crop<T, 16, 1>>(job);
      if (lanes == 8) vectorised<crop<T, 8, 1>>(job);
      if (lanes == 1) vectorised<crop<T, 1, 1>>(job);
      c += lanes;
    }
  }

  RoiAlign op_;
  std::int64_t longest_y_ = 0, longest_x_ = 0;
  ScratchLayout layout_;
  std::uint64_t* order_ = nullptr;
  float* thread_memory_ = nullptr;
  std::int64_t thread_size_ = 0;  // floats
};

// As it is, or quantised before.
bool is_flattened(const Graph& graph, ValueId value) {
  for (const Node* user : graph.users(value))
    if (user->op.name() == "flatten" ||
        (user->op.name() == "quantize" && is_flattened(graph, user->outputs[0])))
      return true;
  return false;
}

// What is flattened next is written in C order at once.
CpuPort output_port(const Node& node, std::size_t, const Graph& graph) {
  return is_flattened(graph, node.outputs[0]) ? CpuPort::kPlain : CpuPort::kAny;
}

}  // namespace

CpuKernel roi_align_cpu() {
  return {.op = &kOpInfo<RoiAlign>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = output_port,
          .prepare = [](CpuPrepare& prepare) -> std::unique_ptr<CpuStep> {
            if (prepare.op<RoiAlign>().sampling == RoiSampling::kCorners) return roi_corners_step(prepare);
            return std::make_unique<RoiAlignStep>(prepare);
          }};
}

}  // namespace osprey

// A thread takes a panel of channels and rows of the result. For each row it makes the rows of the expanded
// map that the windows have come to, into a ring of as many as a window is high, and then sums windows up.
//
// Sums run over channels and taps in their order, each product fused into the sum before it; bias, factor and
// offset follow, each rounded on its own. Results depend on neither the number of threads nor that of images.
#include "cpu/expand_depthwise.h"

#if defined(__x86_64__)

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include <fmt/format.h>
#include <immintrin.h>

#include "cpu/scratch.h"
#include "cpu/vectors.h"
#include "ops/conv.h"

namespace osprey {
namespace {

constexpr int kLanes = 16;         // channels in a register
constexpr int kMostVectors = 3;    // registers across a panel
constexpr int kSums = 24;          // registers that hold sums; weights and a value take the others
constexpr int kWindows = 8;        // of a depthwise row, side by side
constexpr int kMostRepeated = 16;  // of that many rows one may be expanded by two threads

#define OSPREY_LANES [[gnu::always_inline, gnu::target("avx512f,avx512dq")]] inline
#define OSPREY_ROWS [[gnu::target("avx512f,avx512dq")]]

// v / (1 + e^-v) within three units of the last place; below -87 the divisor is that of -87. e^-v is 2^n 2^r
// with r between -1/2 and 1/2, where a polynomial is within 2e-9 of 2^r; the reciprocal of 14 bits gets its
// others by Newton's rule. A division takes longer than all of that.
OSPREY_LANES __m512 swish(__m512 v) {
  const __m512 held = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(-87.f)), _mm512_set1_ps(87.f));
  // -1 / ln(2) in two parts.
  const __m512 high = _mm512_set1_ps(-1.44269502f), low = _mm512_set1_ps(-1.92596299e-8f);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(held, high), _MM_FROUND_TO_NEAREST_INT);
  const __m512 r = _mm512_fmadd_ps(held, low, _mm512_fmsub_ps(held, high, n));
  constexpr std::array kSeries{0.0013398875f, 0.009618437f, 0.055503324f, 0.24022648f, 0.69314718f, 1.f};
  __m512 power = _mm512_set1_ps(0.00015353362f);
  for (const float c : kSeries) power = _mm512_fmadd_ps(power, r, _mm512_set1_ps(c));
  const __m512 divisor = _mm512_add_ps(_mm512_set1_ps(1.f), _mm512_scalef_ps(power, n));
  const __m512 guess = _mm512_rcp14_ps(divisor);
  const __m512 twice = _mm512_fnmadd_ps(divisor, guess, _mm512_set1_ps(2.f));
  return _mm512_mul_ps(v, _mm512_mul_ps(guess, twice));
}

// What follows a panel's sums.
struct Ending {
  const float *bias, *factor, *offset;
};

// NaN stays NaN.
template <Activation activation>
OSPREY_LANES __m512 finish(__m512 sum, const Ending& e, std::int64_t channel) {
  sum = _mm512_add_ps(sum, _mm512_loadu_ps(e.bias + channel));
  if (e.factor)
    sum = _mm512_add_ps(_mm512_mul_ps(sum, _mm512_loadu_ps(e.factor + channel)),
                        _mm512_loadu_ps(e.offset + channel));
  if constexpr (activation == Activation::kSwish) return swish(sum);
  if constexpr (activation == Activation::kRelu || activation == Activation::kRelu6)
    sum = _mm512_max_ps(_mm512_setzero_ps(), sum);
  if constexpr (activation == Activation::kRelu6) sum = _mm512_min_ps(_mm512_set1_ps(6.f), sum);
  return sum;
}

// A row of a panel of the expanded map.
struct ExpandedRow {
  const float* x;        // [width][inputs]
  const float* weights;  // [inputs][panel]
  Ending ending;
  float* y;  // [width][panel]
  std::int64_t width, inputs;
};

template <int count, int vectors, Activation activation>
OSPREY_LANES void expand_pixels(const ExpandedRow& row, std::int64_t at) {
  constexpr int panel = vectors * kLanes;
  const float* const x = row.x + at * row.inputs;
  __m512 sums[count][vectors];
  for (auto& pixel : sums)
    for (__m512& sum : pixel) sum = _mm512_setzero_ps();
  const float* weights = row.weights;
  for (std::int64_t k = 0; k < row.inputs; ++k, weights += panel)
    for (int i = 0; i < count; ++i) {
      const __m512 value = _mm512_set1_ps(x[i * row.inputs + k]);
      for (int v = 0; v < vectors; ++v)
        sums[i][v] = _mm512_fmadd_ps(value, _mm512_loadu_ps(weights + v * kLanes), sums[i][v]);
    }
  float* const y = row.y + at * panel;
  for (int v = 0; v < vectors; ++v)
    for (int i = 0; i < count; ++i)
      _mm512_storeu_ps(y + i * panel + v * kLanes, finish<activation>(sums[i][v], row.ending, v * kLanes));
}

// The last pixels of a row are done together with some before them that are done already.
template <int vectors, Activation activation>
OSPREY_ROWS void expand_row(const ExpandedRow& row) {
  constexpr int count = kSums / vectors, half = count / 2;
  std::int64_t at = 0;
  for (; at + half < row.width && row.width >= count; at += count)
    expand_pixels<count, vectors, activation>(row, std::min(at, row.width - count));
  for (; at < row.width && row.width >= half; at += half)
    expand_pixels<half, vectors, activation>(row, std::min(at, row.width - half));
  for (; at < row.width; ++at) expand_pixels<1, vectors, activation>(row, at);
}

// A row of a stem's windows, each as the inputs of a pixel.
struct GatheredRow {
  const float* image;  // [height][width][channels]
  float* y;            // [windows][kernel_height][kernel_width][channels]
  std::int64_t top, height, width, windows;
  std::int64_t channels, kernel_height, kernel_width, stride, left;
};

// A window's row fits a register.
OSPREY_ROWS void gather_row(const GatheredRow& row) {
  const std::int64_t run = row.kernel_width * row.channels;
  const auto first_of = [](std::int64_t count) { return (1u << count) - 1; };
  for (std::int64_t ky = 0; ky < row.kernel_height; ++ky) {
    const std::int64_t y = row.top + ky;
    const bool outside = y < 0 || y >= row.height;
    for (std::int64_t i = 0; i < row.windows; ++i) {
      const std::int64_t x = i * row.stride - row.left;
      const std::int64_t begin = std::clamp<std::int64_t>(-x, 0, row.kernel_width),
                         end = std::clamp<std::int64_t>(row.width - x, begin, row.kernel_width);
      const unsigned live = outside ? 0 : first_of(end * row.channels) & ~first_of(begin * row.channels);
      const __m512 values =
          _mm512_maskz_loadu_ps(static_cast<__mmask16>(live), row.image + (y * row.width + x) * row.channels);
      _mm512_mask_storeu_ps(row.y + (i * row.kernel_height + ky) * run, static_cast<__mmask16>(first_of(run)),
                            values);
    }
  }
}

// A row of a panel of the result.
struct SummedRow {
  std::array<const float*, 5>
      x;                 // a row of the expanded map for each row of the window: [pads and pixels][panel]
  const float* weights;  // [taps][panel]
  Ending ending;
  float* y;
  std::int64_t width, channels;  // of the result
};

template <int count, int vectors, int kernel, int stride, Activation activation>
OSPREY_LANES void sum_windows(const SummedRow& row, std::int64_t at, std::int64_t channel) {
  constexpr int panel = vectors * kLanes;
  __m512 sums[count];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  const float* weights = row.weights + channel;
  for (int ky = 0; ky < kernel; ++ky) {
    const float* const x = row.x[static_cast<std::size_t>(ky)] + at * stride * panel + channel;
    for (int kx = 0; kx < kernel; ++kx, weights += panel) {
      const __m512 weight = _mm512_loadu_ps(weights);
      for (int i = 0; i < count; ++i)
        sums[i] = _mm512_fmadd_ps(_mm512_loadu_ps(x + (i * stride + kx) * panel), weight, sums[i]);
    }
  }
  float* const y = row.y + at * row.channels + channel;
  for (int i = 0; i < count; ++i)
    _mm512_storeu_ps(y + i * row.channels, finish<activation>(sums[i], row.ending, channel));
}

template <int vectors, int kernel, int stride, Activation activation>
OSPREY_ROWS void sum_row(const SummedRow& row) {
  constexpr int half = kWindows / 2;
  for (std::int64_t channel = 0; channel < vectors * kLanes; channel += kLanes) {
    std::int64_t at = 0;
    for (; at + half < row.width && row.width >= kWindows; at += kWindows)
      sum_windows<kWindows, vectors, kernel, stride, activation>(row, std::min(at, row.width - kWindows),
                                                                 channel);
    for (; at < row.width && row.width >= half; at += half)
      sum_windows<half, vectors, kernel, stride, activation>(row, std::min(at, row.width - half), channel);
    for (; at < row.width; ++at) sum_windows<1, vectors, kernel, stride, activation>(row, at, channel);
  }
}

#undef OSPREY_LANES
#undef OSPREY_ROWS

using ExpandRow = void (*)(const ExpandedRow&);
using SumRow = void (*)(const SummedRow&);

// choose.template operator()<activation>() for one of those that known() names.
template <class Choose>
auto with_activation(Activation activation, const Choose& choose) {
  switch (activation) {
    case Activation::kRelu:
      return choose.template operator()<Activation::kRelu>();
    case Activation::kRelu6:
      return choose.template operator()<Activation::kRelu6>();
    case Activation::kSwish:
      return choose.template operator()<Activation::kSwish>();
    default:
      return choose.template operator()<Activation::kNone>();
  }
}
bool known(Activation activation) { return activation != Activation::kSigmoid; }

template <int vectors>
ExpandRow expand_row_of(Activation activation) {
  return with_activation(activation, []<Activation a>() -> ExpandRow { return expand_row<vectors, a>; });
}

template <int vectors>
SumRow sum_row_of(int kernel, int stride, Activation activation) {
  return with_activation(activation, [=]<Activation a>() -> SumRow {
    if (kernel == 3) return stride == 1 ? sum_row<vectors, 3, 1, a> : sum_row<vectors, 3, 2, a>;
    return stride == 1 ? sum_row<vectors, 5, 1, a> : sum_row<vectors, 5, 2, a>;
  });
}

// As many registers a panel as divide the channels.
int vectors_of(std::int64_t channels) {
  int out = kMostVectors;
  while (channels % (out * kLanes) != 0) --out;
  return out;
}

// Weights as [panel][depth][channel of the panel].
struct Layer {
  std::int64_t depth = 0;  // [kernel_height][kernel_width][inputs]
  std::vector<float> weights, bias, factor, offset;

  Layer(const CpuPrepare& p, std::int64_t panel) {
    const Tensor given = p.weight(1).to_f32();
    const std::int64_t channels = given.dim(0), inputs = given.dim(1), taps = given.dim(2) * given.dim(3);
    depth = inputs * taps;
    weights.resize(static_cast<std::size_t>(given.size()));
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t k = 0; k < depth; ++k)
        weights[static_cast<std::size_t>((c / panel * depth + k) * panel + c % panel)] =
            given.values<float>()[static_cast<std::size_t>(c * depth + k % inputs * taps + k / inputs)];
    bias = p.has_input(2) ? values(p, 2) : std::vector<float>(static_cast<std::size_t>(channels));
    if (p.has_input(4)) factor = values(p, 4), offset = values(p, 5);
  }

  const float* panel_weights(std::int64_t first_channel) const {
    return weights.data() + first_channel * depth;
  }
  Ending ending(std::int64_t first_channel) const {
    if (factor.empty()) return {bias.data() + first_channel, nullptr, nullptr};
    return {bias.data() + first_channel, factor.data() + first_channel, offset.data() + first_channel};
  }

 private:
  static std::vector<float> values(const CpuPrepare& p, std::size_t input) {
    const Tensor t = p.weight(input).to_f32();
    return {t.values<float>().begin(), t.values<float>().end()};
  }
};

std::shared_ptr<const Layer> layer_of(const CpuPrepare& p, std::int64_t panel) {
  std::string key = fmt::format("expand_depthwise:{}", panel);
  for (std::size_t i = 1; i < p.node().inputs.size(); ++i) key += fmt::format(":{}", p.node().inputs[i]);
  return std::static_pointer_cast<const Layer>(
      p.shared(key, [&] { return std::make_shared<const Layer>(p, panel); }));
}

class ExpandDepthwiseStep final : public CpuStep {
 public:
  ExpandDepthwiseStep(CpuPrepare& expand, CpuPrepare& depthwise) : op_(depthwise.op<Conv>()) {
    const Shape &x = expand.input(0).dims, &map = depthwise.input(0).dims, &y = depthwise.output(0).dims;
    channels_ = y[1], in_height_ = x[2], in_width_ = x[3];
    height_ = map[2], width_ = map[3], out_height_ = y[2], out_width_ = y[3];
    gather_ = gathering(expand);
    kernel_ = depthwise.input_type(1).dims[2].constant();
    pads_ = op_.window(kernel_, kernel_).pads_of(height_, width_);
    row_pixels_ = std::max(pads_[1] + width_, (out_width_ - 1) * op_.stride[1] + kernel_);
    choose_rows(expand.op<Conv>().activation);
    expand_ = layer_of(expand, panel_);
    inputs_ = expand_->depth;
    depthwise_ = layer_of(depthwise, panel_);
    depthwise.request_scratch(static_cast<std::size_t>(depthwise.threads()) * Ring(*this, nullptr).bytes);
    flops_ = 2.0 * static_cast<double>(x[0] * channels_) *
             (static_cast<double>(inputs_ * height_ * width_) +
              static_cast<double>(kernel_ * kernel_ * out_height_ * out_width_));
  }

  // A thread takes the same rows of all panels, as oneDNN's convolutions do, so that it reads what it has
  // written; or where too many rows would be expanded by two threads, panels.
  void run(CpuRun& run) override {
    const std::int64_t images = run.in(0).dims[0], panels = channels_ / panel_, threads = run.threads();
    const bool by_rows = (threads - 1) * (kernel_ - op_.stride[0]) * kMostRepeated <= images * height_;
    const std::int64_t rows = images * out_height_ * (by_rows ? 1 : panels);
    const std::int64_t pieces = std::min(threads, rows);
    cpu_for(pieces, run.threads(), [&](std::int64_t i) {
      const std::size_t bytes = Ring(*this, nullptr).bytes;
      const Ring ring(*this, run.scratch().data() + static_cast<std::size_t>(i) * bytes);
      const std::int64_t end = (i + 1) * rows / pieces;
      for (std::int64_t begin = i * rows / pieces; begin < end;) {
        const std::int64_t map = begin / out_height_, first = begin % out_height_;
        const std::int64_t last = std::min(out_height_, first + end - begin);
        if (by_rows) {
          for (std::int64_t panel = 0; panel < panels; ++panel) do_rows(run, ring, map, panel, first, last);
        } else {
          do_rows(run, ring, map / panels, map % panels, first, last);
        }
        begin += last - first;
      }
    });
  }
  std::string detail() const override { return "expand_depthwise:avx512"; }
  double flops() const override { return flops_; }

 private:
  // Rows of a panel of the expanded map, with pads left and right; row i lies at i modulo the window's
  // height.
  struct Ring {
    Ring(const ExpandDepthwiseStep& step, std::byte* memory) {
      ScratchLayout layout(memory);
      const std::int64_t row = step.row_pixels_ * step.panel_;
      for (std::int64_t i = 0; i < step.kernel_; ++i)
        rows[static_cast<std::size_t>(i)] = layout.take<float>(row);
      zeros = layout.take<float>(row);
      gathered = layout.take<float>(step.is_stem() ? step.width_ * step.inputs_ : 0);
      bytes = layout.size();
      if (!memory) return;
      std::fill_n(zeros, row, 0.f);
      for (std::int64_t i = 0; i < step.kernel_; ++i) {
        float* const at = rows[static_cast<std::size_t>(i)];
        const std::int64_t left = step.pads_[1] * step.panel_, right = left + step.width_ * step.panel_;
        std::fill(at, at + left, 0.f);
        std::fill(at + right, at + row, 0.f);
      }
    }
    std::array<float*, 5> rows{};
    float* zeros;     // a row outside the map
    float* gathered;  // a row of a stem's windows
    std::size_t bytes;
  };

  void choose_rows(Activation expanded) {
    const auto choose = [&]<int vectors>() {
      panel_ = vectors * kLanes;
      expand_row_ = expand_row_of<vectors>(expanded);
      sum_row_ = sum_row_of<vectors>(static_cast<int>(kernel_), op_.stride[0], op_.activation);
    };
    switch (vectors_of(channels_)) {
      case 1:
        return choose.template operator()<1>();
      case 2:
        return choose.template operator()<2>();
      default:
        return choose.template operator()<kMostVectors>();
    }
  }

  bool is_stem() const { return gather_.kernel_height > 1; }

  // Of a row of the expanded map.
  const float* inputs_of(const float* image, std::int64_t row, const Ring& ring) const {
    if (!is_stem()) return image + row * width_ * inputs_;
    GatheredRow of = gather_;
    of.image = image, of.y = ring.gathered;
    of.top += row * of.stride;
    gather_row(of);
    return ring.gathered;
  }

  // The first row of windows in `expand`.
  static GatheredRow gathering(const CpuPrepare& expand) {
    const Conv& op = expand.op<Conv>();
    const Shape& x = expand.input(0).dims;
    const auto& weight = expand.input_type(1).dims;
    const std::int64_t height = weight[2].constant(), width = weight[3].constant();
    const auto pads = op.window(height, width).pads_of(x[2], x[3]);
    return {.image = nullptr,
            .y = nullptr,
            .top = -pads[0],
            .height = x[2],
            .width = x[3],
            .windows = expand.output(0).dims[3],
            .channels = x[1],
            .kernel_height = height,
            .kernel_width = width,
            .stride = op.stride[0],
            .left = pads[1]};
  }

  // Rows [first, last) of a panel of an image.
  void do_rows(CpuRun& run, const Ring& ring, std::int64_t image, std::int64_t panel, std::int64_t first,
               std::int64_t last) const {
    const std::int64_t channel = panel * panel_;
    const auto* const x =
        reinterpret_cast<const float*>(run.in(0).data) + image * in_height_ * in_width_ * run.in(0).dims[1];
    auto* const y =
        reinterpret_cast<float*>(run.out(0).data) + image * out_height_ * out_width_ * channels_ + channel;
    const auto slot = [&](std::int64_t row) { return ring.rows[static_cast<std::size_t>(row % kernel_)]; };
    SummedRow sums{.x = {},
                   .weights = depthwise_->panel_weights(channel),
                   .ending = depthwise_->ending(channel),
                   .y = nullptr,
                   .width = out_width_,
                   .channels = channels_};
    std::int64_t made = std::max<std::int64_t>(0, first * op_.stride[0] - pads_[0]);
    for (std::int64_t row = first; row < last; ++row) {
      const std::int64_t top = row * op_.stride[0] - pads_[0];
      for (; made < std::min(top + kernel_, height_); ++made)
        expand_row_({.x = inputs_of(x, made, ring),
                     .weights = expand_->panel_weights(channel),
                     .ending = expand_->ending(channel),
                     .y = slot(made) + pads_[1] * panel_,
                     .width = width_,
                     .inputs = inputs_});
      for (std::int64_t i = 0; i < kernel_; ++i)
        sums.x[static_cast<std::size_t>(i)] = top + i < 0 || top + i >= height_ ? ring.zeros : slot(top + i);
      sums.y = y + row * out_width_ * channels_;
      sum_row_(sums);
    }
  }

  const Conv& op_;
  std::int64_t inputs_ = 0, channels_ = 0, panel_ = 0, kernel_ = 0;
  std::int64_t in_height_ = 0, in_width_ = 0;  // of x
  std::int64_t height_ = 0, width_ = 0;        // of the map between
  std::int64_t out_height_ = 0, out_width_ = 0;
  std::int64_t row_pixels_ = 0;  // with pads
  std::array<int, 4> pads_{};
  GatheredRow gather_{};
  ExpandRow expand_row_ = nullptr;
  SumRow sum_row_ = nullptr;
  std::shared_ptr<const Layer> expand_, depthwise_;
  double flops_ = 0;
};

bool channels_last(const CpuValue& v) { return v.dtype == DType::kF32 && v.layout.block == 0; }

bool unpadded(const std::array<int, 4>& pads) {
  return std::all_of(pads.begin(), pads.end(), [](int pad) { return pad == 0; });
}

// A 1x1 convolution, or a stem whose windows are gathered.
bool expands(const CpuPrepare& p) {
  const Conv& op = p.op<Conv>();
  const auto& weight = p.input_type(1).dims;
  const CpuValue& x = p.input(0);
  const std::int64_t height = weight[2].constant(), width = weight[3].constant();
  if (op.groups != 1 || !p.input_type(0).dims[0].is_exact()) return false;
  if (height == 1 && width == 1)
    return op.stride == std::vector{1, 1} && unpadded(op.window(1, 1).pads_of(x.dims[2], x.dims[3]));
  return height > 1 && width * x.dims[1] <= kLanes && op.stride[0] == op.stride[1] &&
         op.dilation == std::vector{1, 1};
}

bool is_depthwise(const CpuPrepare& p) {
  const Conv& op = p.op<Conv>();
  const auto& weight = p.input_type(1).dims;
  const std::int64_t kernel = weight[2].constant(), channels = p.input(0).dims[1];
  return op.groups == channels && p.output(0).dims[1] == channels && channels % kLanes == 0 &&
         (kernel == 3 || kernel == 5) && weight[3].constant() == kernel && op.dilation == std::vector{1, 1} &&
         (op.stride == std::vector{1, 1} || op.stride == std::vector{2, 2});
}

// Measured on two Xeon cores with 2 MB of L2 each, in ms:
//                                              oneDNN's two   this
//   swish (EfficientDet-D0)
//     16 -> 96 channels, 256 x 256                     3.54   2.23
//     192 -> 1152, 16 x 16                             0.63   0.59
//     64 -> 64, 64 x 64 (heads)                        0.20   0.21
//   ReLU6 (SSD MobileNet 320)
//     16 -> 96, 160 x 160                              0.61   0.51
//     24 -> 144, 80 x 80                               0.32   0.30
//     96 -> 576, 20 x 20                               0.21   0.24
//     128 -> 128, 40 x 40                              0.18   0.25
// oneDNN's products are faster, so there must be swishes or a map that no cache holds. The rule does not look
// at the number of images, for their results shall not depend on it.
bool pays(const CpuPrepare& expand) {
  constexpr std::int64_t kLeastMap = (2 << 20) / sizeof(float);
  const Shape &x = expand.input(0).dims, &map = expand.output(0).dims;
  const bool swish_of_more = expand.op<Conv>().activation == Activation::kSwish && map[1] > x[1];
  return swish_of_more || map[1] * map[2] * map[3] >= kLeastMap;
}

}  // namespace

bool expands_depthwise(const CpuPrepare& expand, const CpuPrepare& depthwise) {
  if (vector_set() != VectorSet::kAvx512 || !expands(expand) || !is_depthwise(depthwise)) return false;
  if (!pays(expand)) return false;
  return channels_last(expand.input(0)) && channels_last(depthwise.input(0)) &&
         channels_last(depthwise.output(0)) && !expand.has_input(3) && !depthwise.has_input(3) &&
         known(expand.op<Conv>().activation) && known(depthwise.op<Conv>().activation);
}

std::unique_ptr<CpuStep> expand_depthwise_step(CpuPrepare& expand, CpuPrepare& depthwise) {
  return std::make_unique<ExpandDepthwiseStep>(expand, depthwise);
}

}  // namespace osprey

#else

namespace osprey {

bool expands_depthwise(const CpuPrepare&, const CpuPrepare&) { return false; }
std::unique_ptr<CpuStep> expand_depthwise_step(CpuPrepare&, CpuPrepare&) { return nullptr; }

}  // namespace osprey

#endif

// The samples of a box cross at rows and columns, each found once; channels lie side by side in vectors.
// Boxes run in parallel.
#include "cpu/roi_corners.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "cpu/boxes.h"
#include "cpu/vectors.h"
#include "ops/roi_align.h"

namespace osprey {
namespace {

constexpr std::int64_t kLanes = 64;  // channels taken together

// A row or column of samples: between which pixels of the map it lies, and how far from the lower. Pixels
// outside the map count as `lower_weight` and `upper_weight` say, 0 or 1.
struct Tap {
  std::int64_t lower = 0, upper = 0;
  float above = 0;
  float lower_weight = 0, upper_weight = 0;
};

// In TensorFlow's order of operations: low and high in fractions of the network's input.
float sample_at(float low, float high, std::int64_t size, int i, int count) {
  const auto last = static_cast<float>(size - 1);
  if (count == 1) return 0.5f * (low + high) * last;
  const float step = (high - low) * last / static_cast<float>(count - 1);
  return low * last + static_cast<float>(i) * step;
}

Tap tap_of(float at, std::int64_t size, bool neighbours) {
  const auto last = static_cast<float>(size - 1);
  const float margin = neighbours ? 1 : 0;
  if (!(at >= -margin && at <= last + margin)) return {};
  const float whole = std::floor(at);
  const auto lower = static_cast<std::int64_t>(whole), upper = static_cast<std::int64_t>(std::ceil(at));
  const auto inside = [size](std::int64_t pixel) { return pixel >= 0 && pixel < size ? 1.0f : 0.0f; };
  return {std::clamp(lower, std::int64_t{0}, size - 1), std::clamp(upper, std::int64_t{0}, size - 1),
          at - whole, inside(lower), inside(upper)};
}

// One sample of `count` channels; the greatest so far stays.
template <class T>
struct Sample {
  const T *top_left, *top_right, *bottom_left, *bottom_right;
  Tap y, x;
  std::int64_t count;
  float* greatest;
  bool is_first;
};

template <class T>
[[gnu::always_inline]] inline void take(const Sample<T>* s) {
  const float north = s->y.lower_weight, south = s->y.upper_weight, west = s->x.lower_weight,
              east = s->x.upper_weight, right = s->x.above, down = s->y.above;
  float* const greatest = s->greatest;
  const float least = s->is_first ? -std::numeric_limits<float>::infinity() : 0;
  for (std::int64_t i = 0; i < s->count; ++i) {
    const float top_left = load_float(s->top_left[i]) * (north * west);
    const float top_right = load_float(s->top_right[i]) * (north * east);
    const float bottom_left = load_float(s->bottom_left[i]) * (south * west);
    const float bottom_right = load_float(s->bottom_right[i]) * (south * east);
    const float top = top_left + (top_right - top_left) * right;
    const float bottom = bottom_left + (bottom_right - bottom_left) * right;
    const float v = top + (bottom - top) * down;
    const float before = s->is_first ? least : greatest[i];
    greatest[i] = before > v ? before : v;
  }
}

class RoiCornersStep final : public CpuStep {
 public:
  explicit RoiCornersStep(CpuPrepare& prepare) : op_(prepare.op<RoiAlign>()) {
    taps_.resize(static_cast<std::size_t>(prepare.input(1).dims[0] * 2 * op_.out));
  }

  void run(CpuRun& run) override {
    cpu_for(run.in(1).dims[0], run.threads(), [&](std::int64_t r) {
      if (run.out(0).dtype == DType::kF32) {
        crop<float>(run, r);
      } else {
        crop<BFloat16>(run, r);
      }
    });
  }

 private:
  template <class T>
  void crop(CpuRun& run, std::int64_t r) {
    const Roi& roi = rows_of<Roi>(run.in(1))[r];
    const CpuPlanes in(run.in(0)), out(run.out(0));
    const auto image = static_cast<std::int64_t>(roi.image);
    Tap* const ys = taps_.data() + r * 2 * op_.out;
    Tap* const xs = ys + op_.out;
    find_taps(run, roi, in, ys, xs);
    const T* const from = rows_of<T>(run.in(0));
    T* const to = mutable_rows_of<T>(run.out(0));
    if (out.lanes * out.per_image > out.channels) {  // padded channels stay zero
      const std::int64_t row = out.per_image * out.plane_size();
      std::fill_n(to + r * row, row, T{});
    }
    std::array<float, kLanes> greatest;
    for (int by = 0; by < op_.side(); ++by)
      for (int bx = 0; bx < op_.side(); ++bx)
        for (std::int64_t c = 0; c < in.channels;) {
          const std::int64_t count = std::min({in.lanes - c % in.lanes, in.channels - c, kLanes});
          for (int p = 0; p < op_.pool * op_.pool; ++p) {
            const Tap &y = ys[by * op_.pool + p / op_.pool], &x = xs[bx * op_.pool + p % op_.pool];
            const Sample<T> sample{from + in.at(image, c, y.lower, x.lower),
                                   from + in.at(image, c, y.lower, x.upper),
                                   from + in.at(image, c, y.upper, x.lower),
                                   from + in.at(image, c, y.upper, x.upper),
                                   y,
                                   x,
                                   count,
                                   greatest.data(),
                                   p == 0};
            vectorised<take<T>>(&sample);
          }
          for (std::int64_t i = 0; i < count; ++i)
            to[out.at(r, c + i, by, bx)] = store_float<T>(greatest[static_cast<std::size_t>(i)]);
          c += count;
        }
  }

  void find_taps(CpuRun& run, const Roi& roi, const CpuPlanes& in, Tap* ys, Tap* xs) const {
    const Box& b = roi.box;
    auto height = static_cast<float>(op_.canvas_height), width = static_cast<float>(op_.canvas_width);
    if (op_.canvas_height == 0) {
      const Geometry& g = rows_of<Geometry>(run.in(2))[static_cast<std::int64_t>(roi.image)];
      height = g.clip_height, width = g.clip_width;
    }
    // Fractions are products with the reciprocal, as in box_list_ops.to_normalized_coordinates.
    const float y = 1 / height, x = 1 / width;
    for (int i = 0; i < op_.out; ++i) {
      ys[i] = tap_of(sample_at(b.y0 * y, b.y1 * y, in.height, i, op_.out), in.height, op_.neighbours);
      xs[i] = tap_of(sample_at(b.x0 * x, b.x1 * x, in.width, i, op_.out), in.width, op_.neighbours);
    }
  }

  RoiAlign op_;
  std::vector<Tap> taps_;  // of each box: its rows, then its columns
};

}  // namespace

std::unique_ptr<CpuStep> roi_corners_step(CpuPrepare& prepare) {
  return std::make_unique<RoiCornersStep>(prepare);
}

}  // namespace osprey

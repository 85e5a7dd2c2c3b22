// The enlarged map is never stored: it is made a strip of columns at a time, first along the rows (as torch's
// bicubic does), then a row of the strip at a time, of which only the maximum is kept.
#include "ops/decode_keypoints.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <omp.h>

#include "cpu/boxes.h"
#include "cpu/scratch.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr int kStrip = 128;        // columns
constexpr float kLongest = 32768;  // pixels of an enlarged side; beyond it boxes are cut

// Four neighbours on one axis and their weights.
struct Taps {
  std::array<std::int32_t, 4> index;
  std::array<float, 4> weight;
};

// torch's cubic convolution with a = -0.75, indices held at the border.
Taps taps_of(std::int32_t at, float scale, std::int64_t size) {
  constexpr float kA = -0.75f;
  const float real = scale * (static_cast<float>(at) + 0.5f) - 0.5f, base = std::floor(real), t = real - base;
  const auto near = [](float x) { return ((kA + 2) * x - (kA + 3)) * x * x + 1; };
  const auto far = [](float x) { return ((kA * x - 5 * kA) * x + 8 * kA) * x - 4 * kA; };
  Taps out{.index = {}, .weight = {far(t + 1), near(t), near(1 - t), far(2 - t)}};
  for (int k = 0; k < 4; ++k)
    out.index[static_cast<std::size_t>(k)] =
        std::clamp(static_cast<std::int32_t>(base) - 1 + k, 0, static_cast<std::int32_t>(size) - 1);
  return out;
}

// The side of a box and what it is enlarged to. Boxes that are not finite count as one pixel.
struct Side {
  float length;
  std::int32_t pixels;

  explicit Side(float extent)
      : length(extent > 1 ? std::min(extent, kLongest) : 1),
        pixels(static_cast<std::int32_t>(std::ceil(length))) {}
};

struct Peak {
  float value;
  std::int32_t x, y;
};

[[gnu::always_inline]] inline float widest_of_row(const float* const* rows, const float* weights, int count,
                                                  float* out) {
  const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  const float wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
  Floats<16> most;
  for (int v = 0; v < 16; ++v) most[v] = -INFINITY;
  for (int x = 0; x < count; x += 16) {
    const auto load = [&](const float* from) { return reinterpret_cast<const Floats<16>*>(from + x); };
    const Floats<16> sum = *load(a) * wa + *load(b) * wb + *load(c) * wc + *load(d) * wd;
    *reinterpret_cast<Floats<16>*>(out + x) = sum;
    most = sum > most ? sum : most;
  }
  float result = most[0];
  for (int v = 1; v < 16; ++v) result = most[v] > result ? most[v] : result;
  return result;
}

// The first maximum, in row-major order, of `map` enlarged to the box. `memory` holds (size + 1) * kStrip.
Peak find_peak(const float* map, std::int64_t size, Side w, Side h, float* memory) {
  const float scale_x = static_cast<float>(size) / static_cast<float>(w.pixels);
  const float scale_y = static_cast<float>(size) / static_cast<float>(h.pixels);
  float* const row = memory + size * kStrip;
  Peak best{-INFINITY, 0, 0};
  for (std::int32_t left = 0; left < w.pixels; left += kStrip) {
    const int columns = std::min(kStrip, w.pixels - left), padded = (columns + 15) / 16 * 16;
    for (int x = 0; x < padded; ++x) {
      const Taps taps =
          taps_of(left + std::min(x, columns - 1), scale_x, size);  // the padding repeats the last
      for (std::int64_t y = 0; y < size; ++y) {
        const float* from = map + y * size;
        memory[y * kStrip + x] = from[taps.index[0]] * taps.weight[0] + from[taps.index[1]] * taps.weight[1] +
                                 from[taps.index[2]] * taps.weight[2] + from[taps.index[3]] * taps.weight[3];
      }
    }
    for (std::int32_t y = 0; y < h.pixels; ++y) {
      const Taps taps = taps_of(y, scale_y, size);
      std::array<const float*, 4> rows;
      for (std::size_t k = 0; k < 4; ++k) rows[k] = memory + taps.index[k] * kStrip;
      const float most = vectorised<widest_of_row>(rows.data(), taps.weight.data(), padded, row);
      // A strip further right wins a tie only with a row further up.
      if (!(most > best.value || (most == best.value && y < best.y))) continue;
      best = {most, left + static_cast<std::int32_t>(std::find(row, row + columns, most) - row), y};
    }
  }
  return best;
}

void decode(const float* map, std::int64_t size, const Box& box, float* memory, float* out) {
  const Side w(box.width()), h(box.height());
  const Peak peak = find_peak(map, size, w, h, memory);
  float sum = 0;
  for (std::int64_t i = 0; i < size * size; ++i) sum += std::exp(map[i] - peak.value);
  out[0] = (static_cast<float>(peak.x) + 0.5f) * (w.length / static_cast<float>(w.pixels)) + box.x0;
  out[1] = (static_cast<float>(peak.y) + 0.5f) * (h.length / static_cast<float>(h.pixels)) + box.y0;
  out[2] = peak.value;
  out[3] = 1.0f / sum;
}

std::int64_t floats_a_thread(std::int64_t size) { return (size + 1) * kStrip; }

void decode_keypoints(CpuRun& run) {
  const auto maps = run.input<float, 4>(0);
  const Roi* rois = rows_of<Roi>(run.in(1));
  const std::int64_t keypoints = maps.dim(1), size = maps.dim(2);
  auto* const memory = reinterpret_cast<float*>(run.scratch().data());
  auto* const out = mutable_rows_of<float>(run.out(0));
  cpu_for(maps.dim(0) * keypoints, run.threads(), [&](std::int64_t i) {
    decode(maps.data + i * size * size, size, rois[i / keypoints].box,
           memory + omp_get_thread_num() * floats_a_thread(size), out + 4 * i);
  });
  run.set_rows(0, maps.dim(0));
}

}  // namespace

CpuKernel decode_keypoints_cpu() {
  return {.op = &kOpInfo<DecodeKeypoints>, .dtypes = {DType::kF32}, .prepare = [](CpuPrepare& prepare) {
            const auto floats = prepare.threads() * floats_a_thread(prepare.input(0).dims[2]);
            prepare.request_scratch(static_cast<std::size_t>(floats) * sizeof(float));
            return cpu_step(decode_keypoints);
          }};
}

}  // namespace osprey

// Of 8-bit pixels a table of the 256 results of each channel: exact, and faster than the arithmetic.
#include "ops/normalize_image.h"

#include <algorithm>
#include <array>

#include "backends/network_size.h"
#include "cpu/boxes.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

constexpr std::int64_t kRows = 16;  // rows a task

template <class T>
struct Tables {
  std::array<std::array<T, 256>, 3> value;
  std::array<T, 3> border{};  // right of and below the photo

  explicit Tables(const NormalizeImage& op) {
    for (std::size_t c = 0; c < 3; ++c) {
      const auto normalized = [&](float v) {
        return store_float<T>((v * op.scale - op.mean[c]) / op.std[c]);
      };
      for (std::size_t v = 0; v < 256; ++v) value[c][v] = normalized(static_cast<float>(v));
      if (op.canvas_height > 0) border[c] = normalized(op.fill[c]);
    }
  }
};

template <class T>
void normalize_row(const Tables<T>& tables, const std::uint8_t* from, std::int64_t width, std::int64_t padded,
                   T* const* to) {
  T *a = to[0], *b = to[1], *c = to[2];
  for (std::int64_t x = 0; x < width; ++x) {
    a[x] = tables.value[0][from[3 * x]];
    b[x] = tables.value[1][from[3 * x + 1]];
    c[x] = tables.value[2][from[3 * x + 2]];
  }
  for (std::size_t k = 0; k < 3; ++k) std::fill(to[k] + width, to[k] + padded, tables.border[k]);
}

template <class T>
void normalize(const NormalizeImage& op, const Tables<T>& tables, CpuRun& run) {
  const CpuValue &in = run.in(0), &out = run.out(0);
  const auto* const geometry = rows_of<Geometry>(run.in(1));
  const auto* const pixels = rows_of<std::uint8_t>(in);
  auto* const floats = mutable_rows_of<T>(out);
  const std::int64_t height = out.dims[2], width = out.dims[3], chunks = (height + kRows - 1) / kRows;
  cpu_for(out.dims[0] * chunks, run.threads(), [&](std::int64_t task) {
    const std::int64_t n = task / chunks, begin = task % chunks * kRows;
    const Geometry& g = geometry[n];
    ImageSize photo{static_cast<int>(g.clip_width), static_cast<int>(g.clip_height)};
    if (op.canvas_height > 0 && !op.stretched)
      photo = size_on_canvas(static_cast<int>(g.width), static_cast<int>(g.height), op.canvas_width,
                             op.canvas_height);
    for (std::int64_t y = begin; y < std::min(begin + kRows, height); ++y) {
      T* const channel = floats + n * 3 * height * width + y * width;
      T* const to[] = {channel, channel + height * width, channel + 2 * height * width};
      normalize_row(tables, pixels + (n * in.dims[1] + y) * in.dims[2] * 3,
                    y < photo.height ? photo.width : 0, width, to);
    }
  });
}

// What becomes of f32 pixels; without mean and std only `scale` applies.
struct Arithmetic {
  float scale;
  std::array<float, 3> mean{0, 0, 0}, std{1, 1, 1};

  explicit Arithmetic(const NormalizeImage& op) : scale(op.scale) {
    if (op.mean.empty()) return;
    std::copy_n(op.mean.begin(), 3, mean.begin());
    std::copy_n(op.std.begin(), 3, std.begin());
  }
};

template <class T>
[[gnu::always_inline]] inline void split_row(const Arithmetic* op, const float* from, std::int64_t width,
                                             T* const* to) {
  T *a = to[0], *b = to[1], *c = to[2];
  const float scale = op->scale;
  const std::array<float, 3> mean = op->mean, std = op->std;
  for (std::int64_t x = 0; x < width; ++x) {
    a[x] = store_float<T>((from[3 * x] * scale - mean[0]) / std[0]);
    b[x] = store_float<T>((from[3 * x + 1] * scale - mean[1]) / std[1]);
    c[x] = store_float<T>((from[3 * x + 2] * scale - mean[2]) / std[2]);
  }
}

template <class T>
void normalize_floats(const Arithmetic& op, CpuRun& run) {
  const CpuValue &in = run.in(0), &out = run.out(0);
  const auto* const pixels = rows_of<float>(in);
  auto* const floats = mutable_rows_of<T>(out);
  const std::int64_t height = out.dims[2], width = out.dims[3], chunks = (height + kRows - 1) / kRows;
  const std::int64_t from_height = std::min(in.dims[1], height), from_width = std::min(in.dims[2], width);
  cpu_for(out.dims[0] * chunks, run.threads(), [&](std::int64_t task) {
    const std::int64_t n = task / chunks, begin = task % chunks * kRows;
    for (std::int64_t y = begin; y < std::min(begin + kRows, height); ++y) {
      T* const channel = floats + n * 3 * height * width + y * width;
      T* const to[] = {channel, channel + height * width, channel + 2 * height * width};
      const std::int64_t live = y < from_height ? from_width : 0;
      if (live > 0)
        vectorised<split_row<T>>(&op, pixels + (n * in.dims[1] + y) * in.dims[2] * 3, live, &to[0]);
      for (T* const row : to) std::fill(row + live, row + width, T{});
    }
  });
}

template <class T>
std::unique_ptr<CpuStep> normalizing_step(const NormalizeImage& op, DType pixels) {
  if (pixels == DType::kU8)
    return cpu_step([op, tables = Tables<T>(op)](CpuRun& run) { normalize(op, tables, run); });
  return cpu_step([arithmetic = Arithmetic(op)](CpuRun& run) { normalize_floats<T>(arithmetic, run); });
}

}  // namespace

CpuKernel normalize_image_cpu() {
  return {.op = &kOpInfo<NormalizeImage>,
          .dtypes = {DType::kU8, DType::kF32},
          .prepare = [](CpuPrepare& prepare) {
            const auto& op = prepare.op<NormalizeImage>();
            require(op.to != FloatType::kF16, "{}: the CPU does not compute in f16", prepare.node().name);
            std::unique_ptr<CpuStep> step;
            with_float(prepare.output(0).dtype,
                       [&]<class T>() { step = normalizing_step<T>(op, prepare.input(0).dtype); });
            return step;
          }};
}

}  // namespace osprey

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

// A row of the result: where each channel begins, and how far its pixels are apart, in C order 1 and channels
// last 3.
template <class T>
struct Target {
  std::array<T*, 3> channels;

  Target(const CpuValue& out, std::int64_t image, std::int64_t y) {
    const std::int64_t height = out.dims[2], width = out.dims[3];
    T* const first = mutable_rows_of<T>(out) + image * 3 * height * width;
    for (std::int64_t c = 0; c < 3; ++c)
      channels[static_cast<std::size_t>(c)] =
          out.layout.block == 0 ? first + y * width * 3 + c : first + (c * height + y) * width;
  }
};

template <int step, class T>
void normalize_row(const Tables<T>& tables, const std::uint8_t* from, std::int64_t width, std::int64_t padded,
                   const Target<T>& to) {
  T *a = to.channels[0], *b = to.channels[1], *c = to.channels[2];
  for (std::int64_t x = 0; x < width; ++x) {
    a[step * x] = tables.value[0][from[3 * x]];
    b[step * x] = tables.value[1][from[3 * x + 1]];
    c[step * x] = tables.value[2][from[3 * x + 2]];
  }
  for (std::int64_t x = width; x < padded; ++x)
    for (std::size_t k = 0; k < 3; ++k) to.channels[k][step * x] = tables.border[k];
}

template <class T>
void normalize(const NormalizeImage& op, const Tables<T>& tables, CpuRun& run) {
  const CpuValue &in = run.in(0), &out = run.out(0);
  const auto* const geometry = rows_of<Geometry>(run.in(1));
  const auto* const pixels = rows_of<std::uint8_t>(in);
  const std::int64_t height = out.dims[2], width = out.dims[3], chunks = (height + kRows - 1) / kRows;
  const auto row = out.layout.block == 0 ? normalize_row<3, T> : normalize_row<1, T>;
  cpu_for(out.dims[0] * chunks, run.threads(), [&](std::int64_t task) {
    const std::int64_t n = task / chunks, begin = task % chunks * kRows;
    const Geometry& g = geometry[n];
    ImageSize photo{static_cast<int>(g.clip_width), static_cast<int>(g.clip_height)};
    if (op.canvas_height > 0 && !op.stretched)
      photo = size_on_canvas(static_cast<int>(g.width), static_cast<int>(g.height), op.canvas_width,
                             op.canvas_height);
    for (std::int64_t y = begin; y < std::min(begin + kRows, height); ++y)
      row(tables, pixels + (n * in.dims[1] + y) * in.dims[2] * 3, y < photo.height ? photo.width : 0, width,
          Target<T>(out, n, y));
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

template <int step, class T>
[[gnu::always_inline]] inline void split_row(const Arithmetic* op, const float* from, std::int64_t width,
                                             const Target<T>* to) {
  T *a = to->channels[0], *b = to->channels[1], *c = to->channels[2];
  const float scale = op->scale;
  const std::array<float, 3> mean = op->mean, std = op->std;
  for (std::int64_t x = 0; x < width; ++x) {
    a[step * x] = store_float<T>((from[3 * x] * scale - mean[0]) / std[0]);
    b[step * x] = store_float<T>((from[3 * x + 1] * scale - mean[1]) / std[1]);
    c[step * x] = store_float<T>((from[3 * x + 2] * scale - mean[2]) / std[2]);
  }
}

template <class T>
void normalize_floats(const Arithmetic& op, CpuRun& run) {
  const CpuValue &in = run.in(0), &out = run.out(0);
  const auto* const pixels = rows_of<float>(in);
  const std::int64_t height = out.dims[2], width = out.dims[3], chunks = (height + kRows - 1) / kRows;
  const std::int64_t from_height = std::min(in.dims[1], height), from_width = std::min(in.dims[2], width);
  cpu_for(out.dims[0] * chunks, run.threads(), [&](std::int64_t task) {
    const std::int64_t n = task / chunks, begin = task % chunks * kRows;
    for (std::int64_t y = begin; y < std::min(begin + kRows, height); ++y) {
      const Target<T> target(out, n, y);
      const Target<T>* const to = &target;
      const float* const from = pixels + (n * in.dims[1] + y) * in.dims[2] * 3;
      const std::int64_t live = y < from_height ? from_width : 0, step = out.layout.block == 0 ? 3 : 1;
      if (live > 0 && step == 1) vectorised<split_row<1, T>>(&op, from, live, to);
      if (live > 0 && step == 3) vectorised<split_row<3, T>>(&op, from, live, to);
      for (T* const row : target.channels)
        for (std::int64_t x = live; x < width; ++x) row[step * x] = T{};
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
          .output = blocked_port,
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

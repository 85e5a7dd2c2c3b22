// A table of the 256 results of each channel: exact, and faster than the arithmetic.
#include "ops/normalize_image.h"

#include <algorithm>
#include <array>

#include "backends/network_size.h"
#include "cpu/boxes.h"

namespace osprey {
namespace {

constexpr std::int64_t kRows = 16;  // rows a task

template <class T>
struct Tables {
  std::array<std::array<T, 256>, 3> value;
  std::array<T, 3> border{};  // right of and below the photo

  explicit Tables(const NormalizeImage& op) {
    for (std::size_t c = 0; c < 3; ++c) {
      const auto normalized = [&](float v) { return store_float<T>((v - op.mean[c]) / op.std[c]); };
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
    if (op.canvas_height > 0)
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

}  // namespace

CpuKernel normalize_image_cpu() {
  return {.op = &kOpInfo<NormalizeImage>, .dtypes = {DType::kU8}, .prepare = [](CpuPrepare& prepare) {
            const auto& op = prepare.op<NormalizeImage>();
            require(op.to != FloatType::kF16, "{}: the CPU does not compute in f16", prepare.node().name);
            std::unique_ptr<CpuStep> step;
            with_float(prepare.output(0).dtype, [&]<class T>() {
              step = cpu_step([op, tables = Tables<T>(op)](CpuRun& run) { normalize(op, tables, run); });
            });
            return step;
          }};
}

}  // namespace osprey

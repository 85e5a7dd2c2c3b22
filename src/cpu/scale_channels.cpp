// Rows of pixels in parallel, lanes side by side.
#include "ops/scale_channels.h"

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

// A row of a plane; `s` holds its lanes that are channels, the others stay as they are: zero.
template <class T>
struct Row {
  const T *x, *s;
  T* y;
  std::int64_t lanes, live, width;
};

template <class T>
[[gnu::always_inline]] inline void scale_row(const Row<T>* row) {
  const T *x = row->x, *s = row->s;
  T* y = row->y;
  for (std::int64_t i = 0; i < row->width; ++i, x += row->lanes, y += row->lanes) {
    for (std::int64_t k = 0; k < row->live; ++k) y[k] = store_float<T>(load_float(x[k]) * load_float(s[k]));
    for (std::int64_t k = row->live; k < row->lanes; ++k) y[k] = T{};
  }
}

template <class T>
void scale(CpuRun& run) {
  const CpuPlanes planes(run.in(0));
  const auto* x = reinterpret_cast<const T*>(run.in(0).data);
  const auto* s = reinterpret_cast<const T*>(run.in(1).data);
  auto* y = reinterpret_cast<T*>(run.out(0).data);
  const std::int64_t size = planes.width * planes.lanes;
  cpu_for(planes.count * planes.height, run.threads(), [&](std::int64_t i) {
    const std::int64_t plane = i / planes.height, image = plane / planes.per_image;
    const Row<T> row{.x = x + i * size,
                     .s = s + image * planes.channels + plane % planes.per_image * planes.lanes,
                     .y = y + i * size,
                     .lanes = planes.lanes,
                     .live = planes.live_lanes(plane),
                     .width = planes.width};
    const Row<T>* const job = &row;
    vectorised<scale_row<T>>(job);
  });
}

CpuPort input_port(const Node&, std::size_t i, const Graph&) {
  return i == 0 ? CpuPort::kAny : CpuPort::kPlain;
}

}  // namespace

CpuKernel scale_channels_cpu() {
  return {.op = &kOpInfo<ScaleChannels>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = input_port,
          .output = any_port,
          .prepare =
              [](CpuPrepare&) {
                return cpu_step(
                    [](CpuRun& run) { with_float(run.out(0).dtype, [&]<class T>() { scale<T>(run); }); });
              },
          .in_place = {0}};
}

}  // namespace osprey

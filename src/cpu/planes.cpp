#include "cpu/planes.h"

#include <cstring>

namespace osprey {
namespace {

// A row of pixels of `pixel` bytes, each repeated.
void repeat_row(const std::byte* x, std::byte* y, std::int64_t width, std::size_t pixel, int scale) {
  for (std::int64_t i = 0; i < width; ++i)
    for (int k = 0; k < scale; ++k, y += pixel)
      std::memcpy(y, x + static_cast<std::size_t>(i) * pixel, pixel);
}

}  // namespace

void upsample_nearest(const CpuValue& in, const CpuValue& out, int scale, int threads) {
  const CpuPlanes from(in), to(out);
  const std::size_t pixel = static_cast<std::size_t>(from.lanes) * size_of(in.dtype);
  const std::size_t in_row = static_cast<std::size_t>(from.width) * pixel,
                    out_row = in_row * static_cast<std::size_t>(scale);
  cpu_for(from.count * from.height, threads, [&](std::int64_t i) {
    const std::byte* x = in.data + static_cast<std::size_t>(i) * in_row;
    std::byte* y = out.data + static_cast<std::size_t>(i * scale) * out_row;
    if (scale == 1) {
      std::memcpy(y, x, in_row);
      return;
    }
    repeat_row(x, y, from.width, pixel, scale);
    for (int k = 1; k < scale; ++k) std::memcpy(y + static_cast<std::size_t>(k) * out_row, y, out_row);
  });
}

}  // namespace osprey

// Channels side by side: whole planes are copied where the layout keeps a map's channels together, pixels
// where it keeps a pixel's, and elements where a block holds channels of two maps.
#include "ops/concat.h"

#include <cstring>

#include "cpu/kernel.h"

namespace osprey {
namespace {

// A map's place among the channels of the result.
struct Part {
  const std::byte* x;
  CpuPlanes planes;
  std::int64_t first;
};

void copy_pixels(const Part& part, std::byte* y, const CpuPlanes& to, std::size_t element, int threads) {
  const std::size_t from_pixel = static_cast<std::size_t>(part.planes.lanes) * element,
                    to_pixel = static_cast<std::size_t>(to.lanes) * element;
  cpu_for(to.count * to.height, threads, [&](std::int64_t row) {
    const auto first = static_cast<std::size_t>(row * to.width);
    const std::byte* source = part.x + first * from_pixel;
    std::byte* target = y + first * to_pixel + static_cast<std::size_t>(part.first) * element;
    for (std::int64_t i = 0; i < to.width; ++i, source += from_pixel, target += to_pixel)
      std::memcpy(target, source, from_pixel);
  });
}

void copy_planes(const Part& part, std::byte* y, const CpuPlanes& to, std::size_t element, int threads) {
  const std::size_t plane = static_cast<std::size_t>(to.plane_size()) * element;
  cpu_for(part.planes.count, threads, [&](std::int64_t i) {
    const std::int64_t image = i / part.planes.per_image, of_image = i % part.planes.per_image;
    const std::int64_t at = image * to.per_image + part.first / to.lanes + of_image;
    std::memcpy(y + static_cast<std::size_t>(at) * plane, part.x + static_cast<std::size_t>(i) * plane,
                plane);
  });
}

void copy_elements(const Part& part, std::byte* y, const CpuPlanes& to, std::size_t element,
                   std::int64_t images, int threads) {
  const auto lanes = static_cast<std::size_t>(to.lanes);  // of both
  cpu_for(images * part.planes.channels, threads, [&](std::int64_t i) {
    const std::int64_t n = i / part.planes.channels, c = i % part.planes.channels;
    const std::byte* source = part.x + static_cast<std::size_t>(part.planes.at(n, c, 0, 0)) * element;
    std::byte* target = y + static_cast<std::size_t>(to.at(n, part.first + c, 0, 0)) * element;
    const auto pixels = static_cast<std::size_t>(to.height * to.width);
    for (std::size_t p = 0; p < pixels; ++p)
      std::memcpy(target + p * lanes * element, source + p * lanes * element, element);
  });
}

void concat(CpuRun& run, std::size_t inputs) {
  const CpuValue& out = run.out(0);
  const CpuPlanes to(out);
  const std::size_t element = size_of(out.dtype);
  // Channels that pad the last block are zero.
  const bool padded = to.per_image * to.lanes != to.channels;
  if (padded) std::memset(out.data, 0, out.bytes());
  std::int64_t first = 0;
  for (std::size_t i = 0; i < inputs; ++i) {
    const Part part{run.in(i).data, CpuPlanes(run.in(i)), first};
    const bool last = i + 1 == inputs;
    if (out.layout.block == 0) {
      copy_pixels(part, out.data, to, element, run.threads());
    } else if (first % to.lanes == 0 && (last || part.planes.channels % to.lanes == 0)) {
      copy_planes(part, out.data, to, element, run.threads());
    } else {
      copy_elements(part, out.data, to, element, out.dims[0], run.threads());
    }
    first += part.planes.channels;
  }
}

}  // namespace

CpuKernel concat_cpu() {
  return {.op = &kOpInfo<Concat>,
          .dtypes = {DType::kF32, DType::kBF16, DType::kI8, DType::kU8},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) {
            return cpu_step([inputs = p.node().inputs.size()](CpuRun& run) { concat(run, inputs); });
          }};
}

}  // namespace osprey

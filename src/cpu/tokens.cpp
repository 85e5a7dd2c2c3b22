// Channels-last maps are rows already; in other layouts each channel of a pixel is fetched.
#include "ops/tokens.h"

#include <cstring>

#include "cpu/kernel.h"

namespace osprey {
namespace {

constexpr std::int64_t kPixels = 64;  // a task

// Pixels [begin, end) of map `x` of image n to rows of `y`, elements of type E (by size alone).
template <class E>
void copy_pixels(const CpuValue& x, const CpuPlanes& planes, std::int64_t n, std::int64_t begin,
                 std::int64_t end, E* y) {
  const E* data = reinterpret_cast<const E*>(x.data);
  const std::int64_t channels = planes.channels;
  if (x.layout.block == 0) {
    std::memcpy(y, data + planes.at(n, 0, 0, begin),
                static_cast<std::size_t>((end - begin) * channels) * sizeof(E));
    return;
  }
  for (std::int64_t pixel = begin; pixel < end; ++pixel)
    for (std::int64_t c = 0; c < channels; ++c) *y++ = data[planes.at(n, c, 0, pixel)];
}

template <class E>
void copy_map(CpuRun& run, std::size_t i, std::int64_t first, std::int64_t per_image) {
  const CpuValue& x = run.in(i);
  const CpuPlanes planes(x);
  const std::int64_t pixels = planes.height * planes.width, chunks = (pixels + kPixels - 1) / kPixels;
  cpu_for(x.dims[0] * chunks, run.threads(), [&](std::int64_t task) {
    const std::int64_t n = task / chunks, begin = task % chunks * kPixels;
    E* y = reinterpret_cast<E*>(run.out(0).data) + (n * per_image + first + begin) * planes.channels;
    copy_pixels(x, planes, n, begin, std::min(begin + kPixels, pixels), y);
  });
}

}  // namespace

CpuKernel tokens_cpu() {
  return {.op = &kOpInfo<Tokens>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .prepare = [](CpuPrepare& p) {
            std::vector<std::int64_t> firsts{0};
            for (std::size_t i = 0; i < p.node().inputs.size(); ++i)
              firsts.push_back(firsts.back() + p.input(i).dims[2] * p.input(i).dims[3]);
            return cpu_step([firsts](CpuRun& run) {
              const bool wide = run.out(0).dtype == DType::kF32;
              for (std::size_t i = 0; i + 1 < firsts.size(); ++i)
                (wide ? copy_map<float> : copy_map<BFloat16>)(run, i, firsts[i], firsts.back());
            });
          }};
}

}  // namespace osprey

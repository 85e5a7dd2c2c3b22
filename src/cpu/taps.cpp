#include "cpu/taps.h"

#include <cstring>

namespace osprey {
namespace {

template <class T>
void place_as(CpuRun& run, const CpuValue& taps, std::int64_t kh, std::int64_t kw, std::int64_t first) {
  const CpuValue& out = run.out(0);
  const CpuPlanes from(taps), to(out);
  const auto* x = reinterpret_cast<const T*>(taps.data);
  auto* y = reinterpret_cast<T*>(out.data);
  const bool whole = to.channels % to.lanes == 0;  // lanes of the taps are lanes of the result
  cpu_for(taps.dims[0] * to.per_image * to.height, run.threads(), [&](std::int64_t i) {
    const std::int64_t v = i % to.height, block = i / to.height % to.per_image,
                       n = i / to.height / to.per_image;
    const std::int64_t c = block * to.lanes;
    const std::int64_t live = to.live_lanes(block);
    for (std::int64_t u = 0; u < to.width; ++u) {
      const std::int64_t tap = (v % kh * kw + u % kw) * to.channels + c;
      T* target = y + to.at(first + n, c, v, u);
      if (whole) {
        std::memcpy(target, x + from.at(n, tap, v / kh, u / kw),
                    static_cast<std::size_t>(to.lanes) * sizeof(T));
        continue;
      }
      for (std::int64_t k = 0; k < to.lanes; ++k)
        target[k] = k < live ? x[from.at(n, tap + k, v / kh, u / kw)] : T{};
    }
  });
}

}  // namespace

Tensor repeated_for_taps(const Tensor& given, std::int64_t taps) {
  const Tensor plain = given.to_f32();
  Tensor out = Tensor::zeros(DType::kF32, {taps * plain.dim(0)});
  for (std::int64_t t = 0; t < taps; ++t)
    std::memcpy(out.mutable_data() + static_cast<std::size_t>(t) * plain.bytes().size(), plain.bytes().data(),
                plain.bytes().size());
  return out;
}

void place_taps(CpuRun& run, const CpuValue& taps, std::int64_t kh, std::int64_t kw, std::int64_t first) {
  switch (size_of(taps.dtype)) {
    case 1:
      return place_as<std::uint8_t>(run, taps, kh, kw, first);
    case 2:
      return place_as<std::uint16_t>(run, taps, kh, kw, first);
    default:
      return place_as<std::uint32_t>(run, taps, kh, kw, first);
  }
}

}  // namespace osprey

#include "cpu/reorder.h"

#include <algorithm>
#include <cstring>

namespace osprey {
namespace {

// One row of pixels of up to `kGroup` channels at a time: between a layout with lanes and another, in
// either direction, this keeps reads and writes within a few cache lines.
template <class T>
void reorder_as(const CpuValue& in, const CpuValue& out, int threads) {
  const CpuPlanes from(in), to(out);
  const auto* x = reinterpret_cast<const T*>(in.data);
  auto* y = reinterpret_cast<T*>(out.data);
  constexpr std::int64_t kGroup = 16;
  const std::int64_t images = in.dims[0], channels = in.dims[1], height = in.dims[2], width = in.dims[3];
  const std::int64_t padded = to.per_image * to.lanes, groups = (padded + kGroup - 1) / kGroup;
  cpu_for(images * groups * height, threads, [&](std::int64_t i) {
    const std::int64_t row = i % height, group = i / height % groups, n = i / height / groups;
    const std::int64_t first = group * kGroup, last = std::min(first + kGroup, channels);
    // Copies: bytes that are stored might be those of `from` and `to`, as far as the compiler knows.
    const std::int64_t source_step = from.lanes, target_step = to.lanes;
    for (std::int64_t begin = 0; begin < width; begin += 16) {
      const std::int64_t end = std::min(begin + 16, width);
      for (std::int64_t c = first; c < last; ++c) {
        const T* source = x + from.at(n, c, row, begin);
        T* target = y + to.at(n, c, row, begin);
        for (std::int64_t p = 0; p < end - begin; ++p) target[p * target_step] = source[p * source_step];
      }
    }
    for (std::int64_t c = std::max(first, channels); c < std::min(first + kGroup, padded); ++c)
      for (std::int64_t p = 0; p < width; ++p) y[to.at(n, c, row, p)] = T{};
  });
}

class Reorder final : public CpuStep {
 public:
  void run(CpuRun& run) override { reorder(run.in(0), run.out(0), run.threads()); }
};

}  // namespace

void reorder(const CpuValue& in, const CpuValue& out, int threads) {
  if (in.dims.empty() || in.dims[0] == 0) return;
  if (in.layout == out.layout) {
    cpu_for(in.dims[0], threads, [&](std::int64_t i) {
      const std::size_t at = static_cast<std::size_t>(i) * in.row_bytes();
      std::memcpy(out.data + at, in.data + at, in.row_bytes());
    });
    return;
  }
  switch (size_of(in.dtype)) {
    case 1:
      return reorder_as<std::uint8_t>(in, out, threads);
    case 2:
      return reorder_as<std::uint16_t>(in, out, threads);
    case 4:
      return reorder_as<std::uint32_t>(in, out, threads);
    default:
      fail(ErrorCode::kInternal, "cpu: no reorder of {}", name_of(in.dtype));
  }
}

std::unique_ptr<CpuStep> reorder_step() { return std::make_unique<Reorder>(); }

Tensor c_order_copy(const CpuValue& value, int threads) {
  Tensor out = Tensor::zeros(value.dtype, value.dims);
  if (out.empty()) return out;
  CpuValue plain{value.dtype, value.dims, {}, out.mutable_data()};
  if (value.dims.size() == 4) {
    reorder(value, plain, threads);
  } else {
    std::memcpy(plain.data, value.data, out.bytes().size());
  }
  return out;
}

}  // namespace osprey

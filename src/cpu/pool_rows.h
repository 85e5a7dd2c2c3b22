// What pooling on any layout goes through: rows of the result, in parallel.
#pragma once

#include <algorithm>

#include "cpu/kernel.h"

namespace osprey {

// One row of the result.
template <class T>
struct PoolRow {
  const T* plane;
  T* y;
  std::int64_t lanes, width, columns;  // of the plane, and of the result
  std::int64_t top, bottom;            // of the window in the plane
  int kernel, stride, pad;             // horizontal
};

// body(row) for each.
template <class T, class Op, class Body>
void each_pool_row(const Op& op, CpuRun& run, const Body& body) {
  const CpuPlanes from(run.in(0)), to(run.out(0));
  const auto pads = op.window().pads_of(from.height, from.width);
  const auto* x = reinterpret_cast<const T*>(run.in(0).data);
  auto* y = reinterpret_cast<T*>(run.out(0).data);
  cpu_for(to.count * to.height, run.threads(), [&](std::int64_t i) {
    const std::int64_t start = i % to.height * op.stride[0] - pads[0];
    body(PoolRow<T>{.plane = x + i / to.height * from.plane_size(),
                    .y = y + i * to.width * to.lanes,
                    .lanes = from.lanes,
                    .width = from.width,
                    .columns = to.width,
                    .top = std::max<std::int64_t>(0, start),
                    .bottom = std::min(from.height, start + op.kernel[0]),
                    .kernel = op.kernel[1],
                    .stride = op.stride[1],
                    .pad = pads[1]});
  });
}

}  // namespace osprey

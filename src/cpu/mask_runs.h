// The outputs that masks leave a graph by: the runs of all masks one after the other, and where each one
// ends.
#pragma once

#include <algorithm>
#include <span>

#include "cpu/boxes.h"

namespace osprey {

// Into outputs 0 (runs) and 1 (ends).
inline void write_masks(CpuRun& run, std::span<const Rle> masks) {
  auto* const ends = mutable_rows_of<std::int32_t>(run.out(1));
  std::size_t total = 0;
  for (std::size_t e = 0; e < masks.size(); ++e) {
    total += masks[e].counts.size();
    ends[e] = static_cast<std::int32_t>(total);
  }
  auto* runs = mutable_rows_of<std::uint32_t>(run.grow(0, static_cast<std::int64_t>(total)));
  for (const Rle& mask : masks) runs = std::ranges::copy(mask.counts, runs).out;
  run.set_rows(1, static_cast<std::int64_t>(masks.size()));
}

}  // namespace osprey

// The means of a map's channels, channels side by side. Large maps are summed in strips of rows, in parallel;
// strips follow from the shape alone, so that results depend on nothing else.
#pragma once

#include <algorithm>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/vectors.h"

namespace osprey {

namespace detail {

constexpr std::int64_t kMeanGroup = 64;  // channels that are summed together

// Pixels of a plane, from the first of which come `channels` lanes.
template <class T>
struct Pixels {
  const T* x;
  float* sums;
  std::int64_t count, lanes, channels;
};

template <class T>
[[gnu::always_inline]] inline void sum_pixels(const Pixels<T>* pixels) {
  float sums[kMeanGroup] = {};
  const T* x = pixels->x;
  if (pixels->channels == kMeanGroup) {
    for (std::int64_t p = 0; p < pixels->count; ++p, x += pixels->lanes)
      for (std::int64_t c = 0; c < kMeanGroup; ++c) sums[c] += load_float(x[c]);
  } else {
    for (std::int64_t p = 0; p < pixels->count; ++p, x += pixels->lanes)
      for (std::int64_t c = 0; c < pixels->channels; ++c) sums[c] += load_float(x[c]);
  }
  std::copy_n(sums, pixels->channels, pixels->sums);
}

}  // namespace detail

class ChannelMeans {
 public:
  explicit ChannelMeans(const CpuValue& x) {
    const CpuPlanes planes(x);
    strip_ = std::min(planes.height, (kStripPixels + planes.width - 1) / planes.width);
    strips_ = (planes.height + strip_ - 1) / strip_;
    floats_ = planes.count * planes.lanes * strips_;
  }

  // Of scratch that run() takes.
  std::int64_t floats() const { return floats_; }

  // store(image, channel, mean) for each.
  template <class T, class Store>
  void run(const CpuValue& x, float* sums, int threads, Store&& store) const {
    const CpuPlanes planes(x);
    const std::int64_t lanes = planes.lanes, group = std::min(detail::kMeanGroup, lanes),
                       groups = (lanes + group - 1) / group;
    cpu_for(planes.count * strips_ * groups, threads, [&](std::int64_t i) {  // plane, strip, group
      const std::int64_t first = i % groups * group, part = i / groups, top = part % strips_ * strip_;
      const detail::Pixels<T> pixels{.x = reinterpret_cast<const T*>(x.data) +
                                          part / strips_ * planes.plane_size() + top * planes.width * lanes +
                                          first,
                                     .sums = sums + part * lanes + first,
                                     .count = std::min(strip_, planes.height - top) * planes.width,
                                     .lanes = lanes,
                                     .channels = std::min(group, lanes - first)};
      const detail::Pixels<T>* const job = &pixels;
      vectorised<detail::sum_pixels<T>>(job);
    });
    const auto area = static_cast<float>(planes.height * planes.width);
    cpu_for(planes.count, threads, [&](std::int64_t plane) {
      for (std::int64_t c = 0; c < planes.live_lanes(plane); ++c) {
        float sum = 0;
        for (std::int64_t s = 0; s < strips_; ++s) sum += sums[(plane * strips_ + s) * lanes + c];
        store(plane / planes.per_image, plane % planes.per_image * lanes + c, sum / area);
      }
    });
  }

 private:
  static constexpr std::int64_t kStripPixels = 1 << 11;  // at least

  std::int64_t strip_ = 1, strips_ = 1, floats_ = 0;
};

}  // namespace osprey

// The means of a map's channels, channels side by side, summed in the order of TensorFlow's reduce_mean
// (Eigen's TensorReduction.h, InnerMostDimPreserver): four sums that take the pixels in turn, then the pixels
// that are left. On large maps such long sums err by some 1e-6, ten times more than sums in strips would;
// a network with a squeeze in each of 16 to 55 blocks makes thousandths of it, so that only the framework's
// own order gives what the framework gives.
#pragma once

#include <algorithm>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/vectors.h"

namespace osprey {

namespace detail {

constexpr std::int64_t kMeanGroup = 16;     // channels that are summed together
constexpr std::int64_t kMeanChains = 4;     // sums of every channel, which take the pixels in turn
constexpr std::int64_t kLeastChained = 16;  // pixels; fewer are one sum

// Pixels of a plane, from the first of which come `channels` of its `lanes`, at most kMeanGroup.
template <class T>
struct Pixels {
  const T* x;
  float* sums;
  std::int64_t count, lanes, channels;
};

template <class T, int kWidth>
[[gnu::always_inline]] inline void add_pixel(Floats<kWidth>& sum, const T* x) {
  Floats<kWidth> values;
  for (int c = 0; c < kWidth; ++c) values[c] = load_float(x[c]);
  sum += values;
}

template <class T, int kWidth>
[[gnu::always_inline]] inline void sum_channels(const Pixels<T>& pixels, std::int64_t first) {
  Floats<kWidth> sums[kMeanChains] = {};
  const T* x = pixels.x + first;
  std::int64_t left = pixels.count;
  for (; pixels.count >= kLeastChained && left >= kMeanChains; left -= kMeanChains)
    for (std::int64_t k = 0; k < kMeanChains; ++k, x += pixels.lanes) add_pixel<T, kWidth>(sums[k], x);
  for (std::int64_t k = 1; k < kMeanChains; ++k) sums[0] += sums[k];
  for (; left > 0; --left, x += pixels.lanes) add_pixel<T, kWidth>(sums[0], x);
  *reinterpret_cast<Floats<kWidth>*>(pixels.sums + first) = sums[0];
}

template <class T>
[[gnu::always_inline]] inline void sum_pixels(const Pixels<T>* pixels) {
  if (pixels->channels == kMeanGroup) return sum_channels<T, kMeanGroup>(*pixels, 0);
  std::int64_t first = 0;
  if (pixels->channels >= 8) {
    sum_channels<T, 8>(*pixels, 0);
    first = 8;
  }
  for (; first < pixels->channels; ++first) sum_channels<T, 1>(*pixels, first);
}

}  // namespace detail

class ChannelMeans {
 public:
  explicit ChannelMeans(const CpuValue& x) : channels_(CpuPlanes(x).count * CpuPlanes(x).lanes) {}

  // Of scratch that run() takes.
  std::int64_t floats() const { return channels_; }

  // store(image, channel, mean) for each.
  template <class T, class Store>
  void run(const CpuValue& x, float* sums, int threads, Store&& store) const {
    const CpuPlanes planes(x);
    const std::int64_t lanes = planes.lanes, groups = (lanes + detail::kMeanGroup - 1) / detail::kMeanGroup;
    cpu_for(planes.count * groups, threads, [&](std::int64_t i) {
      const std::int64_t plane = i / groups, first = i % groups * detail::kMeanGroup;
      const detail::Pixels<T> pixels{
          .x = reinterpret_cast<const T*>(x.data) + plane * planes.plane_size() + first,
          .sums = sums + plane * lanes + first,
          .count = planes.height * planes.width,
          .lanes = lanes,
          .channels = std::min(detail::kMeanGroup, lanes - first)};
      const detail::Pixels<T>* const job = &pixels;
      vectorised<detail::sum_pixels<T>>(job);
    });
    const auto area = static_cast<float>(planes.height * planes.width);
    for (std::int64_t plane = 0; plane < planes.count; ++plane)
      for (std::int64_t c = 0; c < planes.live_lanes(plane); ++c)
        store(plane / planes.per_image, plane % planes.per_image * lanes + c, sums[plane * lanes + c] / area);
  }

 private:
  std::int64_t channels_;
};

}  // namespace osprey

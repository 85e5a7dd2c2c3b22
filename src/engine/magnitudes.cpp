#include "engine/magnitudes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace osprey {
namespace {

constexpr double kPercentile = 0.9999;
// Limits below this share of the reach are never tried: a histogram has no detail there.
constexpr std::size_t kFewestBins = 128;

// What is smaller fills the first bins only, so that their number in one unit is a float.
constexpr int kLeastExponent = -64;

// The smallest k with reach < 2^k.
int exponent_of(float reach) {
  int exponent = 0;
  std::frexp(reach, &exponent);
  return std::max(exponent, kLeastExponent);
}

// The last bin in use, and one.
std::size_t used_bins(const std::vector<std::uint64_t>& bins) {
  std::size_t used = bins.size();
  while (used > 1 && bins[used - 1] == 0) --used;
  return used;
}

// The divergence of the histogram, cut at `used` bins, from what is left of it on `levels` steps.
double divergence(const std::vector<std::uint64_t>& bins, std::size_t used, int levels) {
  std::vector<double> wanted(bins.begin(), bins.begin() + static_cast<std::ptrdiff_t>(used));
  wanted.back() += static_cast<double>(
      std::accumulate(bins.begin() + static_cast<std::ptrdiff_t>(used), bins.end(), std::uint64_t{0}));
  std::vector<double> got(used, 0);
  for (int level = 0; level < levels; ++level) {
    const std::size_t begin = static_cast<std::size_t>(level) * used / static_cast<std::size_t>(levels),
                      end = static_cast<std::size_t>(level + 1) * used / static_cast<std::size_t>(levels);
    double sum = 0;
    std::size_t filled = 0;
    for (std::size_t i = begin; i < end; ++i) {
      sum += static_cast<double>(bins[i]);
      filled += bins[i] != 0 ? 1u : 0u;
    }
    for (std::size_t i = begin; i < end; ++i)
      if (bins[i] != 0) got[i] = sum / static_cast<double>(filled);
  }
  const double all = std::accumulate(wanted.begin(), wanted.end(), 0.0),
               kept = std::accumulate(got.begin(), got.end(), 0.0);
  if (kept <= 0) return std::numeric_limits<double>::infinity();
  constexpr double kTiny = 1e-12;  // of what only saturation put there
  double out = 0;
  for (std::size_t i = 0; i < used; ++i)
    if (wanted[i] > 0) out += wanted[i] / all * std::log((wanted[i] / all) / std::max(got[i] / kept, kTiny));
  return out;
}

// The mean squared error when a histogram's values are rounded to `levels` steps below `limit`.
double squared_error(const Magnitudes& values, double limit, int levels) {
  const double step = limit / levels, width = values.bin_width();
  double out = 0;
  for (std::size_t i = 0; i < values.bins().size(); ++i) {
    if (values.bins()[i] == 0) continue;
    const double centre = (static_cast<double>(i) + 0.5) * width;
    const double error = centre > limit ? centre - limit : centre - std::nearbyint(centre / step) * step;
    out += static_cast<double>(values.bins()[i]) * error * error;
  }
  return out;
}

// The limit, a multiple of the bins' width, for which `cost` is least; the larger of equals.
template <class Cost>
float best_limit(const Magnitudes& values, Cost cost) {
  const std::size_t used = used_bins(values.bins());
  constexpr std::size_t kStep = 16;
  double least = std::numeric_limits<double>::infinity();
  std::size_t best = used;
  for (std::size_t bins = std::min(used, kFewestBins); bins <= used; bins += kStep) {
    const double c = cost(bins);
    if (c <= least) least = c, best = bins;
  }
  return std::min(values.reach(), static_cast<float>(static_cast<double>(best) * values.bin_width()));
}

float percentile(const Magnitudes& values) {
  const double wanted = kPercentile * static_cast<double>(values.count());
  double below = 0;
  std::size_t bin = 0;
  while (bin + 1 < values.bins().size() && (below += static_cast<double>(values.bins()[bin])) < wanted) ++bin;
  return std::min(values.reach(), static_cast<float>(static_cast<double>(bin + 1) * values.bin_width()));
}

}  // namespace

float Magnitudes::reach() const { return std::max(std::abs(least_), std::abs(largest_)); }
double Magnitudes::bin_width() const { return std::ldexp(1.0, exponent_) / static_cast<double>(kBins); }

void Magnitudes::make_room(float reach) {
  const int needed = exponent_of(reach);
  if (bins_.empty()) {
    bins_.assign(kBins, 0);
    exponent_ = needed;
  }
  for (; exponent_ < needed; ++exponent_) {
    for (std::size_t i = 0; i < kBins / 2; ++i) bins_[i] = bins_[2 * i] + bins_[2 * i + 1];
    std::fill(bins_.begin() + kBins / 2, bins_.end(), 0);
  }
}

void Magnitudes::add(std::span<const float> values) {
  if (values.empty()) return;
  float least = values[0], largest = values[0];
  for (const float v : values) {
    least = v < least ? v : least;
    largest = v > largest ? v : largest;
    finite_ = finite_ && std::abs(v) <= std::numeric_limits<float>::max();
  }
  if (!finite_) return;
  least_ = count_ ? std::min(least_, least) : least;
  largest_ = count_ ? std::max(largest_, largest) : largest;
  make_room(std::max(std::abs(least), std::abs(largest)));
  count_ += static_cast<std::int64_t>(values.size());
  // Powers of two: the products are exact. Counts lie in turn in four tables, since values come in runs of
  // zeros, and adding to one place again waits for the last time.
  const auto per_unit = static_cast<float>(1 / bin_width());
  std::array<std::array<std::uint32_t, kBins>, 4> counts{};
  for (std::size_t begin = 0; begin < values.size(); begin += std::size_t{1} << 30) {
    const auto part =
        values.subspan(begin, std::min<std::size_t>(values.size() - begin, std::size_t{1} << 30));
    for (auto& table : counts) table.fill(0);
    for (std::size_t i = 0; i < part.size(); ++i)
      ++counts[i % 4][static_cast<std::size_t>(std::abs(part[i]) * per_unit)];
    for (std::size_t i = 0; i < kBins; ++i)
      bins_[i] += std::uint64_t{counts[0][i]} + counts[1][i] + counts[2][i] + counts[3][i];
  }
}

Magnitudes Magnitudes::from(State state) {
  Magnitudes out;
  out.least_ = state.least;
  out.largest_ = state.largest;
  out.exponent_ = state.exponent;
  out.bins_ = std::move(state.bins);
  require(out.bins_.empty() || out.bins_.size() == kBins, "a histogram of {} bins", out.bins_.size());
  require(std::isfinite(out.least_) && std::isfinite(out.largest_) && out.least_ <= out.largest_ &&
              state.exponent >= kLeastExponent && state.exponent <= 128 &&
              exponent_of(out.reach()) <= state.exponent,
          "a histogram whose range is [{}, {}] and 2^{}", out.least_, out.largest_, state.exponent);
  for (const std::uint64_t n : out.bins_) {
    require(n <= (std::uint64_t{1} << 62) - static_cast<std::uint64_t>(out.count_),
            "a histogram of too many");
    out.count_ += static_cast<std::int64_t>(n);
  }
  return out;
}

float limit_of(const Magnitudes& values, CalibrationMethod method, int levels) {
  switch (method) {
    case CalibrationMethod::kMinMax:
      return values.reach();
    case CalibrationMethod::kPercentile:
      return percentile(values);
    case CalibrationMethod::kEntropy: {
      // Zeros are exact in any scale, and after ReLU they would drown the rest.
      std::vector<std::uint64_t> bins = values.bins();
      bins[0] = bins[1];
      return best_limit(values, [&](std::size_t used) { return divergence(bins, used, levels); });
    }
    case CalibrationMethod::kMse:
      return best_limit(values, [&](std::size_t bins) {
        return squared_error(values, static_cast<double>(bins) * values.bin_width(), levels);
      });
  }
  fail(ErrorCode::kUsage, "there is no calibration method {}", static_cast<int>(method));
}

double signal_to_noise(const Magnitudes& values, float limit, int levels) {
  constexpr double kMost = 200;
  double signal = 0;
  for (std::size_t i = 0; i < values.bins().size(); ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * values.bin_width();
    signal += static_cast<double>(values.bins()[i]) * centre * centre;
  }
  const double noise = squared_error(values, double{limit}, levels);
  return noise > 0 && signal > 0 ? std::min(10 * std::log10(signal / noise), kMost) : kMost;
}

double saturated_share(const Magnitudes& values, float limit) {
  if (values.count() == 0 || limit >= values.reach()) return 0;
  const auto first = static_cast<std::size_t>(
      std::min<double>(std::ceil(static_cast<double>(limit) / values.bin_width()), Magnitudes::kBins));
  const auto beyond = std::accumulate(values.bins().begin() + static_cast<std::ptrdiff_t>(first),
                                      values.bins().end(), std::uint64_t{0});
  return static_cast<double>(beyond) / static_cast<double>(values.count());
}

}  // namespace osprey

// How large the values of one activation come: what calibration collects, and the limits it draws from it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "osprey/engine.h"

namespace osprey {

// A histogram of magnitudes over [0, 2^exponent), which doubles, bins merging in pairs, when a larger one
// comes: what it holds does not depend on the order in which values came. Between half and all of the bins
// are in use.
class Magnitudes {
 public:
  static constexpr std::size_t kBins = 4096;

  // Values that are not finite are the caller's error: see `finite`.
  void add(std::span<const float> values);

  std::int64_t count() const { return count_; }
  float least() const { return least_; }  // with their signs
  float largest() const { return largest_; }
  bool finite() const { return finite_; }
  // The largest magnitude there was.
  float reach() const;
  double bin_width() const;
  const std::vector<std::uint64_t>& bins() const { return bins_; }

  // For the file that an interrupted calibration goes on from.
  struct State {
    float least = 0, largest = 0;
    int exponent = 0;
    std::vector<std::uint64_t> bins;
  };
  State state() const { return {least_, largest_, exponent_, bins_}; }
  // An error where the numbers do not belong together.
  static Magnitudes from(State state);

 private:
  void make_room(float reach);

  std::vector<std::uint64_t> bins_;  // none before the first value
  std::int64_t count_ = 0;
  float least_ = 0, largest_ = 0;
  int exponent_ = 0;
  bool finite_ = true;
};

// The largest magnitude that integers should hold; values beyond it saturate. `levels` is how many steps lie
// between zero and it: 127 for i8, 255 for u8.
//   minmax      the largest there was
//   percentile  99.99 % of values are below it
//   entropy     the least Kullback-Leibler divergence of the rounded from the unrounded histogram (Migacz,
//               "8-bit inference with TensorRT", GTC 2017)
//   mse         the least mean squared error of rounding and saturating
float limit_of(const Magnitudes& values, CalibrationMethod method, int levels);

// The power of the values over that of the error when they are rounded to `levels` steps and saturate, in
// decibels; at most 200, which stands for no error.
double signal_to_noise(const Magnitudes& values, float limit, int levels);

// The share of values beyond a limit.
double saturated_share(const Magnitudes& values, float limit);

}  // namespace osprey

#include "engine/magnitudes.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "osprey/error.h"

namespace osprey {
namespace {

std::vector<float> normal(std::size_t count, float deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> of(0, deviation);
  std::vector<float> out(count);
  for (float& v : out) v = of(random);
  return out;
}

TEST(Magnitudes, DoNotDependOnTheOrder) {
  std::vector<std::vector<float>> parts{
      normal(1000, 0.01f, 1), {0, 0, 0}, normal(1000, 40, 2), {-65504}, {1}};
  Magnitudes forth, back;
  for (const auto& part : parts) forth.add(part);
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) back.add(*part);
  EXPECT_EQ(forth.bins(), back.bins());
  EXPECT_EQ(forth.bin_width(), back.bin_width());
  EXPECT_EQ(forth.count(), 2005);
  EXPECT_EQ(forth.least(), -65504);
  EXPECT_EQ(forth.reach(), 65504);
}

TEST(Magnitudes, CountEveryValueInItsBin) {
  Magnitudes m;
  m.add(std::vector<float>{0, 1, -1, 3.999f, 4, 7.9999f, 1e-30f});
  EXPECT_EQ(m.bin_width(), 8.0 / Magnitudes::kBins);
  EXPECT_EQ(m.bins()[0], 2u);
  EXPECT_EQ(m.bins()[Magnitudes::kBins / 8], 2u);
  EXPECT_EQ(m.bins()[Magnitudes::kBins / 2], 1u);
  EXPECT_EQ(m.bins().back(), 1u);
  for (const float tiny : {1e-45f, 1e-38f, 3e-20f}) {
    Magnitudes small;
    small.add(std::vector<float>{tiny, 0});
    EXPECT_EQ(small.count(), 2);
    EXPECT_EQ(small.reach(), tiny);
  }
  Magnitudes large;
  large.add(std::vector<float>{3e38f});
  EXPECT_EQ(large.bins()[static_cast<std::size_t>(3e38 / large.bin_width())], 1u);
}

TEST(Magnitudes, AreToldWhatIsNotFinite) {
  for (const float v : {INFINITY, -INFINITY, NAN}) {
    Magnitudes m;
    m.add(std::vector<float>{1, v, 2});
    EXPECT_FALSE(m.finite());
  }
}

TEST(Magnitudes, GoOnFromTheirState) {
  Magnitudes all, half;
  const auto a = normal(5000, 1, 3), b = normal(5000, 9, 4);
  all.add(a), all.add(b);
  half.add(a);
  Magnitudes rest = Magnitudes::from(half.state());
  rest.add(b);
  EXPECT_EQ(rest.bins(), all.bins());
  EXPECT_EQ(rest.count(), all.count());
  EXPECT_EQ(rest.least(), all.least());
  EXPECT_EQ(Magnitudes::from(Magnitudes().state()).count(), 0);
}

TEST(Magnitudes, RefuseAStateThatDoesNotFit) {
  Magnitudes m;
  m.add(std::vector<float>{1, 2});
  auto bins = m.state();
  bins.bins.pop_back();
  EXPECT_THROW(Magnitudes::from(bins), Error);
  auto range = m.state();
  range.largest = 1e9f;
  EXPECT_THROW(Magnitudes::from(range), Error);
  auto counts = m.state();
  counts.bins[5] = ~std::uint64_t{0};
  EXPECT_THROW(Magnitudes::from(counts), Error);
}

// Two thousand values of a normal distribution, and one outlier a hundred deviations away.
Magnitudes with_outlier() {
  Magnitudes m;
  m.add(normal(200000, 1, 5));
  m.add(std::vector<float>{100});
  return m;
}

TEST(LimitOf, MinMaxHoldsEveryValue) {
  EXPECT_EQ(limit_of(with_outlier(), CalibrationMethod::kMinMax, 127), 100);
  EXPECT_EQ(saturated_share(with_outlier(), 100), 0);
}

TEST(LimitOf, PercentileLeavesOneInTenThousandOut) {
  const Magnitudes m = with_outlier();
  const float limit = limit_of(m, CalibrationMethod::kPercentile, 127);
  EXPECT_NEAR(limit, 3.89, 0.15);  // of a normal distribution, both sides
  EXPECT_LE(saturated_share(m, limit), 1e-4);
}

// The error of the chosen limit, by its definition over the values themselves, is the least of all limits'.
TEST(LimitOf, MseIsTheLeastError) {
  auto values = normal(20000, 1, 6);
  values.push_back(14);
  Magnitudes m;
  m.add(values);
  const auto error = [&](float limit) {
    double out = 0;
    for (const float v : values) {
      const double step = limit / 127.0;
      const double q = std::clamp(std::nearbyint(v / step), -127.0, 127.0) * step;
      out += (v - q) * (v - q);
    }
    return out;
  };
  const float chosen = limit_of(m, CalibrationMethod::kMse, 127);
  double least = 1e30;
  for (float limit = 2; limit <= 14; limit += 0.05f) least = std::min(least, error(limit));
  EXPECT_LE(error(chosen), 1.02 * least) << chosen;
  EXPECT_LT(chosen, 14);
}

// As after ReLU: the zeros say nothing about how far the others reach.
TEST(LimitOf, EntropyDoesNotSeeZeros) {
  Magnitudes plain = with_outlier(), zeros = with_outlier();
  zeros.add(std::vector<float>(1000000, 0));
  EXPECT_EQ(limit_of(zeros, CalibrationMethod::kEntropy, 255),
            limit_of(plain, CalibrationMethod::kEntropy, 255));
}

TEST(LimitOf, EntropyCutsATailAndKeepsABlock) {
  const float cut = limit_of(with_outlier(), CalibrationMethod::kEntropy, 127);
  EXPECT_GT(cut, 2);
  EXPECT_LT(cut, 20);
  Magnitudes flat;  // all magnitudes alike: cutting any of them loses as much as it can
  std::vector<float> values;
  for (int i = 0; i < 100000; ++i) values.push_back(static_cast<float>(i) * 1e-4f);
  flat.add(values);
  EXPECT_NEAR(limit_of(flat, CalibrationMethod::kEntropy, 127), 10, 0.2);
}

// A step of s has an error of s^2 / 12 where values are spread evenly.
TEST(SignalToNoise, IsThatOfRounding) {
  Magnitudes flat;
  std::vector<float> values;
  for (int i = 0; i < 400000; ++i) values.push_back(static_cast<float>(i) * 1e-5f);
  flat.add(values);
  const double signal = 16.0 / 3, step = 4.0 / 127, noise = step * step / 12;
  EXPECT_NEAR(signal_to_noise(flat, 4, 127), 10 * std::log10(signal / noise), 0.5);
  EXPECT_LT(signal_to_noise(flat, 2, 127), 15);
}

}  // namespace
}  // namespace osprey

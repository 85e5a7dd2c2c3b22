// What tests of kernels on 8-bit integers give them, and hold them to.
#pragma once

#include <cstdlib>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "core/tensor.h"

namespace osprey {

// -127..127, or the same bits of u8.
inline Tensor random_integers(DType type, Shape shape, unsigned seed) {
  std::mt19937 random(seed);
  Tensor out = Tensor::zeros(type, std::move(shape));
  for (std::byte *to = out.mutable_data(), *end = to + out.size(); to != end; ++to)
    *to = static_cast<std::byte>(static_cast<int>(random() % 255) - 127);
  return out;
}

// Sums are exact; the CPU multiplies, adds and rounds in f32 in another order, so that where the exact value
// is half way between two integers but for that, the other one may come: of random values hardly any.
inline void expect_almost_all_equal(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  ASSERT_EQ(got.dtype(), want.dtype()) << what;
  std::int64_t others = 0;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const auto a = static_cast<std::uint8_t>(got.bytes()[static_cast<std::size_t>(i)]),
               b = static_cast<std::uint8_t>(want.bytes()[static_cast<std::size_t>(i)]);
    const int apart =
        got.dtype() == DType::kI8 ? static_cast<std::int8_t>(a) - static_cast<std::int8_t>(b) : a - b;
    ASSERT_LE(std::abs(apart), 1) << what << ", element " << i << ": " << int{a} << ", not " << int{b};
    others += apart != 0;
  }
  EXPECT_LE(others, 2 + got.size() / 10000) << what << ": of " << got.size();
}

}  // namespace osprey

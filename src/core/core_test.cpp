#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/bytes.h"
#include "core/dtype.h"
#include "core/file.h"

namespace osprey {
namespace {

TEST(Bytes, SliceRefusesWhatLiesOutside) {
  const std::string text = "abcdef";
  EXPECT_EQ(as_text(slice(as_bytes(text), 2, 3, "x")), "cde");
  EXPECT_THROW(slice(as_bytes(text), 4, 3, "x"), Error);
  EXPECT_THROW(slice(as_bytes(text), ~0ull, 2, "x"), Error);
}

TEST(Bytes, ArithmeticThatWouldWrapIsBadInput) {
  EXPECT_EQ(checked_mul(1u << 20, 1u << 20, "x"), 1ull << 40);
  EXPECT_THROW(checked_mul(1ull << 40, 1ull << 40, "x"), Error);
  EXPECT_THROW(checked_add(~0ull, 1, "x"), Error);
}

TEST(DType, HalfRoundTripsEveryPattern) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = to_float(Half{static_cast<std::uint16_t>(bits)});
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_float(to_half(value))));
    } else {
      EXPECT_EQ(to_half(value).bits, bits);
    }
  }
}

TEST(DType, NarrowingRoundsToNearestEven) {
  EXPECT_EQ(to_half(2049.f).bits, to_half(2048.f).bits);  // a tie, to the even neighbour
  EXPECT_EQ(to_half(2051.f).bits, to_half(2052.f).bits);
  EXPECT_EQ(to_half(65520.f).bits, 0x7c00);
  EXPECT_EQ(to_bfloat16(1.00390625f).bits, 0x3f80);  // 1 + 2^-8, a tie
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(File, AppearsOnlyWhenCommitted) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("osprey_core_{}.txt", ::getpid());
  std::filesystem::remove(path);
  { AtomicFile(path).write("half"); }
  EXPECT_FALSE(std::filesystem::exists(path));
  write_file(path, "whole");
  EXPECT_EQ(read_text(path), "whole");
  EXPECT_THROW(read_text(path, 2), Error);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace osprey

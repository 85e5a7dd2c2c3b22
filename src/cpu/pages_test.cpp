// What is left of memory that the system does not give.
#include "cpu/pages.h"

#include <gtest/gtest.h>

#include "osprey/error.h"

namespace osprey {
namespace {

constexpr std::size_t kTooMuch = std::size_t{1} << 50;

TEST(Pages, ABufferThatCouldNotGrowHoldsNothingAndGrowsAgain) {
  PageBuffer buffer;
  buffer.reserve(1);
  EXPECT_THROW(buffer.reserve(kTooMuch), Error);
  EXPECT_EQ(buffer.size(), 0u);
  EXPECT_THROW(buffer.reserve(kTooMuch), Error) << "not taken for what it holds";
  buffer.reserve(1);
  ASSERT_NE(buffer.data(), nullptr);
}

TEST(Pages, APoolGoesOnBehindTheLastPieceItGave) {
  PagePool pool;
  const std::byte* first = pool.take(64);
  EXPECT_THROW(pool.take(kTooMuch), Error);
  EXPECT_EQ(pool.take(64), first + 64);
}

}  // namespace
}  // namespace osprey

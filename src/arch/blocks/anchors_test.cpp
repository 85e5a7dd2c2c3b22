#include "arch/blocks/anchors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arch/testing.h"

namespace osprey {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Anchors, AreCentredUnroundedSizesOuterRatiosInner) {
  const auto cells = anchor_cells({.sizes = {{32, 64}}, .ratios = {{0.25, 1.0}}});
  EXPECT_THAT(cells, ElementsAre(-32, -8, 32, 8, -16, -16, 16, 16, -64, -16, 64, 16, -32, -32, 32, 32));
  // Detectron2's default: 32 px, height / width 0.5.
  const auto wide = anchor_cells({.sizes = {{32}}, .ratios = {{0.5}}});
  EXPECT_THAT(wide, ElementsAre(-22.627417f, -11.3137085f, 22.627417f, 11.3137085f));
}

TEST(Anchors, LevelsMustAgreeInNumber) {
  EXPECT_THAT(error_of([] {
                anchor_cells({.sizes = {{32}, {64, 128}}, .ratios = {{1}, {1}}});
              }),
              HasSubstr("level 1 has 2 a cell, level 0 has 1"));
}

}  // namespace
}  // namespace osprey

#include "core/parallel.h"

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace osprey {
namespace {

TEST(Parallel, EveryIndexIsVisitedOnce) {
  for (const int threads : {1, 3, 8}) {
    set_thread_count(threads);
    std::vector<std::atomic<int>> visits(1001);
    parallel_for(1001, 7, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) ++visits[i];
    });
    for (const auto& v : visits) ASSERT_EQ(v, 1);
  }
  set_thread_count(0);
  parallel_for(0, 7, [](std::int64_t, std::int64_t) { FAIL(); });
}

TEST(Parallel, TheLowestFailureLeaves) {
  set_thread_count(4);
  for (int repeat = 0; repeat < 50; ++repeat) {
    try {
      parallel_for(200, 1, [](std::int64_t i, std::int64_t) {
        if (i >= 20) throw std::runtime_error(std::to_string(i));
      });
      FAIL();
    } catch (const std::runtime_error& e) {
      EXPECT_STREQ(e.what(), "20");
    }
  }
  set_thread_count(0);
}

}  // namespace
}  // namespace osprey

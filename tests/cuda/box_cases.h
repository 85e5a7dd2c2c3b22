// What the tests of the detection kernels share.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "cpu/box_cases_test.h"
#include "cuda/cuda_harness.h"

namespace osprey {

inline KernelInput counted(Tensor data, std::int64_t bound) {
  return {.data = std::move(data), .layout = {}, .bound = bound};
}

inline std::vector<Geometry> geometry_of(std::int64_t images) {
  std::vector<Geometry> out;
  for (std::size_t n = 0; n < static_cast<std::size_t>(images); ++n)
    out.push_back(kTwoImages[n % kTwoImages.size()]);
  return out;
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::ranges::equal(a.bytes(), b.bytes());
}

// What ops that select boxes give: as many rows, in the same order, with the same scores and groups to the
// bit; coordinates within a thousandth of a pixel, for exp's last place.
inline void expect_same_selection(const KernelCase& test, const std::string& what) {
  const std::vector<Tensor> got = run_cuda(test), want = run_oracle(test);
  ASSERT_EQ(got.size(), 3u);
  ASSERT_EQ(got[0].shape(), want[0].shape()) << what;
  EXPECT_TRUE(same_bytes(got[1], want[1])) << what << ": other scores, or another order";
  EXPECT_TRUE(same_bytes(got[2], want[2])) << what << ": other groups, or another order";
  const auto a = tensor_rows<Roi>(got[0]), b = tensor_rows<Roi>(want[0]);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    wrong += a[i].image != b[i].image || !(largest_difference(a[i].box, b[i].box) <= 1e-3f);
  EXPECT_EQ(wrong, 0u) << what << ": boxes elsewhere";
}

// All outputs the same to the bit.
inline void expect_same_bytes(const KernelCase& test, const std::string& what) {
  const std::vector<Tensor> got = run_cuda(test), want = run_oracle(test);
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].shape(), want[i].shape()) << what << ", output " << i;
    EXPECT_TRUE(same_bytes(got[i], want[i])) << what << ", output " << i;
  }
}

}  // namespace osprey

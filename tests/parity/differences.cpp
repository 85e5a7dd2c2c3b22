#include "parity/differences.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include <gtest/gtest.h>

#include "image/rle.h"

namespace osprey {

bool starts_with_any(const std::string& name, std::initializer_list<const char*> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const char* p) { return name.starts_with(p); });
}

double map_difference(const GoldenStage& golden, const Tensor& got) {
  if (got.shape() != golden.shape) throw std::runtime_error("a map of another shape than the golden one");
  const auto values = got.values<float>();
  double worst = 0;
  for (std::size_t i = 0; i < golden.values.size(); ++i)
    worst = std::max(worst, std::abs(values[i * static_cast<std::size_t>(golden.stride)] - golden.values[i]));
  return worst / golden.magnitude();
}

double row_difference(const GoldenStage& golden, const Tensor& got,
                      const std::vector<std::optional<std::size_t>>& rows) {
  const auto values = got.values<float>();
  std::size_t row_size = 1;
  for (std::size_t d = 1; d < golden.shape.size(); ++d) row_size *= static_cast<std::size_t>(golden.shape[d]);
  if (values.size() % row_size != 0) throw std::runtime_error("rows of another size than the golden ones");
  double worst = 0;
  for (std::size_t i = 0; i < golden.values.size(); ++i) {
    const std::size_t flat = i * static_cast<std::size_t>(golden.stride);
    if (const auto& row = rows.at(flat / row_size))
      worst = std::max(worst, std::abs(values[*row * row_size + flat % row_size] - golden.values[i]));
  }
  return worst / golden.magnitude();
}

void expect_paired(std::span<const ClassedBox> golden, std::span<const ClassedBox> got,
                   std::span<const std::pair<std::size_t, std::size_t>> pairs, const RcnnBounds& bounds) {
  double box = 0, score = 0;
  for (const auto& [g, k] : pairs) {
    for (std::size_t c = 0; c < 4; ++c) box = std::max(box, std::abs(golden[g].box[c] - got[k].box[c]));
    score = std::max(score, std::abs(golden[g].score - got[k].score));
  }
  std::printf(
      "  detections             %zu of %zu matched, %zu found; boxes within %.4f px, scores within %.1e\n",
      pairs.size(), golden.size(), got.size(), box, score);
  const auto enough = [&](std::size_t all) {
    return static_cast<std::size_t>(std::ceil(bounds.matched * static_cast<double>(all)));
  };
  EXPECT_GE(pairs.size(), enough(golden.size())) << "missing detections";
  EXPECT_GE(pairs.size(), enough(got.size())) << "extra detections";
  EXPECT_LE(box, bounds.box_pixels);
  EXPECT_LE(score, bounds.score);
}

MaskDifference mask_difference(const Rle& a, const Rle& b) {
  const Rle both[] = {a, b};
  const std::int64_t shared = mask_area(merge_masks(both, true)), all = mask_area(merge_masks(both, false));
  return {all == 0 ? 1 : static_cast<double>(shared) / static_cast<double>(all), all - shared};
}

}  // namespace osprey

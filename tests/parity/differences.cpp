#include "parity/differences.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

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

MaskDifference mask_difference(const Rle& a, const Rle& b) {
  const Rle both[] = {a, b};
  const std::int64_t shared = mask_area(merge_masks(both, true)), all = mask_area(merge_masks(both, false));
  return {all == 0 ? 1 : static_cast<double>(shared) / static_cast<double>(all), all - shared};
}

}  // namespace osprey

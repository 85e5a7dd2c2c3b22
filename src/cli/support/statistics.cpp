#include "cli/support/statistics.h"

#include <algorithm>
#include <numeric>

#include <fmt/core.h>

namespace osprey {
namespace {

double percentile(const std::vector<double>& sorted, double p) {
  const double at = p * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - static_cast<double>(low));
}

}  // namespace

Summary summarize(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const double sum = std::accumulate(samples.begin(), samples.end(), 0.0);
  return {samples.front(),          samples.back(),           sum / static_cast<double>(samples.size()),
          percentile(samples, 0.5), percentile(samples, 0.9), percentile(samples, 0.95),
          percentile(samples, 0.99)};
}

std::string to_text(const Summary& s) {
  return fmt::format(
      "min = {:.3f} ms, max = {:.3f} ms, mean = {:.3f} ms, median = {:.3f} ms, percentile(90%) = {:.3f} ms, "
      "percentile(95%) = {:.3f} ms, percentile(99%) = {:.3f} ms",
      s.min * 1e3, s.max * 1e3, s.mean * 1e3, s.median * 1e3, s.p90 * 1e3, s.p95 * 1e3, s.p99 * 1e3);
}

}  // namespace osprey

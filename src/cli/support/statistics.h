// Summary of timings, in the words trtexec uses.
#pragma once

#include <string>
#include <vector>

namespace osprey {

struct Summary {
  double min = 0, max = 0, mean = 0, median = 0, p90 = 0, p95 = 0, p99 = 0;
};

// Percentiles interpolate between ranks, as NumPy's do. `samples` must not be empty.
Summary summarize(std::vector<double> samples);

// "min = 1.5 ms, max = ..., mean = ..., median = ..., percentile(90%) = ..., ...", from seconds.
std::string to_text(const Summary& seconds);

}  // namespace osprey

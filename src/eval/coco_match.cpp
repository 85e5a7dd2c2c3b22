#include "eval/coco_match.h"

#include <algorithm>
#include <limits>

namespace osprey {

namespace {

// COCO's cap: a perfect overlap passes a threshold of 1.
double effective(double threshold) { return std::min(threshold, 1 - 1e-10); }

struct Candidate {
  std::uint32_t truth;
  double overlap;
};

// The pairs that can match at any threshold, by result; annotations keep their order. Most results have none.
struct Candidates {
  Candidates(std::span<const double> overlaps, std::size_t results, std::size_t truths, double lowest) {
    begin.reserve(results + 1);
    begin.push_back(0);
    for (std::size_t d = 0; d < results; ++d) {
      for (std::size_t g = 0; g < truths; ++g) {
        const double overlap = overlaps[d * truths + g];
        if (!(overlap < lowest)) all.push_back({static_cast<std::uint32_t>(g), overlap});
      }
      begin.push_back(all.size());
    }
  }
  std::span<const Candidate> of(std::size_t d) const {
    return {all.data() + begin[d], begin[d + 1] - begin[d]};
  }

  std::vector<Candidate> all;
  std::vector<std::size_t> begin;
};

constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

// The annotation that a result takes: the best overlap, among equal ones the last, and any that counts before
// any that does not.
std::size_t best_of(std::span<const Candidate> candidates, const std::vector<std::uint8_t>& ignored,
                    std::span<const TruthOfCell> truths, const std::vector<std::uint8_t>& taken,
                    double threshold) {
  for (const std::uint8_t pass : {0, 1}) {
    std::size_t best = kNone;
    double least = threshold;
    for (const auto& [g, overlap] : candidates) {
      if (ignored[g] != pass || (taken[g] && !truths[g].crowd) || overlap < least) continue;
      least = overlap;
      best = g;
    }
    if (best != kNone) return best;
  }
  return kNone;
}

}  // namespace

void match_cell(std::span<const TruthOfCell> truths, std::span<const double> result_areas,
                std::span<const double> overlaps, std::span<const double> thresholds,
                std::span<const AreaRange> areas, MatchBits* bits, std::int64_t* counted) {
  const std::size_t results = result_areas.size();
  double lowest = std::numeric_limits<double>::infinity();
  for (const double t : thresholds) lowest = std::min(lowest, effective(t));
  const Candidates candidates(overlaps, truths.empty() ? 0 : results, truths.size(), lowest);

  std::vector<std::uint8_t> ignored(truths.size()), taken(truths.size());
  const std::uint32_t every = static_cast<std::uint32_t>((std::uint64_t{1} << thresholds.size()) - 1);
  for (std::size_t a = 0; a < areas.size(); ++a) {
    const auto outside = [&](double area) { return area < areas[a].low || area > areas[a].high; };
    for (std::size_t g = 0; g < truths.size(); ++g) {
      ignored[g] = truths[g].ignored || outside(truths[g].area);
      counted[a] += !ignored[g];
    }
    for (std::size_t d = 0; d < results; ++d) bits[d * areas.size() + a] = {};
    for (std::size_t t = 0; t < thresholds.size() && !candidates.all.empty(); ++t) {
      std::fill(taken.begin(), taken.end(), std::uint8_t{0});
      for (std::size_t d = 0; d < results; ++d) {
        const std::size_t g = best_of(candidates.of(d), ignored, truths, taken, effective(thresholds[t]));
        if (g == kNone) continue;
        taken[g] = 1;
        MatchBits& out = bits[d * areas.size() + a];
        out.matched |= std::uint32_t{!truths[g].id_is_zero} << t;
        out.ignored |= std::uint32_t{ignored[g]} << t;
      }
    }
    for (std::size_t d = 0; d < results; ++d) {
      MatchBits& out = bits[d * areas.size() + a];
      if (outside(result_areas[d])) out.ignored |= every & ~out.matched;
    }
  }
}

}  // namespace osprey

#include "eval/proposal_recall.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

#include "osprey/detections.h"

namespace osprey {
namespace {

struct Object {
  Box box;
  float area;  // the file's own, which decides the size class
};

struct Scored {
  Box box;
  double score;
};

struct ImageBoxes {
  std::vector<Object> objects;
  std::vector<Scored> proposals;  // by descending score
};

struct SizeClass {
  const char* suffix;
  float low, high;
};
constexpr float kSmall = 32 * 32, kMedium = 96 * 96, kLargest = 1e5f * 1e5f;
constexpr std::array<SizeClass, 4> kSizes{
    {{"", 0, kLargest}, {"s", 0, kSmall}, {"m", kSmall, kMedium}, {"l", kMedium, kLargest}}};

Box corners(const XywhBox& b) {
  return {static_cast<float>(b[0]), static_cast<float>(b[1]), static_cast<float>(b[0] + b[2]),
          static_cast<float>(b[1] + b[3])};
}

float overlap(const Box& a, const Box& b) {
  const float w = std::max(std::min(a.x1, b.x1) - std::max(a.x0, b.x0), 0.0f),
              h = std::max(std::min(a.y1, b.y1) - std::max(a.y0, b.y0), 0.0f);
  const float common = w * h;
  return common > 0 ? common / (a.area() + b.area() - common) : 0;
}

std::map<std::int64_t, ImageBoxes> by_image(const CocoAnnotations& truth, const CocoResults& results) {
  std::map<std::int64_t, ImageBoxes> out;
  for (const CocoResult& r : results.entries)
    if (r.box) out[r.image_id].proposals.push_back({corners(*r.box), r.score});
  for (const CocoAnnotation& a : truth.annotations) {
    const auto image = out.find(a.image_id);
    if (image == out.end() || a.crowd || !a.box) continue;
    image->second.objects.push_back({corners(*a.box), static_cast<float>(a.area)});
  }
  for (auto& [id, image] : out)
    std::stable_sort(image.proposals.begin(), image.proposals.end(),
                     [](const Scored& a, const Scored& b) { return a.score > b.score; });
  return out;
}

// The overlap with which each object is covered; 0 for those that the proposals do not suffice for.
void cover(const ImageBoxes& image, const SizeClass& size, std::size_t limit, std::vector<float>& out) {
  std::vector<Box> objects;
  for (const Object& o : image.objects)
    if (o.area >= size.low && o.area <= size.high) objects.push_back(o.box);
  const std::size_t count = std::min(limit, image.proposals.size());
  std::vector<float> overlaps(count * objects.size());
  for (std::size_t p = 0; p < count; ++p)
    for (std::size_t o = 0; o < objects.size(); ++o)
      overlaps[p * objects.size() + o] = overlap(image.proposals[p].box, objects[o]);
  for (std::size_t taken = 0; taken < objects.size(); ++taken) {
    if (taken >= count) {
      out.push_back(0);
      continue;
    }
    const auto best = std::max_element(overlaps.begin(), overlaps.end());
    const auto at = static_cast<std::size_t>(best - overlaps.begin());
    const std::size_t proposal = at / objects.size(), object = at % objects.size();
    out.push_back(*best);
    for (std::size_t o = 0; o < objects.size(); ++o) overlaps[proposal * objects.size() + o] = -1;
    for (std::size_t p = 0; p < count; ++p) overlaps[p * objects.size() + object] = -1;
  }
}

double mean_recall(const std::vector<float>& covered) {
  if (covered.empty()) return -1;
  double sum = 0;
  for (int i = 0; i < 10; ++i) {
    const auto threshold = static_cast<float>(0.5 + 0.05 * i);
    const auto found =
        std::count_if(covered.begin(), covered.end(), [&](float iou) { return iou >= threshold; });
    sum += static_cast<double>(found) / static_cast<double>(covered.size());
  }
  return 100 * sum / 10;
}

}  // namespace

std::vector<ProposalRecall> proposal_recall(const CocoAnnotations& truth, const CocoResults& results) {
  const auto images = by_image(truth, results);
  std::vector<ProposalRecall> out;
  for (const std::size_t limit : {std::size_t{100}, std::size_t{1000}})
    for (const SizeClass& size : kSizes) {
      std::vector<float> covered;
      for (const auto& [id, image] : images) cover(image, size, limit, covered);
      out.push_back({fmt::format("AR{}@{}", size.suffix, limit), mean_recall(covered)});
    }
  return out;
}

std::string recall_text(const std::vector<ProposalRecall>& recall) {
  std::string out;
  for (const ProposalRecall& r : recall) out += fmt::format(" {:<8} = {:.3f}\n", r.name, r.value);
  return out;
}

}  // namespace osprey

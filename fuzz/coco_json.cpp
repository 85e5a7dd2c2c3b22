// fuzz-libs: osprey_eval
//
// Annotations and results as hostile text: reading, then every evaluation of what was read, must end in
// numbers or in osprey::Error. The input is the annotations, a byte 0, and the results.
#include <cstdint>
#include <string_view>

#include "eval/coco_eval.h"
#include "eval/confusion.h"
#include "eval/report.h"
#include "osprey/error.h"

namespace osprey {
namespace {

void evaluate_as(CocoType type, std::string_view truth_json, std::string_view results_json) {
  const CocoParts parts{.masks = type == CocoType::kSegm, .keypoints = type == CocoType::kKeypoints};
  try {
    const auto truth = parse_coco_annotations(truth_json, "truth", parts);
    // A category costs 12,000 entries of the arrays whatever the input's size: time, but no finding.
    if (truth.categories.size() > 50) return;
    const auto results = parse_coco_results(results_json, "results", truth, parts);
    summary_text(evaluate(truth, results, type));
    confusion_matrix(truth, results, type);
  } catch (const Error&) {
  }
}

}  // namespace
}  // namespace osprey

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto split = text.find('\0');
  const auto truth = text.substr(0, split);
  const auto results = split == std::string_view::npos ? "[]" : text.substr(split + 1);
  for (const auto type : {osprey::CocoType::kBbox, osprey::CocoType::kSegm, osprey::CocoType::kKeypoints}) {
    osprey::evaluate_as(type, truth, results);
  }
  return 0;
}

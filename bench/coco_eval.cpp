// bench_coco_eval ANNOTATIONS RESULTS TYPE [ARRAYS]: loads both files, evaluates, and prints one line of JSON
// with the seconds of each step and the stats. ARRAYS gets precision, recall and scores as raw doubles, for
// bench/coco_eval.py to compare with pycocotools.
#include "eval/coco_eval.h"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>

#include <fmt/format.h>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"

namespace osprey {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// From the kernel's record of this program alone; getrusage's would start with the peak of whoever started
// it.
long peak_mib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "VmHWM:") continue;
    long kib = 0;
    status >> kib;
    return kib / 1024;
  }
  return 0;
}

void run(const char* annotations, const char* results, CocoType type, const char* arrays) {
  const CocoParts parts{.masks = type == CocoType::kSegm, .keypoints = type == CocoType::kKeypoints};
  const double start = seconds();
  const auto truth = load_coco_annotations(annotations, parts);
  const double truth_loaded = seconds();
  const auto found = load_coco_results(results, truth, parts);
  const double loaded = seconds();
  const auto eval = evaluate(truth, found, type);
  const double done = seconds();

  fmt::print(
      "{{\"threads\": {}, \"load_annotations_s\": {:.3f}, \"load_results_s\": {:.3f}, \"evaluate_s\": "
      "{:.3f}, "
      "\"peak_mib\": {}, \"stats\": [{}]}}\n",
      thread_count(), truth_loaded - start, loaded - truth_loaded, done - loaded, peak_mib(),
      fmt::join(eval.stats, ", "));
  if (arrays == nullptr) return;
  AtomicFile file(arrays);
  for (const auto* values : {&eval.precision, &eval.recall, &eval.scores}) {
    file.write(std::as_bytes(std::span<const double>(*values)));
  }
  file.commit();
}

}  // namespace
}  // namespace osprey

int main(int argc, char** argv) {
  if (argc < 4) {
    fmt::print(stderr, "usage: bench_coco_eval ANNOTATIONS RESULTS bbox|segm|keypoints [ARRAYS]\n");
    return 2;
  }
  try {
    osprey::run(argv[1], argv[2], osprey::coco_type_from_name(argv[3]), argc > 4 ? argv[4] : nullptr);
    return 0;
  } catch (const osprey::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return static_cast<int>(e.code());
  }
}

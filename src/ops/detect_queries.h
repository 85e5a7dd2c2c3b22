// Detections of a DETR (DETRPostProcess of PaddleDetection): of each image the `top` best of all queries and
// classes by sigmoid score, descending, equal ones by lower query, then class. A query may be there under
// several classes; there is no threshold and no suppression.
//
// logits f32 [N*Q,K], boxes f32 [N*Q,4] (cx, cy, w, h in 0..1), geometry f32 [N,6]; `queries` is Q
//   -> boxes f32 [D,5] in network pixels, scores f32 [D], classes i32 [D], rows i32 [D]: of logits
// With a threshold at run time, only scores above it.
#pragma once

#include "graph/token_rules.h"

namespace osprey {

struct DetectQueries {
  static constexpr std::string_view kName = "detect_queries";
  int top = 100;
  int queries = 1;
  float threshold = -1;  // scores must be above
  void fields(auto&& f) { f("top", top), f("queries", queries), f("threshold", threshold); }

  std::vector<TensorType> infer(const OpInputs& in) const {
    in.expect_count(3, 3);
    in.expect(0, "logits", {DType::kF32}, {"R", "K"});
    in.expect(1, "boxes", {DType::kF32}, {"R", 4});
    in.expect(2, "geometry", {DType::kF32}, {"N", 6});
    require(images_of(kName, in.dim("R"), queries) == in.dim("N"),
            "detect_queries: {} rows of {} a query are not of {} images", to_string(in.dim("R")), queries,
            to_string(in.dim("N")));
    const std::int64_t candidates = queries * in.dim("K").constant();
    require(top >= 1 && top <= candidates, "detect_queries: {} of {} candidates", top, candidates);
    const Dim rows = rows_for_batch(in.dim("N"), top);
    return {{DType::kF32, {rows, 5}}, {DType::kF32, {rows}}, {DType::kI32, {rows}}, {DType::kI32, {rows}}};
  }
};

}  // namespace osprey

#include "parity/given_boxes.h"

#include <algorithm>

#include "engine/devices.h"
#include "ops/roi_align.h"

namespace osprey {
namespace {

constexpr const char* kGiven = "given";

// The graph with an input for the boxes of these crops.
std::shared_ptr<const Graph> with_given_boxes(const Graph& engine, const std::string& instead_of) {
  auto graph = std::make_shared<Graph>(engine);
  const ValueId own = graph->find(instead_of);
  const ValueId given = graph->add_input(kGiven, graph->value(own).type);
  for (Node& node : graph->mutable_nodes())
    if (node.op.as<RoiAlign>()) std::ranges::replace(node.inputs, own, given);
  return graph;
}

// Of one image, f32[rows,5]; behind the last, empty ones.
Tensor rois_of(const std::vector<Corners>& boxes, std::int64_t rows) {
  Tensor out = Tensor::zeros(DType::kF32, {rows, 5});
  const auto values = out.mutable_values<float>();
  for (std::size_t r = 0; r < std::min(boxes.size(), static_cast<std::size_t>(rows)); ++r)
    for (std::size_t c = 0; c < 4; ++c) values[5 * r + 1 + c] = static_cast<float>(boxes[r][c]);
  return out;
}

}  // namespace

GivenBoxesRun run_on_given_boxes(const LoadedEngine& engine, const Image& photo,
                                 const std::string& instead_of, const std::vector<Corners>& boxes,
                                 std::int64_t rows, const std::vector<std::string>& stages) {
  GivenBoxesRun out;
  const auto executor = make_executor(with_given_boxes(engine.graph(), instead_of), engine.device(),
                                      engine.data().precision, {.tuning = quick_tuning()});
  RunOptions options{.inputs = {{kGiven, rois_of(boxes, rows)}}, .wanted = stages};
  options.observe = [&](const std::string& name, const Tensor& value) {
    const bool half = value.dtype() == DType::kF16 || value.dtype() == DType::kBF16;
    out.stages.emplace(name, half ? value.to_f32() : value.copied());
  };
  const ImageView view = photo;
  executor->session()->run({&view, 1}, options);
  out.rows.resize(boxes.size());
  for (std::size_t r = 0; r < std::min(boxes.size(), static_cast<std::size_t>(rows)); ++r) out.rows[r] = r;
  return out;
}

}  // namespace osprey

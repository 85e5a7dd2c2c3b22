#include <algorithm>
#include <chrono>

#include "passes/pass.h"

namespace osprey {

const std::vector<Pass>& pipeline() {
  static const std::vector<Pass> passes{
      {"drop_dead_code", "first, so that no later pass spends time on what nobody uses", drop_dead_code},
      {"fold_constants", "before patterns are matched, which expect weights where weights are",
       fold_constants},
      {"fold_batch_norm", "into the convolution before it, which the fusions below then see bare",
       fold_batch_norm},
      {"fold_scale", "into the convolution before it, which may just have taken a normalisation in",
       fold_scale},
      {"merge_branches", "convolutions side by side become one; needs bare ones, and sums of no one else yet",
       merge_branches},
      {"fuse_residual", "a sum becomes part of its later convolution; before activations, which follow sums",
       fuse_residual},
      {"fuse_upsample", "an enlarged residual is read at its own size; needs fuse_residual", fuse_upsample},
      {"fuse_activation", "last of the fusions, since it closes a convolution", fuse_activation},
      {"fuse_squeeze_excite", "after activations are in their layers", fuse_squeeze_excite},
      {"lower_precision", "after the fusions, so that types change on what will really run", lower_precision},
      {"quantize", "on what the passes before have made of the graph, which calibration has looked at",
       quantize},
      {"drop_dead_code_again", "last: what the passes before have left without users", drop_dead_code},
  };
  return passes;
}

std::vector<PassReport> run_passes(Graph& graph, const PassOptions& options) {
  for (const std::string& name : options.disabled)
    if (std::none_of(pipeline().begin(), pipeline().end(), [&](const Pass& p) { return p.name == name; }))
      fail(ErrorCode::kUsage, "there is no pass '{}'; `osprey ops --passes` lists them", name);
  std::vector<PassReport> reports;
  for (const Pass& pass : pipeline()) {
    if (std::find(options.disabled.begin(), options.disabled.end(), pass.name) != options.disabled.end())
      continue;
    const auto start = std::chrono::steady_clock::now();
    const std::size_t before = graph.nodes().size();
    in_context(fmt::format("pass {}", pass.name), [&] {
      pass.run(graph, options);
      verify(graph);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    reports.push_back({std::string(pass.name), took.count(), before, graph.nodes().size()});
  }
  return reports;
}

}  // namespace osprey

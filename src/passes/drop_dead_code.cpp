// Removes nodes and weights that no output needs.
#include "passes/pass.h"

namespace osprey {

void drop_dead_code(Graph& graph, const PassOptions& options) { graph.compact(options.kept); }

}  // namespace osprey

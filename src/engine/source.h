// From what the user names (a checkpoint and a config, or a Model file) to a Model.
#pragma once

#include "graph/model.h"
#include "osprey/engine.h"

namespace osprey {

Model load_source(const SourceOptions& source);

// Class names from a file: one a line, or by their ids the categories of a COCO annotations file or the items
// of TensorFlow's label map (.pbtxt). Throws when they are not as many as the model's classes; ids with gaps
// may be fewer.
std::vector<Category> read_labels(const std::filesystem::path& file, std::size_t classes);

// Sets the thresholds that are given in the graph's ops.
void apply_thresholds(Graph& graph, const Thresholds& thresholds);

ImportReport report_of(const Model& model);

}  // namespace osprey

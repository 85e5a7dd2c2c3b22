// Models as ONNX files (github.com/onnx/onnx, IR version 8): what `osprey import` writes. Any ONNX viewer
// opens them. Where ONNX has an op that means exactly the same, the node is that op; elsewhere it is ours, in
// the domain "osprey", with our attributes (formats/onnx_ops.h). Values, layers and weights keep their names;
// extents such as 32*h are dim_param texts; family, description, categories, metadata and the weight account
// are metadata_props whose keys start with "osprey.".
//
// The graph that is read equals the one that was written. To run a model elsewhere it is exported instead
// (formats/onnx_export/onnx_export.h), which spells every op in ONNX's own.
#pragma once

#include <filesystem>
#include <functional>

#include "core/bytes.h"
#include "formats/source.h"
#include "graph/model.h"

namespace osprey {

// Writes the file, whole or not at all, in memory bounded by the largest weight. The same model gives the
// same bytes. `progress` is called with the fraction done.
void write_model_onnx(const std::filesystem::path& file, const Model& model,
                      const std::function<void(double)>& progress = {});

// Maps the file; weights are read when they are loaded. Throws Error(kBadInput) naming the file for anything
// but an intact file of write_model_onnx, and for other tools' ONNX files says what in them is not
// understood.
Model read_model_onnx(const std::filesystem::path& file);
Model read_model_onnx(const Source& source);

// Whether the bytes look like an ONNX file, ours or another tool's.
bool is_onnx_model(Bytes bytes);

}  // namespace osprey

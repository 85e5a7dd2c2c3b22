// The extents that a call's photos give to a graph's symbols.
#pragma once

#include <map>
#include <span>
#include <string>

#include "graph/graph.h"
#include "osprey/image.h"

namespace osprey {

// N: the photos; rh, rw: the largest height and width after resize_image; h, w: the network's input in
// multiples (ops/normalize_image.h). Only the symbols that the graph's ops bring in.
DimBindings bind_image_dims(const Graph& graph, std::span<const ImageView> photos);

// The symbols of `type` that a tensor of this shape binds, added to `bindings`; bad input, naming `what`,
// when the shape does not fit. For graphs that are fed with tensors.
void bind_dims(const TensorType& type, const std::vector<std::int64_t>& shape, std::string_view what,
               DimBindings& bindings);

// The symbols that the tensor fed to a graph's input binds; bad input when none is fed, or of another type.
void bind_input(const Graph& graph, ValueId input, const std::map<std::string, Tensor>& fed,
                DimBindings& bindings);

}  // namespace osprey

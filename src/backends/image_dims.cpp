#include "backends/image_dims.h"

#include <algorithm>

#include "backends/network_size.h"
#include "ops/normalize_image.h"

namespace osprey {

DimBindings bind_image_dims(const Graph& graph, std::span<const ImageView> photos) {
  DimBindings out{{"N", static_cast<std::int64_t>(photos.size())}};
  ImageSize largest;
  for (const Node& node : graph.nodes()) {
    if (const auto* resize = node.op.as<ResizeImage>()) {
      for (const ImageView& photo : photos) {
        require(photo.width > 0 && photo.height > 0, "photo: {}x{} pixels", photo.width, photo.height);
        const ImageSize size = network_size(*resize, photo.width, photo.height).size;
        largest = {std::max(largest.width, size.width), std::max(largest.height, size.height)};
      }
      if (resize->fills_canvas()) {
        largest = {resize->canvas_width, resize->canvas_height};
      } else {
        out["rh"] = largest.height;
        out["rw"] = largest.width;
      }
    } else if (const auto* normalize = node.op.as<NormalizeImage>();
               normalize && normalize->canvas_height == 0) {
      out["h"] = (largest.height + normalize->multiple - 1) / normalize->multiple;
      out["w"] = (largest.width + normalize->multiple - 1) / normalize->multiple;
    }
  }
  return out;
}

void bind_dims(const TensorType& type, const std::vector<std::int64_t>& shape, std::string_view what,
               DimBindings& bindings) {
  require(shape.size() == type.dims.size(), "{}: rank {} where {} is needed", what, shape.size(),
          to_string(type));
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const Dim& dim = type.dims[i];
    if (dim.kind() == Dim::Kind::kUnknown) continue;
    const std::string& symbol = dim.symbol();
    if (!symbol.empty() && !bindings.contains(symbol)) {
      const std::int64_t base = dim.evaluate({{symbol, 0}}), step = dim.evaluate({{symbol, 1}}) - base;
      require(step > 0, "{}: extent {} of {} does not bind {}", what, i, to_string(type), symbol);
      // Of a bound, the least that holds the rows.
      bindings[symbol] = (shape[i] - base + (dim.is_exact() ? 0 : step - 1)) / step;
    }
    const std::int64_t extent = dim.evaluate(bindings);
    require(dim.is_exact() ? shape[i] == extent : shape[i] <= extent, "{}: extent {} is {}, {} needs {}",
            what, i, shape[i], to_string(type), extent);
  }
}

void bind_input(const Graph& graph, ValueId input, const std::map<std::string, Tensor>& fed,
                DimBindings& bindings) {
  const Value& v = graph.value(input);
  const auto it = fed.find(v.name);
  require(it != fed.end(), "input {}: no tensor was given", v.name);
  require(it->second.dtype() == v.type.dtype, "input {}: {} where {} is needed", v.name,
          name_of(it->second.dtype()), to_string(v.type));
  bind_dims(v.type, it->second.shape(), v.name, bindings);
}

}  // namespace osprey

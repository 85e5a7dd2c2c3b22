// Tokens: the pixels of an image's maps as rows [N*T,C], all T rows of an image together.
#pragma once

#include "graph/infer.h"

namespace osprey {

// The images of a batch whose tokens these rows are, `per_image` of each.
inline Dim images_of(std::string_view op, const Dim& rows, std::int64_t per_image) {
  require(per_image >= 1, "{}: {} rows an image", op, per_image);
  Dim images = rows.floor_div(per_image);
  require(rows.is_exact() && images * per_image == rows, "{}: {} rows are no {} for each image", op,
          to_string(rows), per_image);
  return images;
}

}  // namespace osprey

// Enumerations that the ops over boxes share.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace osprey {

// The order of a box's four deltas: x, y, width, height (Detectron2) or y, x, height, width (TensorFlow).
enum class DeltaOrder : std::uint8_t { kXywh, kYxhw };
inline constexpr std::array<std::string_view, 2> kDeltaOrderNames{"xywh", "yxhw"};
constexpr const auto& enum_names(DeltaOrder) { return kDeltaOrderNames; }

// Several ops have an attribute `inclusive`: boxes hold their last pixel, as in Detectron and
// maskrcnn-benchmark, so that a side is x1 - x0 + 1, and one pixel is a box whose corners are equal. Each op
// says what that changes.

// What becomes of boxes that non-maximum suppression kept: nothing; or they are clipped to the geometry's
// extents, and those that this leaves without area are dropped before the best max_detections are taken, or
// kept.
enum class KeptClip : std::uint8_t { kNone, kDropEmpty, kKeepEmpty };
inline constexpr std::array<std::string_view, 3> kKeptClipNames{"none", "drop_empty", "keep_empty"};
constexpr const auto& enum_names(KeptClip) { return kKeptClipNames; }

}  // namespace osprey

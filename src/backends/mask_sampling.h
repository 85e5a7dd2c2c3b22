// What the rules of ops/paste_masks.h are to image/paste_mask.h.
#pragma once

#include "image/paste_mask.h"
#include "ops/paste_masks.h"

namespace osprey {

constexpr MaskSampling sampling_of(PasteRule rule) {
  switch (rule) {
    case PasteRule::kCorners:
      return MaskSampling::kCorners;
    case PasteRule::kPadded:
      return MaskSampling::kPadded;
    default:
      return MaskSampling::kCentres;
  }
}

}  // namespace osprey

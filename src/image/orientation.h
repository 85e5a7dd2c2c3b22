// EXIF's orientation tag (CIPA DC-008, tag 0x0112): how the stored picture must be turned to stand upright.
#pragma once

#include "core/bytes.h"
#include "osprey/image.h"

namespace osprey {

// The orientation, 1 to 8, in an EXIF block (a TIFF header and its first directory). A block that is damaged
// or does not say gives 1: cameras write many such, and their pixels are sound.
int exif_orientation(Bytes tiff);

// The picture upright.
Image apply_orientation(Image image, int orientation);

}  // namespace osprey

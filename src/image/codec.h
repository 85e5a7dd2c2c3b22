// The formats behind read_image and write_image (osprey/image.h), each a pair of plain functions.
//
// A decoder gets bytes whose signature it knows, checks the size before it allocates, and throws
// Error(kBadInput) without the file's name, which decode_image adds. Pixels are exactly those of Pillow's
// Image.open(file).convert("RGB"); what a format cannot say otherwise is in its own file.
#pragma once

#include <string>

#include "core/bytes.h"
#include "osprey/image.h"

namespace osprey {

// Pixels as stored, and EXIF's orientation, 1 to 8 (1: as stored).
struct Decoded {
  Image image;
  int orientation = 1;
};

Decoded decode_jpeg(Bytes file, std::int64_t max_pixels);
Decoded decode_png(Bytes file, std::int64_t max_pixels);
Decoded decode_bmp(Bytes file, std::int64_t max_pixels);

// decode_image with a limit of its own, for callers that must stay small.
Image decode_image(Bytes file, const std::string& name, std::int64_t max_pixels);

std::string encode_jpeg(ImageView image, int quality);
std::string encode_png(ImageView image);

// Throws when there is no pixel, or more than max_pixels.
void require_size(std::int64_t width, std::int64_t height, std::int64_t max_pixels);

}  // namespace osprey

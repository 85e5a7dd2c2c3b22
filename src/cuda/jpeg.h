// JPEG files decoded by the GPU, with nvJPEG, which is opened at run time.
//
// The exact reference is read_image (osprey/image.h), whose pixels are libjpeg-turbo's. nvJPEG rounds its
// transforms and enlarges chroma otherwise, so pixels differ by a few levels, and scores by some thousandths:
// this decoder is used only where it was asked for. tests/cuda/jpeg_test.cpp has the differences.
#pragma once

#include <memory>

#include "core/bytes.h"
#include "cuda/device_buffer.h"
#include "osprey/image.h"

namespace osprey {

// Whether a file is a JPEG of the kinds for which both decoders mean the same picture: grey or YCbCr of 8
// bits, Huffman-coded, and upright as it is stored. Others (CMYK, arithmetic coding, turned by EXIF) are for
// read_image. A file that is damaged may get either answer.
bool gpu_decodes(Bytes jpeg);

// Not thread-safe: one a thread. Works on the device that is current when it is made.
class GpuJpegDecoder {
 public:
  GpuJpegDecoder();  // Error(kDevice) when there is no nvJPEG
  ~GpuJpegDecoder();
  GpuJpegDecoder(const GpuJpegDecoder&) = delete;
  GpuJpegDecoder& operator=(const GpuJpegDecoder&) = delete;

  // A file that gpu_decodes(), into `memory` on the device, which grows where it is too small; the pixels are
  // there when this returns. The view's pixels are device memory, as sessions on the GPU take them.
  // Error(kBadInput) without the file's name when it is damaged or too large.
  ImageView decode(Bytes jpeg, DeviceBuffer& memory);

 private:
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace osprey

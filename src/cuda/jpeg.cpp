#include "cuda/jpeg.h"

#include <array>
#include <string_view>

#include <cuda_runtime_api.h>

#include "core/error.h"
#include "cuda/check.h"
#include "cuda/runtime_library.h"
#include "image/codec.h"
#include "image/orientation.h"

namespace osprey {
namespace {

// What we call of nvJPEG's C interface (versions 12 and 13), declared here so that it is not needed to build.
namespace nvjpeg {
using Handle = struct HandleData*;
using State = struct StateData*;
constexpr int kMaxComponents = 4, kInterleavedRgb = 5, kDefaultBackend = 0;
constexpr unsigned kInterpolateChroma = 1u << 5;  // as libjpeg's fancy upsampling does, but for the rounding
constexpr int kSuccess = 0, kBadJpeg = 3, kNotSupported = 4, kOutOfMemory = 5, kNotImplemented = 9,
              kIncomplete = 10;

struct Picture {
  unsigned char* channel[kMaxComponents];
  std::size_t pitch[kMaxComponents];
};
using CreateEx = int(int backend, void* device_allocator, void* pinned_allocator, unsigned flags, Handle*);
using Destroy = int(Handle);
using StateCreate = int(Handle, State*);
using StateDestroy = int(State);
using GetImageInfo = int(Handle, const unsigned char* data, std::size_t size, int* components,
                         int* subsampling, int* widths, int* heights);
using Decode = int(Handle, State, const unsigned char* data, std::size_t size, int format, Picture*,
                   cudaStream_t);
}  // namespace nvjpeg

RuntimeLibrary open_library() {
  try {
    return {"nvJPEG", "libnvjpeg.so.13"};
  } catch (const Error&) {
    return {"nvJPEG", "libnvjpeg.so.12"};
  }
}

void nvjpeg_check(int status, std::string_view what) {
  switch (status) {
    case nvjpeg::kSuccess:
      return;
    case nvjpeg::kBadJpeg:
    case nvjpeg::kNotSupported:
    case nvjpeg::kNotImplemented:
    case nvjpeg::kIncomplete:
      bad_input(
          "JPEG: nvJPEG cannot decode it ({}, status {}); it is damaged, or the CPU's decoder is needed",
          what, status);
    case nvjpeg::kOutOfMemory:
      fail(ErrorCode::kDevice, "nvJPEG: the GPU is out of memory ({})", what);
    default:
      fail(ErrorCode::kDevice, "nvJPEG: {} failed with status {}", what, status);
  }
}

// The segments before the first scan: marker and payload.
class Segments {
 public:
  explicit Segments(Bytes file) : rest_(file.size() > 2 ? file.subspan(2) : Bytes{}) {}

  // False at the first scan, or where the file ends or makes no sense.
  bool next(int& marker, Bytes& payload) {
    while (!rest_.empty() && byte(0) != 0xff) rest_ = rest_.subspan(1);
    while (rest_.size() > 1 && byte(1) == 0xff) rest_ = rest_.subspan(1);
    if (rest_.size() < 4) return false;
    marker = byte(1);
    const std::size_t length = static_cast<std::size_t>(byte(2)) << 8 | static_cast<std::size_t>(byte(3));
    if (marker == kScan || marker == kEnd || length < 2 || rest_.size() < 2 + length) return false;
    payload = rest_.subspan(4, length - 2);
    rest_ = rest_.subspan(2 + length);
    return true;
  }

 private:
  static constexpr int kScan = 0xda, kEnd = 0xd9;
  int byte(std::size_t i) const { return std::to_integer<int>(rest_[i]); }
  Bytes rest_;
};

constexpr int kBaseline = 0xc0, kExtended = 0xc1, kProgressive = 0xc2;
constexpr int kApp1 = 0xe1, kApp14 = 0xee;

bool is_frame(int marker) {  // of any coding: SOF0 to SOF15 without DHT, JPG and DAC
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

// SOF: precision, height (2), width (2), components, and three bytes for each.
bool is_plain_frame(int marker, Bytes frame) {
  if (frame.size() < 6 || (marker != kBaseline && marker != kExtended && marker != kProgressive))
    return false;
  const int precision = std::to_integer<int>(frame[0]), components = std::to_integer<int>(frame[5]);
  if (precision != 8 || (components != 1 && components != 3)) return false;
  return components == 1 || frame.size() >= 6 + 3 * 3;
}

// libjpeg takes three components for RGB where Adobe's marker says so, and without one and without JFIF's,
// where they are named R, G and B.
bool is_named_rgb(Bytes frame) {
  return frame.size() >= 15 && std::to_integer<char>(frame[6]) == 'R' &&
         std::to_integer<char>(frame[9]) == 'G' && std::to_integer<char>(frame[12]) == 'B';
}

}  // namespace

bool gpu_decodes(Bytes jpeg) {
  constexpr std::string_view kExif{"Exif\0\0", 6}, kAdobe{"Adobe"};
  constexpr std::size_t kTransform = 11;  // in Adobe's marker: 0 for RGB, 1 for YCbCr
  if (!as_text(jpeg).starts_with("\xff\xd8\xff")) return false;
  Segments segments(jpeg);
  bool frame = false;
  int marker = 0;
  for (Bytes payload; segments.next(marker, payload);) {
    if (is_frame(marker)) {
      if (frame || !is_plain_frame(marker, payload) || is_named_rgb(payload)) return false;
      frame = true;
    } else if (marker == kApp1 && as_text(payload).starts_with(kExif)) {
      if (exif_orientation(payload.subspan(kExif.size())) != 1) return false;
    } else if (marker == kApp14 && as_text(payload).starts_with(kAdobe)) {
      if (payload.size() <= kTransform || std::to_integer<int>(payload[kTransform]) != 1) return false;
    }
  }
  return frame;
}

struct GpuJpegDecoder::Library {
  nvjpeg::CreateEx* create = nullptr;
  nvjpeg::Destroy* destroy = nullptr;
  nvjpeg::StateCreate* create_state = nullptr;
  nvjpeg::StateDestroy* destroy_state = nullptr;
  nvjpeg::GetImageInfo* image_info = nullptr;
  nvjpeg::Decode* decode = nullptr;
  nvjpeg::Handle handle = nullptr;
  nvjpeg::State state = nullptr;
  cudaStream_t stream = nullptr;

  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    if (state) destroy_state(state);
    if (handle) destroy(handle);
    if (stream) cudaStreamDestroy(stream);
  }

  void start() {
    const RuntimeLibrary library = open_library();
    library.bind(create, "nvjpegCreateEx");
    library.bind(destroy, "nvjpegDestroy");
    library.bind(create_state, "nvjpegJpegStateCreate");
    library.bind(destroy_state, "nvjpegJpegStateDestroy");
    library.bind(image_info, "nvjpegGetImageInfo");
    library.bind(decode, "nvjpegDecode");
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a CUDA stream");
    nvjpeg_check(create(nvjpeg::kDefaultBackend, nullptr, nullptr, nvjpeg::kInterpolateChroma, &handle),
                 "starting");
    nvjpeg_check(create_state(handle, &state), "starting");
  }
};

GpuJpegDecoder::GpuJpegDecoder() : library_(std::make_unique<Library>()) { library_->start(); }
GpuJpegDecoder::~GpuJpegDecoder() = default;

ImageView GpuJpegDecoder::decode(Bytes jpeg, DeviceBuffer& memory) {
  const auto* const data = reinterpret_cast<const unsigned char*>(jpeg.data());
  const Library& lib = *library_;
  int components = 0, subsampling = 0;
  std::array<int, nvjpeg::kMaxComponents> widths{}, heights{};
  nvjpeg_check(
      lib.image_info(lib.handle, data, jpeg.size(), &components, &subsampling, widths.data(), heights.data()),
      "reading its header");
  require_size(widths[0], heights[0], kMaxImagePixels);
  const std::size_t pitch = static_cast<std::size_t>(widths[0]) * 3;
  if (const std::size_t bytes = pitch * static_cast<std::size_t>(heights[0]); memory.size() < bytes) {
    memory = {};  // the old one first: both may not fit
    memory = DeviceBuffer(bytes);
  }
  nvjpeg::Picture picture{{memory.as<unsigned char>()}, {pitch}};
  nvjpeg_check(
      lib.decode(lib.handle, lib.state, data, jpeg.size(), nvjpeg::kInterleavedRgb, &picture, lib.stream),
      "decoding");
  cuda_check(cudaStreamSynchronize(lib.stream), "decoding a JPEG");
  return {memory.as<std::uint8_t>(), widths[0], heights[0], static_cast<std::ptrdiff_t>(pitch)};
}

}  // namespace osprey

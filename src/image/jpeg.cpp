// JPEG by libjpeg-turbo with its defaults (accurate integer DCT, fancy upsampling), as Pillow runs it.
//
// Like Pillow: a file that ends early is an error, while corrupt entropy data and the like, which libjpeg
// reports as warnings, are decoded as far as they go; four components are taken for Adobe's inverted CMYK.
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE
#include <cstdlib>
#include <memory>

#include <jerror.h>
#include <jpeglib.h>

#include "image/codec.h"
#include "image/orientation.h"

namespace osprey {
namespace {

constexpr std::string_view kExifHeader{"Exif\0\0", 6};
constexpr int kMaxScans = 500;  // real progressive files have about ten; a bomb has thousands

// libjpeg's error handling: it must not return to libjpeg, and it may not throw through C, so it jumps.
struct ErrorManager : jpeg_error_mgr {
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX] = {};

  ErrorManager() : jpeg_error_mgr{} {
    jpeg_std_error(this);
    error_exit = [](j_common_ptr info) {
      auto* self = static_cast<ErrorManager*>(info->err);
      self->format_message(info, self->message);
      std::longjmp(self->jump, 1);
    };
    output_message = [](j_common_ptr) {};
  }

  // Runs calls of libjpeg; an error inside becomes an exception here. Whatever lives inside `steps` is
  // skipped by the jump, so it may own nothing.
  template <class Steps>
  void guard(Steps steps) {
    if (setjmp(jump) != 0) bad_input("JPEG: {}", static_cast<const char*>(message));
    steps();
  }
};

// The bytes of the file; asking for more than there are is an error.
struct MemorySource : jpeg_source_mgr {
  explicit MemorySource(Bytes file) : jpeg_source_mgr{} {
    next_input_byte = reinterpret_cast<const JOCTET*>(file.data());
    bytes_in_buffer = file.size();
    init_source = [](j_decompress_ptr) {};
    term_source = [](j_decompress_ptr) {};
    fill_input_buffer = [](j_decompress_ptr decoder) -> boolean {
      ERREXIT(decoder, JERR_INPUT_EOF);
      return FALSE;
    };
    resync_to_restart = jpeg_resync_to_restart;
    skip_input_data = [](j_decompress_ptr info, long count) {
      if (count <= 0) return;
      jpeg_source_mgr& src = *info->src;
      if (static_cast<std::size_t>(count) > src.bytes_in_buffer) ERREXIT(info, JERR_INPUT_EOF);
      src.next_input_byte += count;
      src.bytes_in_buffer -= static_cast<std::size_t>(count);
    };
  }
};

struct ScanLimit : jpeg_progress_mgr {
  ScanLimit() : jpeg_progress_mgr{} {
    progress_monitor = [](j_common_ptr info) {
      if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans)
        ERREXIT1(info, JERR_BAD_PROGRESSION, kMaxScans);
    };
  }
};

struct Decompressor {
  ErrorManager errors;
  MemorySource source;
  ScanLimit scans;
  jpeg_decompress_struct info{};

  explicit Decompressor(Bytes file) : source(file) {
    info.err = &errors;
    errors.guard([this] { jpeg_create_decompress(&info); });
    info.src = &source;
    info.progress = &scans;
  }
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;
  ~Decompressor() { jpeg_destroy_decompress(&info); }
};

int find_orientation(const jpeg_decompress_struct& info) {
  for (auto* marker = info.marker_list; marker; marker = marker->next) {
    const Bytes data{reinterpret_cast<const std::byte*>(marker->data), marker->data_length};
    if (as_text(data).starts_with(kExifHeader)) return exif_orientation(data.subspan(kExifHeader.size()));
  }
  return 1;
}

// round(a * b / 255), the way Pillow's conversion from CMYK computes it.
int scale_255(int a, int b) {
  const int product = a * b + 128;
  return ((product >> 8) + product) >> 8;
}

// One row of inverted CMYK (255 is no ink) to RGB.
void cmyk_to_rgb(const JSAMPLE* cmyk, std::uint8_t* rgb, int width) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3)
    for (int c = 0; c < 3; ++c)
      rgb[c] = static_cast<std::uint8_t>(cmyk[3] - scale_255(255 - cmyk[c], cmyk[3]));
}

void read_rows(Decompressor& jpeg, Image& image) {
  const bool cmyk = jpeg.info.out_color_space == JCS_CMYK;
  std::vector<JSAMPLE> inks(cmyk ? static_cast<std::size_t>(image.width) * 4 : 0);
  while (jpeg.info.output_scanline < jpeg.info.output_height) {
    std::uint8_t* to = image.row(static_cast<int>(jpeg.info.output_scanline));
    JSAMPROW row = cmyk ? inks.data() : to;
    jpeg.errors.guard([&] { jpeg_read_scanlines(&jpeg.info, &row, 1); });
    if (cmyk) cmyk_to_rgb(inks.data(), to, image.width);
  }
}

struct Compressor {
  ErrorManager errors;
  jpeg_compress_struct info{};
  unsigned char* buffer = nullptr;
  unsigned long size = 0;

  Compressor() {
    info.err = &errors;
    errors.guard([this] {
      jpeg_create_compress(&info);
      jpeg_mem_dest(&info, &buffer, &size);
    });
  }
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;
  ~Compressor() {
    jpeg_destroy_compress(&info);
    std::free(buffer);
  }
};

}  // namespace

Decoded decode_jpeg(Bytes file, std::int64_t max_pixels) {
  Decompressor jpeg(file);
  jpeg_decompress_struct& info = jpeg.info;
  jpeg.errors.guard([&] {
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&info, TRUE);
  });
  require_size(info.image_width, info.image_height, max_pixels);
  require(info.num_components == 1 || info.num_components == 3 || info.num_components == 4,
          "JPEG: {} components; 1, 3 and 4 are supported", info.num_components);
  info.out_color_space = info.num_components == 4 ? JCS_CMYK : JCS_RGB;
  jpeg.errors.guard([&] { jpeg_start_decompress(&info); });

  Decoded out{Image(static_cast<int>(info.output_width), static_cast<int>(info.output_height)),
              find_orientation(info)};
  read_rows(jpeg, out.image);
  return out;
}

std::string encode_jpeg(ImageView image, int quality) {
  Compressor jpeg;
  jpeg_compress_struct& info = jpeg.info;
  jpeg.errors.guard([&] {
    info.image_width = static_cast<JDIMENSION>(image.width);
    info.image_height = static_cast<JDIMENSION>(image.height);
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    // 4:4:4: thin lines keep their colour.
    info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&info, TRUE);
    for (int y = 0; y < image.height; ++y) {
      JSAMPROW row = const_cast<JSAMPLE*>(image.row(y));
      jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
  });
  return {reinterpret_cast<const char*>(jpeg.buffer), jpeg.size};
}

}  // namespace osprey

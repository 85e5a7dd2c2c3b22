// PNG by libpng. As Pillow's convert("RGB"): alpha and tRNS are dropped, not blended; gamma is ignored;
// 16-bit colour (and grey with alpha) keeps the high byte; plain 16-bit grey is clipped to 255, not scaled.
#include <algorithm>
#include <csetjmp>
#include <cstring>

#include <png.h>

#include "image/codec.h"
#include "image/orientation.h"

namespace osprey {
namespace {

// Of zlib's 9: half again faster than the default 6 for a few per cent more bytes.
constexpr int kCompression = 3;

// A libpng object with its error state. libpng may not be left by an exception, so its errors jump to
// guard().
class PngBase {
 public:
  PngBase(const PngBase&) = delete;
  PngBase& operator=(const PngBase&) = delete;

  // Runs calls of libpng; an error inside becomes an exception here. Whatever lives inside `steps` is skipped
  // by the jump, so it may own nothing.
  template <class Steps>
  void guard(Steps steps) {
    if (setjmp(jump_) != 0) bad_input("PNG: {}", static_cast<const char*>(message_));
    steps();
  }

 protected:
  PngBase() = default;
  ~PngBase() = default;

  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    auto* self = static_cast<PngBase*>(png_get_error_ptr(png));
    std::strncpy(self->message_, text, sizeof(message_) - 1);
    std::longjmp(self->jump_, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}

 private:
  std::jmp_buf jump_;
  char message_[256] = {};
};

struct PngReader : PngBase {
  png_structp png = nullptr;
  png_infop info = nullptr;
  Bytes rest;  // what libpng has not taken yet

  explicit PngReader(Bytes file) : rest(file) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, static_cast<PngBase*>(this), on_error, on_warning);
    if (png) info = png_create_info_struct(png);
    if (!info) fail_to_create();
    png_set_read_fn(png, this, [](png_structp p, png_bytep to, std::size_t size) {
      auto* self = static_cast<PngReader*>(png_get_io_ptr(p));
      if (size > self->rest.size()) png_error(p, "the file ends too early");
      std::memcpy(to, self->rest.data(), size);
      self->rest = self->rest.subspan(size);
    });
  }
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }

 private:
  [[noreturn]] void fail_to_create() {
    png_destroy_read_struct(&png, &info, nullptr);
    fail(ErrorCode::kInternal, "PNG: libpng cannot start; is its version {}?", PNG_LIBPNG_VER_STRING);
  }
};

struct PngWriter : PngBase {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string out;

  PngWriter() {
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, static_cast<PngBase*>(this), on_error, on_warning);
    if (png) info = png_create_info_struct(png);
    if (!info) fail_to_create();
    png_set_write_fn(png, this, append, nullptr);
  }
  ~PngWriter() { png_destroy_write_struct(&png, &info); }

 private:
  static void append(png_structp p, png_bytep data, std::size_t size) {
    auto* self = static_cast<PngWriter*>(png_get_io_ptr(p));
    try {
      self->out.append(reinterpret_cast<const char*>(data), size);
      return;
    } catch (const std::bad_alloc&) {
    }
    png_error(p, "out of memory");
  }
  [[noreturn]] void fail_to_create() {
    png_destroy_write_struct(&png, &info);
    fail(ErrorCode::kInternal, "PNG: libpng cannot start; is its version {}?", PNG_LIBPNG_VER_STRING);
  }
};

// Grey of 16 bits, most significant byte first, two bytes a pixel at the start of the row, to RGB in place.
void clip_grey16(std::uint8_t* row, int width) {
  for (int x = width - 1; x >= 0; --x) {
    const std::ptrdiff_t i = x;
    const std::uint8_t value = row[2 * i] ? 255 : row[2 * i + 1];
    std::fill_n(row + 3 * i, 3, value);
  }
}

int find_orientation(PngReader& reader) {
  png_bytep exif = nullptr;
  png_uint_32 size = 0;
  if (png_get_eXIf_1(reader.png, reader.info, &size, &exif) == 0) return 1;
  return exif_orientation({reinterpret_cast<const std::byte*>(exif), size});
}

}  // namespace

Decoded decode_png(Bytes file, std::int64_t max_pixels) {
  PngReader reader(file);
  png_structp png = reader.png;
  png_infop info = reader.info;
  reader.guard([&] {
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);  // ours is on the product
    png_set_option(png, PNG_SKIP_sRGB_CHECK_PROFILE, PNG_OPTION_ON);
    png_read_info(png, info);
  });
  const png_uint_32 width = png_get_image_width(png, info), height = png_get_image_height(png, info);
  require_size(width, height, max_pixels);

  const int type = png_get_color_type(png, info);
  const bool grey16 = type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) == 16;
  reader.guard([&] {
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (!grey16) {
      png_set_strip_16(png);
      if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
      if (!(type & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png);
    }
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
  });
  const std::size_t expected = std::size_t{width} * (grey16 ? 2 : 3);
  check(png_get_rowbytes(png, info) == expected, "PNG: rows of {} bytes, not {}", png_get_rowbytes(png, info),
        expected);

  Decoded out{Image(static_cast<int>(width), static_cast<int>(height))};
  std::vector<png_bytep> rows(height);
  for (int y = 0; y < out.image.height; ++y) rows[static_cast<std::size_t>(y)] = out.image.row(y);
  reader.guard([&] {
    png_read_image(png, rows.data());
    png_read_end(png, info);  // an eXIf chunk may follow the pixels
  });
  if (grey16)
    for (png_bytep row : rows) clip_grey16(row, out.image.width);
  out.orientation = find_orientation(reader);
  return out;
}

std::string encode_png(ImageView image) {
  PngWriter writer;
  png_structp png = writer.png;
  png_infop info = writer.info;
  writer.guard([&] {
    png_set_compression_level(png, kCompression);
    png_set_IHDR(png, info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height), 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < image.height; ++y) png_write_row(png, image.row(y));
    png_write_end(png, info);
  });
  return std::move(writer.out);
}

}  // namespace osprey

#include "image/codec.h"

#include <algorithm>
#include <string_view>

#include "core/file.h"
#include "image/orientation.h"

namespace osprey {
namespace {

using Decoder = Decoded (*)(Bytes, std::int64_t);

struct Format {
  std::string_view signature;
  Decoder decode;
};

constexpr Format kFormats[] = {
    {"\xff\xd8\xff", decode_jpeg},
    {"\x89PNG\r\n\x1a\n", decode_png},
    {"BM", decode_bmp},
};

Decoder find_decoder(Bytes file) {
  for (const Format& format : kFormats)
    if (as_text(file).starts_with(format.signature)) return format.decode;
  bad_input("not a JPEG, PNG or BMP file ({} bytes, and none of their signatures); convert it to one of them",
            file.size());
}

}  // namespace

void require_size(std::int64_t width, std::int64_t height, std::int64_t max_pixels) {
  require(width > 0 && height > 0, "an image of {} x {} pixels", width, height);
  require(width <= max_pixels / height,
          "{} x {} pixels are more than the {} that are read here; scale it down", width, height, max_pixels);
}

Image decode_image(Bytes file, const std::string& name, std::int64_t max_pixels) {
  return in_context(name, [&] {
    Decoded decoded = find_decoder(file)(file, max_pixels);
    return apply_orientation(std::move(decoded.image), decoded.orientation);
  });
}

Image decode_image(const std::uint8_t* data, std::size_t size, const std::string& name) {
  return decode_image({reinterpret_cast<const std::byte*>(data), size}, name, kMaxImagePixels);
}

Image read_image(const std::filesystem::path& file) {
  return decode_image(MappedFile::open(file)->bytes(), file.string(), kMaxImagePixels);
}

void write_image(const std::filesystem::path& file, ImageView image) {
  constexpr int kQuality = 90;
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (extension == ".png") return write_file(file, encode_png(image));
  if (extension == ".jpg" || extension == ".jpeg") return write_file(file, encode_jpeg(image, kQuality));
  fail(ErrorCode::kUsage, "{}: pictures are written as .png or .jpg, not '{}'", file.string(), extension);
}

}  // namespace osprey

#include "formats/source.h"

#include "core/file.h"

namespace osprey {

Source open_source(const std::filesystem::path& file) {
  auto map = MappedFile::open(file);
  const Bytes bytes = map->bytes();
  return {.name = file.string(), .bytes = bytes, .owner = std::move(map)};
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  for (const char c : text.substr(0, limit)) {
    if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (text.size() > limit) out += "...";
  return out;
}

}  // namespace osprey

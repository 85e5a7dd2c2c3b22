#include "formats/onnx_wire.h"

namespace osprey {
namespace {

void append_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(0x80 | (value & 0x7f)));
  out.push_back(static_cast<char>(value));
}

}  // namespace

std::uint64_t WireReader::varint() {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = in_.read<std::uint8_t>();
    const std::uint64_t bits = byte & 0x7fu;
    require(shift < 63 || bits <= 1, "{}: a number of more than 64 bits at offset {}", what_, in_.offset());
    value |= bits << shift;
    if (byte < 0x80) return value;
  }
  bad_input("{}: a number without an end at offset {}", what_, in_.offset());
}

std::optional<WireField> WireReader::next() {
  if (in_.done()) return std::nullopt;
  const std::size_t begin = in_.offset();
  const std::uint64_t tag = varint();
  const auto type = static_cast<unsigned>(tag & 7);
  require(type == 0 || type == 1 || type == 2 || type == 5, "{}: wire type {} at offset {}", what_, type,
          begin);
  require(tag >> 3 >= 1 && tag >> 3 <= 0x1fffffff, "{}: field number {} at offset {}", what_, tag >> 3,
          begin);
  WireField out{.number = static_cast<std::uint32_t>(tag >> 3), .type = static_cast<WireField::Type>(type)};
  switch (out.type) {
    case WireField::Type::kVarint:
      out.varint = varint();
      break;
    case WireField::Type::kFixed64:
      out.payload = in_.take(8);
      break;
    case WireField::Type::kFixed32:
      out.payload = in_.take(4);
      break;
    case WireField::Type::kBytes: {
      const std::uint64_t size = varint();
      out.payload = in_.take(size);
      break;
    }
  }
  out.whole = message_.subspan(begin, in_.offset() - begin);
  return out;
}

std::string wire_head(std::uint32_t number, std::uint64_t size) {
  std::string out;
  append_varint(out, std::uint64_t{number} << 3 | static_cast<unsigned>(WireField::Type::kBytes));
  append_varint(out, size);
  return out;
}

}  // namespace osprey

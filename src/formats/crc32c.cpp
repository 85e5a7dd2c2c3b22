#include "formats/crc32c.h"

#include <array>

namespace osprey {
namespace {

// Eight bytes a step: kTables[i][b] is the remainder of byte b with i zero bytes behind it.
using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables kTables = [] {
  constexpr std::uint32_t kPolynomial = 0x82f63b78;  // reflected
  Tables out{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = remainder >> 1 ^ (remainder & 1 ? kPolynomial : 0);
    out[0][byte] = remainder;
  }
  for (std::size_t i = 1; i < out.size(); ++i)
    for (std::size_t byte = 0; byte < 256; ++byte)
      out[i][byte] = out[i - 1][byte] >> 8 ^ out[0][out[i - 1][byte] & 0xff];
  return out;
}();

std::uint32_t byte_at(std::uint64_t word, int i) {
  return static_cast<std::uint32_t>(word >> (8 * i)) & 0xff;
}

}  // namespace

std::uint32_t crc32c(Bytes bytes, std::uint32_t crc) {
  crc = ~crc;
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    word ^= crc;
    crc = 0;
    for (int i = 0; i < 8; ++i) crc ^= kTables[static_cast<std::size_t>(7 - i)][byte_at(word, i)];
  }
  for (const std::byte byte : bytes)
    crc = crc >> 8 ^ kTables[0][(crc ^ static_cast<std::uint32_t>(byte)) & 0xff];
  return ~crc;
}

}  // namespace osprey

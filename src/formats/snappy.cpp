#include "formats/snappy.h"

namespace osprey {
namespace {

// A copy of 64 bytes takes three.
constexpr std::uint64_t kMaxRatio = 22;

std::uint32_t little_endian(ByteReader& in, unsigned bytes) {
  std::uint32_t out = 0;
  for (unsigned i = 0; i < bytes; ++i) out |= std::uint32_t{in.read<std::uint8_t>()} << (8 * i);
  return out;
}

std::uint32_t read_size(ByteReader& in) {
  std::uint32_t out = 0;
  for (unsigned shift = 0; shift < 35; shift += 7) {
    const auto byte = in.read<std::uint8_t>();
    require(shift < 28 || byte < 16, "snappy: a size of more than 32 bits");
    out |= std::uint32_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return out;
  }
  bad_input("snappy: a size without an end");
}

// The output, which never grows past what the block says it holds.
class Output {
 public:
  explicit Output(std::size_t size) : bytes_(size) {}

  void literal(Bytes data) {
    make_room(data.size());
    std::memcpy(bytes_.data() + at_, data.data(), data.size());
    at_ += data.size();
  }

  // Byte by byte: a copy may reach into what it writes itself, which repeats it.
  void copy(std::size_t offset, std::size_t size) {
    require(offset >= 1 && offset <= at_, "snappy: a copy from {} bytes back after {} bytes", offset, at_);
    make_room(size);
    for (std::size_t i = 0; i < size; ++i) bytes_[at_ + i] = bytes_[at_ + i - offset];
    at_ += size;
  }

  std::vector<std::byte> take() {
    require(at_ == bytes_.size(), "snappy: {} bytes of {} (is it truncated?)", at_, bytes_.size());
    return std::move(bytes_);
  }

 private:
  void make_room(std::size_t size) const {
    require(size <= bytes_.size() - at_, "snappy: more than the {} bytes it should hold", bytes_.size());
  }

  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

void run_element(ByteReader& in, Output& out) {
  const auto tag = in.read<std::uint8_t>();
  const unsigned length = tag >> 2;
  switch (tag & 3) {
    case 0: {  // a literal; lengths from 60 say how many bytes of length follow
      const std::uint64_t size = length < 60 ? length : little_endian(in, length - 59);
      out.literal(in.take(size + 1));
      return;
    }
    case 1:
      out.copy(std::size_t{tag & 0xe0u} << 3 | in.read<std::uint8_t>(), 4 + (length & 7));
      return;
    case 2:
      out.copy(little_endian(in, 2), length + 1);
      return;
    default:
      out.copy(little_endian(in, 4), length + 1);
  }
}

}  // namespace

std::vector<std::byte> snappy_decompress(Bytes block, std::size_t limit) {
  ByteReader in(block, "snappy");
  const std::uint32_t size = read_size(in);
  require(size <= limit, "snappy: {} bytes are more than the {} that are read", size, limit);
  require(size <= kMaxRatio * block.size(), "snappy: {} bytes cannot hold {}", block.size(), size);
  Output out(size);
  while (!in.done()) run_element(in, out);
  return out.take();
}

}  // namespace osprey

#include "formats/sorted_table.h"

#include <optional>
#include <string>
#include <vector>

#include "formats/snappy.h"

namespace osprey {
namespace {

constexpr std::uint64_t kMagic = 0xdb4775248b80fb57;
constexpr std::size_t kFooter = 48, kTrailer = 5;
constexpr std::size_t kMaxBlock = std::size_t{64} << 20;
constexpr std::size_t kMaxKey = 4096;

// Where a block lies, without its trailer of type and checksum.
struct Place {
  std::uint64_t offset = 0, size = 0;
};

std::uint64_t varint(ByteReader& in) {
  std::uint64_t out = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = in.read<std::uint8_t>();
    require(shift < 63 || byte <= 1, "table: a number of more than 64 bits");
    out |= std::uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return out;
  }
  bad_input("table: a number without an end");
}

Place read_place(ByteReader& in) {
  const std::uint64_t offset = varint(in);
  return {offset, varint(in)};
}

// A block's contents: borrowed from the file, or decompressed.
class Block {
 public:
  Block(Bytes file, const Place& place, Checksums checksums) {
    const std::string what = fmt::format("the block at byte {}", place.offset);
    require(place.size <= kMaxBlock, "{}: {} bytes are more than the {} that are read", what, place.size,
            kMaxBlock);
    const Bytes stored = slice(file, place.offset, place.size, what);
    ByteReader trailer(slice(file, place.offset + place.size, kTrailer, what), what);
    const auto type = trailer.read<std::uint8_t>();
    const auto expected = trailer.read<std::uint32_t>();
    const std::uint32_t found = masked_crc32c(crc32c(slice(file, place.offset, place.size + 1, what)));
    require(found == expected || checksums == Checksums::kIgnore,
            "{}: its checksum is {:08x}, but {:08x} is stored (is the file damaged?)", what, found, expected);
    require(type <= 1, "{}: compressed in way {}, which is not read (none or Snappy)", what, type);
    if (type == 1) unpacked_ = in_context(what, [&] { return snappy_decompress(stored, kMaxBlock); });
    bytes_ = type == 1 ? Bytes(unpacked_) : stored;
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // The entries, without the offsets of restarts behind them, which are for searching.
  Bytes entries() const {
    require(bytes_.size() >= 4, "a block of {} bytes", bytes_.size());
    std::uint32_t restarts = 0;
    std::memcpy(&restarts, bytes_.data() + bytes_.size() - 4, sizeof restarts);
    const std::uint64_t tail = 4 + 4 * std::uint64_t{restarts};
    require(tail <= bytes_.size(), "a block of {} bytes with {} restarts", bytes_.size(), restarts);
    return bytes_.first(bytes_.size() - tail);
  }

 private:
  std::vector<std::byte> unpacked_;
  Bytes bytes_;
};

// `last`: the key before the block's first one, if there is one.
void read_block(Bytes entries, std::optional<std::string>& last, const TakeEntry& take) {
  ByteReader in(entries, "block");
  std::string key;  // the first one shares nothing
  while (!in.done()) {
    const std::uint64_t shared = varint(in), own = varint(in), size = varint(in);
    require(shared <= key.size(), "a key that shares {} bytes with one of {}", shared, key.size());
    require(own <= kMaxKey - shared, "a key of {} + {} bytes", shared, own);
    key.resize(shared);
    key += as_text(in.take(own));
    require(!last || *last < key, "keys that do not ascend");
    take(key, in.take(size));
    last = key;
  }
}

Place index_place(Bytes file) {
  ByteReader footer(slice(file, file.size() - kFooter, kFooter, "footer"), "footer");
  read_place(footer);  // of the metaindex, which is empty in these files
  return read_place(footer);
}

}  // namespace

bool is_sorted_table(Bytes file) {
  if (file.size() < kFooter) return false;
  std::uint64_t magic = 0;
  std::memcpy(&magic, file.data() + file.size() - 8, sizeof magic);
  return magic == kMagic;
}

void read_sorted_table(Bytes file, const TakeEntry& take, Checksums checksums) {
  require(is_sorted_table(file), "does not end as a table of TensorFlow's does (is the file truncated?)");
  const Block index(file, index_place(file), checksums);
  std::optional<std::string> last_index_key, last_key;
  std::uint64_t end = 0;
  read_block(index.entries(), last_index_key, [&](std::string_view, Bytes value) {
    ByteReader in(value, "index");
    const Place place = read_place(in);
    require(place.offset >= end, "the block at byte {} overlaps the one before it", place.offset);
    const Block block(file, place, checksums);
    end = place.offset + place.size + kTrailer;
    in_context(fmt::format("the block at byte {}", place.offset),
               [&] { read_block(block.entries(), last_key, take); });
  });
}

}  // namespace osprey

#include "formats/zip.h"

#include <algorithm>
#include <optional>

#include <zlib.h>

namespace osprey {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEndRecord = 0x06054b50;
constexpr std::uint32_t kEnd64Record = 0x06064b50;
constexpr std::uint32_t kEnd64Locator = 0x07064b50;
constexpr std::size_t kEndSize = 22;
constexpr std::size_t kLocatorSize = 20;
constexpr std::size_t kMaxComment = 0xffff;
constexpr std::uint64_t kMaxEntries = 200'000;
constexpr std::uint64_t kMaxDeflateRatio = 1032;  // of the format: 258 bytes for 2 bits

struct Directory {
  std::uint64_t entries = 0, size = 0, offset = 0;
};

template <class T>
T read_at(Bytes bytes, std::uint64_t offset) {
  T value;
  std::memcpy(&value, slice(bytes, offset, sizeof(T), "zip").data(), sizeof(T));
  return value;
}

std::size_t find_end_record(Bytes file) {
  require(file.size() >= kEndSize, "zip: {} bytes are no archive", file.size());
  const std::size_t lowest = file.size() - std::min(file.size(), kEndSize + kMaxComment);
  for (std::size_t at = file.size() - kEndSize + 1; at-- > lowest;) {
    if (read_at<std::uint32_t>(file, at) == kEndRecord &&
        at + kEndSize + read_at<std::uint16_t>(file, at + 20) == file.size())
      return at;
  }
  bad_input("zip: the directory at the end is missing (is the file truncated?)");
}

Directory read_end_record(Bytes file) {
  const std::size_t end = find_end_record(file);
  if (end >= kLocatorSize && read_at<std::uint32_t>(file, end - kLocatorSize) == kEnd64Locator) {
    const auto at = read_at<std::uint64_t>(file, end - kLocatorSize + 8);
    const Bytes record = slice(file, at, 56, "zip64");
    require(read_at<std::uint32_t>(record, 0) == kEnd64Record,
            "zip: a zip64 locator that points to no record");
    return {read_at<std::uint64_t>(record, 32), read_at<std::uint64_t>(record, 40),
            read_at<std::uint64_t>(record, 48)};
  }
  require(read_at<std::uint16_t>(file, end + 4) == 0, "zip: an archive split over several files");
  return {read_at<std::uint16_t>(file, end + 10), read_at<std::uint32_t>(file, end + 12),
          read_at<std::uint32_t>(file, end + 16)};
}

// Sizes that do not fit 32 bits are all ones in the header and follow, in this order, in extra field 1.
void read_zip64(Bytes extra, std::uint64_t& size, std::uint64_t& packed, std::uint64_t& offset) {
  ByteReader in(extra, "zip extra field");
  while (in.remaining() >= 4) {
    const auto id = in.read<std::uint16_t>();
    const Bytes field = in.take(in.read<std::uint16_t>());
    if (id != 1) continue;
    ByteReader values(field, "zip64 extra field");
    for (std::uint64_t* value : {&size, &packed, &offset})
      if (*value == 0xffffffff) *value = values.read<std::uint64_t>();
    return;
  }
}

ZipEntry read_entry(ByteReader& in, Bytes file) {
  require(in.read<std::uint32_t>() == kCentralHeader, "zip: the directory is damaged");
  in.take(4);  // versions
  const auto flags = in.read<std::uint16_t>();
  const auto method = in.read<std::uint16_t>();
  in.take(4);  // time, date
  ZipEntry out;
  out.crc = in.read<std::uint32_t>();
  std::uint64_t packed = in.read<std::uint32_t>();
  out.size = in.read<std::uint32_t>();
  const auto name_size = in.read<std::uint16_t>();
  const auto extra_size = in.read<std::uint16_t>();
  const auto comment_size = in.read<std::uint16_t>();
  in.take(8);  // disk, attributes
  std::uint64_t offset = in.read<std::uint32_t>();
  out.name = as_text(in.take(name_size));
  read_zip64(in.take(extra_size), out.size, packed, offset);
  in.take(comment_size);

  const std::string shown = printable(out.name);
  require((flags & 1) == 0, "zip: {} is encrypted", shown);
  require(method == 0 || method == 8, "zip: {} is compressed by method {}; only stored and deflated are read",
          shown, method);
  out.deflated = method == 8;
  require(out.deflated || packed == out.size, "zip: {} is stored, but in {} bytes for {}", shown, packed,
          out.size);
  require(read_at<std::uint32_t>(file, offset) == kLocalHeader, "zip: {} is not where the directory says",
          shown);
  const std::uint64_t header = 30 + std::uint64_t{read_at<std::uint16_t>(file, offset + 26)} +
                               read_at<std::uint16_t>(file, offset + 28);
  out.raw = slice(file, checked_add(offset, header, "zip"), packed, "zip entry " + shown);
  return out;
}

// Fills `out` with the start of the entry's contents; whether they end there.
bool inflate_to(const ZipEntry& entry, std::vector<std::byte>& out) {
  if (out.empty()) return true;
  z_stream stream{};
  check(inflateInit2(&stream, -MAX_WBITS) == Z_OK, "zlib: cannot start");
  const std::unique_ptr<z_stream, int (*)(z_stream*)> guard(&stream, inflateEnd);
  constexpr std::size_t kStep = std::size_t{1} << 30;  // zlib counts in 32 bits
  std::size_t taken = 0, made = 0;
  int status = Z_OK;
  while (status == Z_OK) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(entry.raw.data() + taken));
    stream.avail_in = static_cast<uInt>(std::min(kStep, entry.raw.size() - taken));
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + made);
    stream.avail_out = static_cast<uInt>(std::min(kStep, out.size() - made));
    const auto in_before = stream.avail_in, out_before = stream.avail_out;
    status = inflate(&stream, Z_NO_FLUSH);
    taken += in_before - stream.avail_in;
    made += out_before - stream.avail_out;
  }
  require(status == Z_STREAM_END || (status == Z_BUF_ERROR && made == out.size()),
          "zip: {}: damaged or truncated", printable(entry.name));
  require(made == out.size(), "zip: {}: {} bytes instead of {}", printable(entry.name), made, out.size());
  return status == Z_STREAM_END;
}

}  // namespace

ZipArchive::ZipArchive(const Source& source) : owner_(source.owner) {
  const Directory directory = read_end_record(source.bytes);
  require(directory.entries <= kMaxEntries, "zip: {} entries are more than the {} that are read",
          directory.entries, kMaxEntries);
  ByteReader in(slice(source.bytes, directory.offset, directory.size, "zip directory"), "zip directory");
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    entries_.push_back(read_entry(in, source.bytes));
    require(index_.emplace(entries_.back().name, i).second, "zip: two entries are named {}",
            printable(entries_.back().name));
  }
}

const ZipEntry* ZipArchive::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

Bytes ZipArchive::stored(const ZipEntry& entry) const {
  require(!entry.deflated, "zip: {} is compressed; save the file again without compression",
          printable(entry.name));
  return entry.raw;
}

ZipData ZipArchive::read(const ZipEntry& entry, std::uint64_t limit) const {
  require(entry.size <= limit, "zip: {} has {} bytes, more than the {} that are read", printable(entry.name),
          entry.size, limit);
  if (!entry.deflated) return {entry.raw, owner_};
  require(entry.size <= checked_mul(entry.raw.size(), kMaxDeflateRatio, "zip"),
          "zip: {} claims {} bytes from {}, which deflate cannot do", printable(entry.name), entry.size,
          entry.raw.size());
  auto data = std::make_shared<std::vector<std::byte>>(entry.size);
  require(inflate_to(entry, *data), "zip: {}: more than the {} bytes it claims", printable(entry.name),
          entry.size);
  const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(data->data()), data->size());
  require(crc == entry.crc, "zip: {}: its checksum is wrong, the file is damaged", printable(entry.name));
  return {*data, data};
}

ZipData ZipArchive::read_start(const ZipEntry& entry, std::uint64_t size) const {
  size = std::min(size, entry.size);
  if (!entry.deflated) return {entry.raw.first(size), owner_};
  auto data = std::make_shared<std::vector<std::byte>>(size);
  inflate_to(entry, *data);
  return {*data, data};
}

}  // namespace osprey

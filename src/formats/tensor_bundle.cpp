#include "formats/tensor_bundle.h"

#include <map>

#include "core/file.h"
#include "formats/collect.h"
#include "formats/layout.h"
#include "formats/onnx_wire.h"
#include "formats/sorted_table.h"
#include "formats/tf_object_graph.h"
#include "formats/tf_types.h"

namespace osprey {
namespace {

using Type = WireField::Type;

constexpr std::size_t kMaxTensors = 200'000;
constexpr std::size_t kMaxNames = std::size_t{64} << 20;
constexpr std::uint64_t kReadVersion = 1;  // the format's, which a header may ask for at least

struct Entry {
  std::string key;
  std::uint64_t type = 0;
  TfShape shape;
  std::uint64_t shard = 0, offset = 0, size = 0;
  std::uint32_t checksum = 0;
  bool sliced = false;
};

struct Index {
  std::uint32_t shards = 0;
  std::vector<Entry> entries;
};

std::uint32_t read_header(Bytes message) {
  constexpr const char* kOldFormat = "is no tensor bundle (a checkpoint of TensorFlow's first format, V1?)";
  std::uint64_t shards = 0, big_endian = 0, asks_for = 0;
  WireReader in(message, "header");
  while (const auto field = in.next()) {
    if (field->number == 1) {
      require(field->type == Type::kVarint, "{}", kOldFormat);
      shards = field->varint;
    }
    if (field->number == 2) big_endian = field->varint;
    if (field->number != 3 || field->type != Type::kBytes) continue;
    WireReader version(field->payload, "header");
    while (const auto part = version.next())
      if (part->number == 2) asks_for = part->varint;
  }
  require(shards >= 1 && shards <= 99'999, "{}: {} data files", kOldFormat, shards);
  require(big_endian == 0, "its data are big-endian, which is not read");
  require(asks_for <= kReadVersion, "asks for version {} of the format; {} is the newest that is read",
          asks_for, kReadVersion);
  return static_cast<std::uint32_t>(shards);
}

Entry read_entry(std::string_view key, Bytes message) {
  Entry out{.key = std::string(key)};
  WireReader in(message, "entry");
  while (const auto field = in.next()) {
    const bool bytes = field->type == Type::kBytes;
    if (field->number == 1) out.type = field->varint;
    if (field->number == 2 && bytes) out.shape = read_tf_shape(field->payload);
    if (field->number == 3) out.shard = field->varint;
    if (field->number == 4) out.offset = field->varint;
    if (field->number == 5) out.size = field->varint;
    if (field->number == 6 && field->type == Type::kFixed32)
      std::memcpy(&out.checksum, field->payload.data(), sizeof out.checksum);
    if (field->number == 7) out.sliced = true;
  }
  return out;
}

Index read_index(Bytes file, Checksums checksums) {
  Index out;
  std::size_t names = 0;
  const auto take = [&](std::string_view key, Bytes value) {
    if (out.shards == 0) {
      require(key.empty(), "is a table, but its first entry is no tensor bundle's header");
      out.shards = read_header(value);
      return;
    }
    if (key.starts_with('\0')) return;  // a part of a sliced tensor, which has an entry of its own
    require(out.entries.size() < kMaxTensors, "more than {} tensors", kMaxTensors);
    names += key.size();
    require(names <= kMaxNames, "more than {} bytes of names", kMaxNames);
    out.entries.push_back(
        in_context(fmt::format("\"{}\"", printable(key)), [&] { return read_entry(key, value); }));
  };
  read_sorted_table(file, take, checksums);
  require(out.shards > 0, "is an empty table");
  return out;
}

// Where an entry's bytes are, once its shard is there.
struct Data {
  Bytes bytes;
  std::shared_ptr<const void> owner;
  std::string missing;  // the shard's file, when it does not exist
  Checksums checksums = Checksums::kVerify;

  void expect_checksum(std::uint32_t crc, std::uint32_t expected) const {
    const std::uint32_t found = masked_crc32c(crc);
    require(found == expected || checksums == Checksums::kIgnore,
            "the checksum of its data is {:08x}, but the index says {:08x} (is the data file damaged?)",
            found, expected);
  }
};

// The shards that were opened so far, each once.
class Shards {
 public:
  Shards(const Source& index, std::uint32_t count, const OpenShard& open, Checksums checksums)
      : prefix_(prefix_of(index.name)), count_(count), open_(open), checksums_(checksums) {}

  // Bad input when the entry lies outside of its shard.
  Data find(const Entry& entry) {
    require(entry.shard < count_, "is in data file {} of {}", entry.shard, count_);
    const auto number = static_cast<std::uint32_t>(entry.shard);
    const std::string name = shard_name(prefix_, number, count_);
    const auto [row, added] = opened_.try_emplace(number);
    if (added) row->second = open_(number, count_);
    const auto& shard = row->second;
    if (!shard) return {.missing = name};
    return {slice(shard->bytes, entry.offset, entry.size, name), shard->owner, {}, checksums_};
  }

  static std::string prefix_of(const std::string& index) {
    constexpr std::string_view kEnding = ".index";
    return index.ends_with(kEnding) ? index.substr(0, index.size() - kEnding.size()) : index;
  }

 private:
  std::string prefix_;
  std::uint32_t count_;
  const OpenShard& open_;
  Checksums checksums_;
  std::map<std::uint32_t, std::optional<Source>> opened_;
};

// The one text of a scalar string tensor: its length as a varint, a checksum of that, the text. All three are
// in the entry's checksum, the length as four or eight bytes.
Bytes read_string(const Entry& entry, const Data& data) {
  require(entry.type == kTfString && entry.shape.extents.empty(), "is no single string");
  ByteReader in(data.bytes, "string");
  std::uint64_t length = 0;
  for (int shift = 0;; shift += 7) {
    require(shift < 63, "a length without an end");
    const auto byte = in.read<std::uint8_t>();
    length |= std::uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) break;
  }
  const Bytes length_checksum = in.take(4);
  const Bytes text = in.take(length);
  require(in.done(), "{} bytes behind its text", in.remaining());
  const std::size_t length_bytes = length <= 0xffffffffu ? 4 : 8;
  std::uint32_t crc = crc32c({reinterpret_cast<const std::byte*>(&length), length_bytes});
  crc = crc32c(length_checksum, crc);
  data.expect_checksum(crc32c(text, crc), entry.checksum);
  return text;
}

void add_numeric(Checkpoint& to, const Source& index, const Entry& entry, DType dtype, Data data) {
  NamedTensor tensor{.name = entry.key, .dtype = dtype, .shape = entry.shape.extents};
  const auto count = static_cast<std::uint64_t>(element_count(tensor.shape, "shape"));
  const std::uint64_t bytes = checked_mul(count, size_of(dtype), "shape");
  require(entry.sliced || bytes == entry.size, "shape {} of {} in {} bytes", to_string(tensor.shape),
          tf_type_name(entry.type), entry.size);
  if (entry.sliced) {
    tensor.load = []() -> Tensor {
      bad_input("is stored in slices (a partitioned variable), which is not read; save it whole");
    };
  } else if (!data.missing.empty()) {
    tensor.load = [missing = std::move(data.missing)]() -> Tensor {
      bad_input("its data file {} does not exist", missing);
    };
  } else {
    tensor.load = [dtype, shape = tensor.shape, data = std::move(data), checksum = entry.checksum] {
      data.expect_checksum(crc32c(data.bytes), checksum);
      return Tensor::borrow(dtype, shape, data.bytes, data.owner);
    };
  }
  add_tensor(to, index, std::move(tensor));
}

void add_entry(Checkpoint& to, const Source& index, const Entry& entry, Shards& shards) {
  require(entry.shape.known_rank, "its shape is unknown");
  Data data = entry.sliced ? Data{} : shards.find(entry);
  if (entry.key == kObjectGraphKey) {
    if (!data.missing.empty()) return;
    to.object_graph = std::make_shared<TfObjectGraph>(read_string(entry, data), data.owner);
    return;
  }
  if (const auto dtype = dtype_of_tf(entry.type)) {
    add_numeric(to, index, entry, *dtype, std::move(data));
  } else {
    to.scalars[entry.key] =
        fmt::format("{} of shape {}, which is not read", tf_type_name(entry.type), to_string(entry.shape));
  }
}

Checkpoint read(const Source& index, const OpenShard& open_shard, Checksums checksums) {
  const Index entries = read_index(index.bytes, checksums);
  Checkpoint out{.format = "TensorFlow bundle"};
  Shards shards(index, entries.shards, open_shard, checksums);
  for (const Entry& entry : entries.entries)
    in_context(fmt::format("\"{}\"", printable(entry.key, 200)),
               [&] { add_entry(out, index, entry, shards); });
  if (out.object_graph)
    for (NamedTensor& tensor : out.tensors) tensor.full_name = out.object_graph->full_name(tensor.name);
  return out;
}

}  // namespace

std::string shard_name(const std::string& prefix, std::uint32_t index, std::uint32_t count) {
  return fmt::format("{}.data-{:05}-of-{:05}", prefix, index, count);
}

Checkpoint read_tensor_bundle(const Source& index, const OpenShard& open_shard, Checksums checksums) {
  return in_context(index.name, [&] { return read(index, open_shard, checksums); });
}

Checkpoint read_tensor_bundle(const Source& index) {
  const std::string prefix = Shards::prefix_of(index.name);
  return read_tensor_bundle(index, [&](std::uint32_t shard, std::uint32_t count) -> std::optional<Source> {
    const std::filesystem::path file = shard_name(prefix, shard, count);
    std::error_code ignored;
    if (!std::filesystem::exists(file, ignored)) return std::nullopt;
    return open_source(file);
  });
}

}  // namespace osprey

#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <set>

#include <nlohmann/json.hpp>

#include "formats/collect.h"
#include "formats/layout.h"

namespace osprey {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxHeader = std::uint64_t{16} << 20;
constexpr int kMaxDepth = 3;  // the header, a tensor, its shape

std::optional<DType> dtype_of(std::string_view name) {
  struct Row {
    std::string_view name;
    DType dtype;
  };
  static constexpr std::array<Row, 10> kRows{{{"F32", DType::kF32},
                                              {"F16", DType::kF16},
                                              {"BF16", DType::kBF16},
                                              {"F64", DType::kF64},
                                              {"I64", DType::kI64},
                                              {"I32", DType::kI32},
                                              {"I16", DType::kI16},
                                              {"I8", DType::kI8},
                                              {"U8", DType::kU8},
                                              {"BOOL", DType::kBool}}};
  for (const auto& row : kRows)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

// Stops at deep nesting, before it takes memory, and at keys that are there twice.
class Guard {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    require(depth <= kMaxDepth, "safetensors: a header of more than {} levels", kMaxDepth);
    if (event == Json::parse_event_t::key && depth == 1)
      require(names_.insert(parsed.get_ref<const std::string&>()).second,
              "safetensors: two tensors are named \"{}\"", printable(parsed.get_ref<const std::string&>()));
    return true;
  }

 private:
  std::set<std::string> names_;
};

Json parse_header(std::string_view text) {
  Guard guard;
  try {
    Json out = Json::parse(text, [&](int depth, Json::parse_event_t event, Json& parsed) {
      return guard(depth, event, parsed);
    });
    require(out.is_object(), "safetensors: the header is no JSON object");
    return out;
  } catch (const Json::exception& e) {
    bad_input("safetensors: the header is no JSON: {}", printable(e.what(), 200));
  }
}

struct Entry {
  std::string name, type;
  Shape shape;
  std::uint64_t begin = 0, end = 0;
};

const Json& field(const Json& object, const char* key) {
  require(object.is_object() && object.contains(key), "safetensors: a tensor without {}", key);
  return object.at(key);
}

std::uint64_t size_value(const Json& value) {
  require(value.is_number_unsigned(), "safetensors: \"{}\" where a size belongs", printable(value.dump()));
  return value.get<std::uint64_t>();
}

Entry parse_entry(const std::string& name, const Json& json) {
  Entry out{.name = name};
  const Json& type = field(json, "dtype");
  const Json& shape = field(json, "shape");
  const Json& offsets = field(json, "data_offsets");
  require(type.is_string() && shape.is_array() && offsets.is_array() && offsets.size() == 2,
          "safetensors: dtype, shape or data_offsets of the wrong kind");
  out.type = type.get<std::string>();
  for (const auto& extent : shape) {
    const std::uint64_t value = size_value(extent);
    require(value < (std::uint64_t{1} << 62), "safetensors: an extent of {}", value);
    out.shape.push_back(static_cast<std::int64_t>(value));
  }
  out.begin = size_value(offsets[0]);
  out.end = size_value(offsets[1]);
  require(out.begin <= out.end, "safetensors: bytes {} to {}", out.begin, out.end);
  return out;
}

void add_entry(Checkpoint& to, const Source& source, Entry entry, Bytes data) {
  const auto dtype = dtype_of(entry.type);
  if (!dtype) {
    to.scalars[entry.name] = fmt::format("type {}, which is not read", printable(entry.type));
    return;
  }
  const Bytes bytes = slice(data, entry.begin, entry.end - entry.begin, "safetensors");
  Layout layout{.dtype = *dtype, .shape = std::move(entry.shape)};
  const auto count = static_cast<std::uint64_t>(element_count(layout.shape, "safetensors"));
  require(checked_mul(count, size_of(*dtype), "safetensors") == bytes.size(),
          "safetensors: shape {} of {} in {} bytes", to_string(layout.shape), entry.type, bytes.size());
  layout.strides = c_strides(layout.shape);
  validate(layout, count, "safetensors");
  auto load = [layout, bytes, owner = source.owner] { return read_layout(layout, bytes, owner); };
  add_tensor(to, source, {"", entry.name, layout.dtype, layout.shape, std::move(load)});
}

void add_metadata(Checkpoint& to, const Json& metadata) {
  require(metadata.is_object(), "safetensors: __metadata__ is no map");
  for (auto item = metadata.begin(); item != metadata.end(); ++item)
    if (item->is_string()) to.scalars[item.key()] = item->get<std::string>();
}

Checkpoint read(const Source& source) {
  ByteReader in(source.bytes, "safetensors");
  const auto size = in.read<std::uint64_t>();
  require(size <= kMaxHeader, "safetensors: a header of {} bytes is longer than the {} that are read", size,
          kMaxHeader);
  const Json header = parse_header(as_text(in.take(size)));
  const Bytes data = in.take(in.remaining());

  Checkpoint out{.format = "safetensors"};
  std::vector<Entry> entries;
  for (auto item = header.begin(); item != header.end(); ++item) {
    const std::string where = fmt::format("\"{}\"", printable(item.key()));
    if (item.key() == "__metadata__") {
      add_metadata(out, *item);
    } else {
      entries.push_back(in_context(where, [&] { return parse_entry(item.key(), *item); }));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t end = 0;
  for (auto& entry : entries) {
    const std::string where = fmt::format("\"{}\"", printable(entry.name));
    require(entry.begin == end, "{}: starts at byte {} of the data, but the one before it ends at {}", where,
            entry.begin, end);
    end = entry.end;
    in_context(where, [&] { add_entry(out, source, std::move(entry), data); });
  }
  require(end == data.size(), "safetensors: the tensors end at byte {} of {} (is the file truncated?)", end,
          data.size());
  return out;
}

}  // namespace

bool is_safetensors(Bytes bytes) {
  if (bytes.size() < 9 || bytes[8] != std::byte{'{'}) return false;
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  return size < (std::uint64_t{1} << 40);
}

Checkpoint read_safetensors(const Source& source) {
  return in_context(source.name, [&] { return read(source); });
}

}  // namespace osprey

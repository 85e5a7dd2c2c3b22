#include "formats/torch_zip.h"

#include "formats/collect.h"
#include "formats/pickle.h"
#include "formats/torch_tensor.h"

namespace osprey {
namespace {

constexpr std::string_view kPickle = "data.pkl";
constexpr std::size_t kMaxPickle = std::size_t{256} << 20;

// The entry `data.pkl` of the one folder that the archive has, or null.
const ZipEntry* find_pickle(const ZipArchive& zip) {
  for (const auto& entry : zip.entries()) {
    const std::string_view name = entry.name;
    if (name == kPickle || (name.ends_with(kPickle) && name.find('/') == name.size() - kPickle.size() - 1))
      return &entry;
  }
  return nullptr;
}

bool is_big_endian(const ZipArchive& zip, const std::string& prefix) {
  const ZipEntry* entry = zip.find(prefix + "byteorder");
  if (entry == nullptr) return false;
  const auto data = zip.read(*entry, 16);
  const std::string_view order = as_text(data.bytes);
  require(order == "little" || order == "big", "{}byteorder is \"{}\", expected little or big",
          printable(prefix), printable(order));
  return order == "big";
}

class Reader {
 public:
  explicit Reader(const Source& source) : source_(source), zip_(source) {
    const ZipEntry* pickle = find_pickle(zip_);
    require(pickle != nullptr, "a zip without data.pkl is no torch checkpoint");
    prefix_ = pickle->name.substr(0, pickle->name.size() - kPickle.size());
    require(zip_.find(prefix_ + "constants.pkl") == nullptr,
            "is a TorchScript program, which is code; save the model's state_dict instead");
    swapped_ = is_big_endian(zip_, prefix_);
    pickle_ = zip_.read(*pickle, kMaxPickle);
  }

  Checkpoint read() const {
    const auto parsed = pickle::parse(pickle_.bytes, pickle::Persistent::kAllowed);
    return collect("torch zip", *parsed.root, source_,
                   [&](const pickle::Value& value) { return leaf(value); });
  }

 private:
  std::optional<Leaf> leaf(const pickle::Value& value) const {
    auto tensor = torch_tensor(value);
    if (!tensor) return std::nullopt;
    if (!tensor->unread.empty()) return Leaf{.note = tensor->unread + ", which is not read"};
    const Bytes storage = storage_bytes(tensor->storage);
    tensor->layout.offset += tensor->storage.view_offset;
    tensor->layout.swapped = swapped_;
    Leaf out{.dtype = tensor->layout.dtype, .shape = tensor->layout.shape};
    out.load = [layout = tensor->layout, storage, owner = source_.owner] {
      return read_layout(layout, storage, owner);
    };
    return out;
  }

  Bytes storage_bytes(const TorchStorage& storage) const {
    const std::string name = prefix_ + "data/" + storage.key;
    const ZipEntry* entry = zip_.find(name);
    require(entry != nullptr, "its storage {} is not in the archive", printable(name));
    const std::uint64_t needed =
        checked_mul(storage.elements + storage.view_offset, size_of(*storage.dtype), "storage");
    const Bytes data = zip_.stored(*entry);
    require(data.size() >= needed, "its storage {} needs {} bytes and has {}", printable(name), needed,
            data.size());
    return data;
  }

  const Source& source_;
  ZipArchive zip_;
  std::string prefix_;
  bool swapped_ = false;
  ZipData pickle_;
};

}  // namespace

bool is_torch_zip(const ZipArchive& zip) { return find_pickle(zip) != nullptr; }

Checkpoint read_torch_zip(const Source& source) {
  return in_context(source.name, [&] { return Reader(source).read(); });
}

}  // namespace osprey

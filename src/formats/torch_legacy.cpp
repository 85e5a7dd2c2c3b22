#include "formats/torch_legacy.h"

#include <array>
#include <map>

#include "formats/collect.h"
#include "formats/pickle.h"
#include "formats/torch_tensor.h"

namespace osprey {
namespace {

using pickle::Kind;
using pickle::Value;

constexpr std::int64_t kProtocol = 1001;
// PROTO 2, LONG1 of 10 bytes: 0x1950a86a20f9469cfc6c, STOP.
constexpr std::array<unsigned char, 15> kMagic{0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                               0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

class Reader {
 public:
  explicit Reader(const Source& source) : source_(source), in_(source.bytes, "torch legacy file") {}

  Checkpoint read() {
    in_.take(kMagic.size());
    const auto version = next(pickle::Persistent::kRefused);
    require(pickle::int_of(*version.root) == kProtocol, "torch: a legacy file of another version than {}",
            kProtocol);
    check_machine(*next(pickle::Persistent::kRefused).root);
    const auto object = next(pickle::Persistent::kAllowed);
    const auto keys = next(pickle::Persistent::kRefused);
    locate_storages(object.persistent, *keys.root);
    return collect("torch legacy", *object.root, source_, [&](const Value& value) { return leaf(value); });
  }

 private:
  pickle::Parsed next(pickle::Persistent persistent) {
    auto out = pickle::parse(source_.bytes.subspan(in_.offset()), persistent);
    in_.take(out.size);
    return out;
  }

  static void check_machine(const Value& info) {
    require(info.kind == Kind::kDict, "torch: a legacy file that does not describe its machine");
    for (std::size_t i = 0; i + 1 < info.items.size(); i += 2) {
      if (pickle::text_of(*info.items[i]) == "little_endian")
        require(pickle::int_of(*info.items[i + 1]) == 1,
                "torch: a legacy file of a big-endian machine; save it again on a little-endian one");
    }
  }

  // The element types are known from the references only, the order of the storages from the list of keys.
  void locate_storages(const std::vector<const Value*>& references, const Value& keys) {
    std::map<std::string, std::size_t> element_sizes;
    for (const Value* reference : references) {
      const TorchStorage storage = torch_storage(*reference);
      const auto [row, added] = element_sizes.emplace(storage.key, size_of(*storage.dtype));
      require(row->second == size_of(*storage.dtype), "torch: storage {} has elements of two sizes",
              printable(storage.key));
    }
    require(keys.kind == Kind::kList, "torch: the list of storages is {}", describe(keys));
    for (const Value* value : keys.items) {
      const auto key = pickle::text_of(*value);
      require(key.has_value(), "torch: a storage's key is {}", describe(*value));
      const auto element = element_sizes.find(*key);
      require(element != element_sizes.end(), "torch: storage {} belongs to no tensor", printable(*key));
      const auto count = in_.read<std::uint64_t>();
      const Bytes data = in_.take(checked_mul(count, element->second, "torch storage"));
      require(storages_.emplace(*key, data).second, "torch: storage {} is there twice", printable(*key));
    }
  }

  std::optional<Leaf> leaf(const Value& value) const {
    auto tensor = torch_tensor(value);
    if (!tensor) return std::nullopt;
    if (!tensor->unread.empty()) return Leaf{.note = tensor->unread + ", which is not read"};
    const TorchStorage& storage = tensor->storage;
    const auto found = storages_.find(storage.key);
    require(found != storages_.end(), "its storage {} is not in the file", printable(storage.key));
    const std::uint64_t needed =
        checked_mul(storage.elements + storage.view_offset, size_of(*storage.dtype), "torch storage");
    require(needed <= found->second.size(), "its storage {} needs {} bytes and has {}",
            printable(storage.key), needed, found->second.size());
    tensor->layout.offset += storage.view_offset;
    Leaf out{.dtype = tensor->layout.dtype, .shape = tensor->layout.shape};
    out.load = [layout = tensor->layout, data = found->second, owner = source_.owner] {
      return read_layout(layout, data, owner);
    };
    return out;
  }

  const Source& source_;
  ByteReader in_;
  std::map<std::string, Bytes> storages_;
};

}  // namespace

bool is_torch_legacy(Bytes bytes) {
  return bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

Checkpoint read_torch_legacy(const Source& source) {
  return in_context(source.name, [&] { return Reader(source).read(); });
}

}  // namespace osprey

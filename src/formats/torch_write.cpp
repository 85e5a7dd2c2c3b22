#include "formats/torch_write.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/file.h"

namespace osprey {
namespace {

constexpr std::int64_t kProtocol = 1001;
// A pickle of 0x1950a86a20f9469cfc6c, which tells a file of torch.save.
constexpr std::string_view kMagic = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

std::string_view storage_class(DType type) {
  switch (type) {
    case DType::kF32:
      return "FloatStorage";
    case DType::kF64:
      return "DoubleStorage";
    case DType::kF16:
      return "HalfStorage";
    case DType::kBF16:
      return "BFloat16Storage";
    case DType::kI64:
      return "LongStorage";
    case DType::kI32:
      return "IntStorage";
    case DType::kI16:
      return "ShortStorage";
    case DType::kI8:
      return "CharStorage";
    case DType::kU8:
      return "ByteStorage";
    case DType::kBool:
      return "BoolStorage";
  }
  fail(ErrorCode::kInternal, "torch: {} has no storage", name_of(type));
}

// A pickle of protocol 2, an opcode a method; little-endian.
class Pickle {
 public:
  Pickle() { text_ = "\x80\x02"; }

  Pickle& op(char code) {
    text_ += code;
    return *this;
  }
  Pickle& text(std::string_view value) { return op('X').number(value.size(), 4).raw(value); }
  Pickle& global(std::string_view module, std::string_view name) {
    return op('c').raw(module).op('\n').raw(name).op('\n');
  }
  Pickle& integer(std::int64_t value) {
    const bool small = value >= std::numeric_limits<std::int32_t>::min() &&
                       value <= std::numeric_limits<std::int32_t>::max();
    if (small) return op('J').number(static_cast<std::uint64_t>(value), 4);
    return op('\x8a').op('\x08').number(static_cast<std::uint64_t>(value), 8);
  }
  Pickle& tuple(const Shape& values) {
    op('(');
    for (const std::int64_t v : values) integer(v);
    return op('t');
  }
  Pickle& flag(bool value) { return op(value ? '\x88' : '\x89'); }
  Pickle& empty_ordered_dict() { return global("collections", "OrderedDict").op(')').op('R'); }
  std::string finish() { return std::move(op('.').text_); }

 private:
  Pickle& number(std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) text_ += static_cast<char>(value >> (8 * i) & 0xff);
    return *this;
  }
  Pickle& raw(std::string_view value) {
    text_ += value;
    return *this;
  }

  std::string text_;
};

std::string machine() {
  Pickle p;
  p.op('}').op('(');
  p.text("protocol_version").integer(kProtocol).text("little_endian").flag(true).text("type_sizes");
  p.op('}').op('(').text("short").integer(2).text("int").integer(4).text("long").integer(4).op('u');
  return p.op('u').finish();
}

// Rows first, as torch lays a new tensor out.
Shape strides_of(const Shape& shape) {
  Shape out(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) out[i - 1] = out[i] * std::max<std::int64_t>(shape[i], 1);
  return out;
}

void write_tensor(Pickle& p, const NamedTensor& t, const std::string& key) {
  p.global("torch._utils", "_rebuild_tensor_v2").op('(');
  p.op('(').text("storage").global("torch", storage_class(t.dtype)).text(key).text("cpu");
  p.integer(element_count(t.shape)).op('N').op('t').op('Q');
  p.integer(0).tuple(t.shape).tuple(strides_of(t.shape)).flag(false).empty_ordered_dict();
  p.op('t').op('R');
}

std::string key_of(std::size_t index) { return std::to_string(index); }

std::string object(const std::vector<NamedTensor>& tensors) {
  Pickle p;
  p.op('}').text("model").empty_ordered_dict().op('(');
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    p.text(tensors[i].name);
    write_tensor(p, tensors[i], key_of(i));
  }
  return p.op('u').op('s').finish();
}

std::string keys(std::size_t count) {
  Pickle p;
  p.op(']').op('(');
  for (std::size_t i = 0; i < count; ++i) p.text(key_of(i));
  return p.op('e').finish();
}

}  // namespace

void write_torch(const std::filesystem::path& file, const std::vector<NamedTensor>& tensors) {
  AtomicFile out(file);
  out.write(kMagic);
  out.write(Pickle().integer(kProtocol).finish());
  out.write(machine());
  out.write(object(tensors));
  out.write(keys(tensors.size()));
  for (const NamedTensor& t : tensors) {
    const Tensor value = t.load();
    check(value.dtype() == t.dtype && value.shape() == t.shape, "{}: loads as another tensor", t.name);
    const auto count = static_cast<std::uint64_t>(value.size());
    out.write(Bytes(reinterpret_cast<const std::byte*>(&count), sizeof count));
    out.write(value.bytes());
  }
  out.commit();
}

}  // namespace osprey

#include "formats/npz_write.h"

#include <limits>

#include <zlib.h>

#include "core/file.h"

namespace osprey {
namespace {

std::string_view numpy_type(DType type) {
  switch (type) {
    case DType::kF32:
      return "<f4";
    case DType::kF64:
      return "<f8";
    case DType::kI64:
      return "<i8";
    case DType::kI32:
      return "<i4";
    case DType::kI16:
      return "<i2";
    case DType::kI8:
      return "|i1";
    case DType::kU8:
      return "|u1";
    case DType::kBool:
      return "|b1";
    case DType::kF16:
    case DType::kBF16:
      break;
  }
  fail(ErrorCode::kInternal, "npz: {} has no NumPy type", name_of(type));
}

// NumPy's format 1.0: magic, version, header length, a Python dict padded with spaces to a multiple of 64.
std::string npy_header(const Tensor& tensor) {
  std::string shape = "(";
  for (const auto d : tensor.shape()) shape += std::to_string(d) + ",";
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}), }}",
                                 numpy_type(tensor.dtype()), shape);
  constexpr std::size_t kPrefix = 10;
  dict.append(63 - (kPrefix + dict.size()) % 64, ' ');
  dict += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(dict.size() & 0xff);
  out += static_cast<char>(dict.size() >> 8);
  return out + dict;
}

// Little-endian fields one after the other.
class Record {
 public:
  Record& u16(std::uint64_t v) { return put(v, 2); }
  Record& u32(std::uint64_t v) { return put(v, 4); }
  Record& text(std::string_view t) {
    out_ += t;
    return *this;
  }
  const std::string& bytes() const { return out_; }

 private:
  Record& put(std::uint64_t v, int bytes) {
    for (int i = 0; i < bytes; ++i) out_ += static_cast<char>((v >> (8 * i)) & 0xff);
    return *this;
  }
  std::string out_;
};

struct Entry {
  std::string name;
  std::uint64_t offset = 0, size = 0;
  std::uint32_t crc = 0;

  // What the local header and the central directory share: version, flags, method, time, date (1980-01-01),
  // crc.
  Record& shared(Record& r) const {
    return r.u16(20).u16(0).u16(0).u16(0).u16(0x21).u32(crc).u32(size).u32(size).u16(name.size()).u16(0);
  }
};

std::uint32_t crc_of(std::uint32_t crc, Bytes bytes) {
  while (!bytes.empty()) {
    const std::size_t n = std::min<std::size_t>(bytes.size(), 1u << 30);
    crc = static_cast<std::uint32_t>(
        ::crc32(crc, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(n)));
    bytes = bytes.subspan(n);
  }
  return crc;
}

}  // namespace

void write_npz(const std::filesystem::path& file, const std::map<std::string, Tensor>& tensors) {
  AtomicFile out(file);
  std::vector<Entry> entries;
  for (const auto& [name, original] : tensors) {
    const bool narrow = original.dtype() == DType::kF16 || original.dtype() == DType::kBF16;
    const Tensor tensor = narrow ? original.to_f32() : original;
    const std::string header = npy_header(tensor);
    Entry entry{name + ".npy", out.offset(), header.size() + tensor.bytes().size(), 0};
    if (entry.offset + entry.size > std::numeric_limits<std::uint32_t>::max())
      fail(ErrorCode::kUsage, "{}: more than 4 GiB of values; ask for fewer", file.string());
    entry.crc = crc_of(crc_of(0, as_bytes(header)), tensor.bytes());
    Record local;
    local.u32(0x04034b50);
    entry.shared(local).text(entry.name);
    out.write(local.bytes());
    out.write(header);
    out.write(tensor.bytes());
    entries.push_back(std::move(entry));
  }
  const std::uint64_t directory = out.offset();
  for (const Entry& entry : entries) {
    Record central;
    central.u32(0x02014b50).u16(20);
    entry.shared(central).u16(0).u16(0).u16(0).u32(0).u32(entry.offset).text(entry.name);
    out.write(central.bytes());
  }
  Record end;
  end.u32(0x06054b50)
      .u16(0)
      .u16(0)
      .u16(entries.size())
      .u16(entries.size())
      .u32(out.offset() - directory)
      .u32(directory)
      .u16(0);
  out.write(end.bytes());
  out.commit();
}

}  // namespace osprey

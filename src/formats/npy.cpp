#include "formats/npy.h"

#include <algorithm>

#include "formats/collect.h"
#include "formats/layout.h"
#include "formats/numpy_pickle.h"
#include "formats/python_literal.h"

namespace osprey {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::string_view kSuffix = ".npy";
constexpr std::uint64_t kMaxHeader = 64u << 10;
constexpr std::uint64_t kMaxInflated = std::uint64_t{4} << 30;

struct Header {
  NumpyType type;
  std::string code;  // "<f4"
  bool fortran = false;
  Shape shape;
  std::uint64_t size = 0;  // of the header in the file
};

// The header is a Python dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. A structured
// type's descr is a list.
Header parse_header(std::string_view text, std::uint64_t size) {
  const auto tree = parse_python_literal(text.substr(0, text.find_last_not_of(" \n") + 1));
  require(tree && tree->is_map(), "npy: the header \"{}\" is no dict", printable(text));
  const ConfigTree* descr = tree->child("descr");
  const ConfigTree* order = tree->child("fortran_order");
  const ConfigTree* shape = tree->child("shape");
  require(descr && order && shape, "npy: the header \"{}\" lacks descr, fortran_order or shape",
          printable(text));
  Header out{.size = size};
  out.code = descr->is_scalar() ? descr->text : "structured";
  out.type = numpy_type(out.code);
  out.fortran = order->as_bool();
  out.shape = shape->as_ints();
  return out;
}

// Bytes of the header by the file's first 12, of which version 1 uses 10.
std::uint64_t header_size(Bytes start) {
  ByteReader in(start, "npy header");
  require(as_text(in.take(kMagic.size())) == kMagic, "npy: the magic number is missing");
  const auto version = in.read<std::uint8_t>();
  in.read<std::uint8_t>();
  require(version >= 1 && version <= 3, "npy: version {} is not one of 1 to 3", version);
  const std::uint64_t text = version == 1 ? in.read<std::uint16_t>() : in.read<std::uint32_t>();
  require(text <= kMaxHeader, "npy: a header of {} bytes is longer than the {} that are read", text,
          kMaxHeader);
  return in.offset() + text;
}

Layout layout_of(const Header& header, std::uint64_t file_size) {
  Layout out{.dtype = *header.type.dtype, .shape = header.shape, .swapped = header.type.swapped};
  const auto count = static_cast<std::uint64_t>(element_count(out.shape, "npy"));
  const std::uint64_t size = checked_mul(count, header.type.size, "npy");
  require(size == file_size - header.size, "npy: shape {} of {} needs {} bytes, but {} are there",
          to_string(out.shape), header.code, size, file_size - header.size);
  out.strides = header.fortran ? fortran_strides(out.shape) : c_strides(out.shape);
  validate(out, count, "npy");
  return out;
}

// The first bytes of a file, or all of it; and the whole of it, when the array is loaded.
using Start = std::function<Bytes(std::uint64_t size)>;
using Contents = std::function<ZipData()>;

// Adds the array whose file has `size` bytes in all.
void add_array(Checkpoint& to, const Source& source, const std::string& name, std::uint64_t size,
               const Start& start, Contents contents) {
  const std::uint64_t header_end = header_size(start(12));
  const Bytes text = slice(start(header_end), 0, header_end, "npy header");
  const std::size_t prefix = text[6] == std::byte{1} ? 10 : 12;
  const Header header = parse_header(as_text(text.subspan(prefix)), header_end);
  if (!header.type.dtype) {
    to.scalars[name] = fmt::format("numpy type {}, which is not read", printable(header.code));
    return;
  }
  const Layout layout = layout_of(header, size);
  auto load = [layout, skip = header.size, contents = std::move(contents)] {
    const ZipData data = contents();
    return read_layout(layout, data.bytes.subspan(skip), data.owner);
  };
  add_tensor(to, source, {"", name, layout.dtype, layout.shape, std::move(load)});
}

}  // namespace

bool is_npy(Bytes bytes) { return as_text(bytes).starts_with(kMagic); }

bool is_npz(const ZipArchive& zip) {
  for (const auto& entry : zip.entries())
    if (entry.name.ends_with(kSuffix)) return true;
  return false;
}

Checkpoint read_npy(const Source& source) {
  return in_context(source.name, [&] {
    Checkpoint out{.format = "npy"};
    const auto start = [&](std::uint64_t size) {
      return source.bytes.first(std::min<std::size_t>(size, source.bytes.size()));
    };
    const auto contents = [bytes = source.bytes, owner = source.owner] { return ZipData{bytes, owner}; };
    add_array(out, source, "", source.bytes.size(), start, contents);
    return out;
  });
}

Checkpoint read_npz(const Source& source) {
  return in_context(source.name, [&] {
    const auto zip = std::make_shared<const ZipArchive>(source);
    Checkpoint out{.format = "npz"};
    for (const auto& entry : zip->entries()) {
      if (!entry.name.ends_with(kSuffix)) continue;
      in_context(printable(entry.name), [&] {
        const std::string name = entry.name.substr(0, entry.name.size() - kSuffix.size());
        ZipData held;
        const auto start = [&](std::uint64_t size) { return (held = zip->read_start(entry, size)).bytes; };
        const auto contents = [zip, &entry] { return zip->read(entry, kMaxInflated); };
        add_array(out, source, name, entry.size, start, contents);
      });
    }
    return out;
  });
}

}  // namespace osprey

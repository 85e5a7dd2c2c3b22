#include "formats/checkpoint.h"

#include <array>

#include "formats/npy.h"
#include "formats/numpy_pickle.h"
#include "formats/onnx_wire.h"
#include "formats/paddle_inference.h"
#include "formats/safetensors.h"
#include "formats/sorted_table.h"
#include "formats/tensor_bundle.h"
#include "formats/tf_checkpoint.h"
#include "formats/torch_legacy.h"
#include "formats/torch_zip.h"

namespace osprey {
namespace {

// Files that users hand over by mistake, and what to do about each.
struct Mistake {
  std::size_t offset;
  std::string_view magic;
  std::string_view advice;
};

using namespace std::string_view_literals;
constexpr std::array kMistakes{
    Mistake{0, "version https://git-lfs"sv,
            "is a Git LFS pointer, not the file itself; run `git lfs pull`"sv},
    Mistake{0, "<!DOCTYPE"sv, "is a web page; the download failed"sv},
    Mistake{0, "<html"sv, "is a web page; the download failed"sv},
    Mistake{0, "\x1f\x8b"sv, "is compressed with gzip; unpack it first"sv},
    Mistake{0,
            "\xfd"
            "7zXZ"sv,
            "is compressed with xz; unpack it first"sv},
    Mistake{0, "\x89HDF"sv, "is an HDF5 file (Keras), which is not read"sv},
    Mistake{257, "ustar"sv, "is a tar archive; unpack it first"sv},
};

bool starts_with(Bytes bytes, std::string_view magic, std::size_t offset = 0) {
  return bytes.size() >= offset && as_text(bytes.subspan(offset)).starts_with(magic);
}

// Protocols 2 and later say so; of the older ones a dict, an object or a list is expected.
bool is_pickle(Bytes bytes) {
  if (bytes.size() < 2) return false;
  const auto first = static_cast<char>(bytes[0]);
  if (first == '\x80') return true;
  return std::string_view("(}]c").find(first) != std::string_view::npos && as_text(bytes).ends_with('.');
}

// A frozen graph (GraphDef): nodes of a name and an op.
bool is_frozen_graph(Bytes bytes) {
  try {
    const auto node = WireReader(bytes, "graph").next();
    if (!node || node->number != 1 || node->type != WireField::Type::kBytes) return false;
    WireReader parts(node->payload, "node");
    const auto name = parts.next(), op = parts.next();
    return name && op && name->number == 1 && op->number == 2 && op->type == WireField::Type::kBytes;
  } catch (const Error&) {
    return false;
  }
}

Checkpoint read_zip(const Source& source) {
  const auto [torch, npz] = in_context(source.name, [&] {
    const ZipArchive zip(source);
    return std::pair(is_torch_zip(zip), is_npz(zip));
  });
  if (torch) return read_torch_zip(source);
  if (npz) return read_npz(source);
  bad_input("{}: is a zip archive, but holds neither torch's data.pkl nor .npy files", source.name);
}

}  // namespace

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  if (const auto files = find_paddle_inference(path)) return read_paddle_inference(*files);
  if (const auto files = find_tf_checkpoint(path)) return read_tf_checkpoint(*files);
  return read_checkpoint(open_source(path));
}

Checkpoint read_checkpoint(const Source& source) {
  const Bytes bytes = source.bytes;
  require(!bytes.empty(), "{}: is empty", source.name);
  if (starts_with(bytes, "PK\x03\x04") || starts_with(bytes, "PK\x05\x06")) return read_zip(source);
  if (is_sorted_table(bytes)) return read_tensor_bundle(source);
  if (is_npy(bytes)) return read_npy(source);
  if (is_torch_legacy(bytes)) return read_torch_legacy(source);
  for (const auto& mistake : kMistakes)
    require(!starts_with(bytes, mistake.magic, mistake.offset), "{}: {}", source.name, mistake.advice);
  if (is_safetensors(bytes)) return read_safetensors(source);
  if (is_pickle(bytes)) return read_numpy_pickle(source);
  require(
      !is_frozen_graph(bytes),
      "{}: is a graph of TensorFlow's (frozen?), whose weights have no names; give the checkpoint that it "
      "was exported from",
      source.name);
  bad_input(
      "{}: is no checkpoint that is read here: torch (.pth), pickled numpy arrays (.pkl, .pdparams), npy, "
      "npz, safetensors, TensorFlow (.index, a folder)",
      source.name);
}

}  // namespace osprey

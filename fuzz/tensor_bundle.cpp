// fuzz-libs: osprey_formats
//
// An index and its only data file: four bytes of the index's size (little-endian), the index, the data.
#include "formats/tensor_bundle.h"

#include "checkpoint_target.h"
#include "formats/tf_object_graph.h"

namespace osprey::fuzz {
namespace {

// Every path of one step, and the graph's answers for every tensor.
void walk(const Checkpoint& checkpoint) {
  const TfObjectGraph* graph = checkpoint.object_graph.get();
  if (graph == nullptr) return;
  for (const auto& child : graph->children(TfObjectGraph::kRoot)) graph->key(child.name);
  for (const auto& tensor : checkpoint.tensors)
    if (graph->full_name(tensor.name) != tensor.full_name) std::abort();
}

void run(Bytes input, Checksums checksums) {
  std::uint32_t size = 0;
  if (input.size() < sizeof size) return;
  std::memcpy(&size, input.data(), sizeof size);
  const Bytes rest = input.subspan(sizeof size);
  const std::size_t split = std::min<std::size_t>(size, rest.size());
  // Copies of the exact sizes, so that AddressSanitizer sees a read past their ends.
  const auto index = std::make_shared<std::vector<std::byte>>(rest.begin(), rest.begin() + split);
  const auto data = std::make_shared<std::vector<std::byte>>(rest.begin() + split, rest.end());
  const OpenShard open = [&](std::uint32_t shard, std::uint32_t) -> std::optional<Source> {
    if (shard != 0) return std::nullopt;
    return Source{.name = kFileName, .bytes = *data, .owner = data};
  };
  expect_bad_input_only([&] {
    const auto read =
        read_tensor_bundle({.name = kFileName, .bytes = *index, .owner = index}, open, checksums);
    walk(read);
    load_all(read);
  });
}

}  // namespace
}  // namespace osprey::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace osprey;
  const Bytes input{reinterpret_cast<const std::byte*>(data), size};
  fuzz::run(input, Checksums::kVerify);
  fuzz::run(input, Checksums::kIgnore);
  return 0;
}

// fuzz-libs: osprey_formats
// Models as ONNX files: whatever the bytes say, reading gives a graph that verifies and whose weights load,
// or bad input that names the file.
#include "formats/onnx.h"

#include "checkpoint_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto copy = std::make_shared<std::vector<std::byte>>(size);
  if (size > 0) std::memcpy(copy->data(), data, size);
  osprey::fuzz::expect_bad_input_only([&] {
    const osprey::Model model =
        osprey::read_model_onnx({.name = osprey::fuzz::kFileName, .bytes = *copy, .owner = copy});
    osprey::verify(model.graph);
    for (const osprey::Weight& weight : model.graph.weights()) weight.load();
    if (osprey::to_text(model.graph).empty()) std::abort();
  });
  return 0;
}

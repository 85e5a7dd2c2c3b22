// fuzz-libs: osprey_formats
#include "formats/yaml.h"

#include "config_getters.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace osprey;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_bad_input_only([&] {
    ConfigTree tree = parse_yaml(text, fuzz::kFileName);
    fuzz::ask(tree);
    merge(tree, parse_yaml(text, fuzz::kFileName));
    if (tree.is_map()) set_by_path(tree, "fuzz.value", text.substr(0, 4096));
  });
  return 0;
}

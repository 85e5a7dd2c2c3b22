// fuzz-libs: osprey_formats
#include "formats/yaml.h"

#include "checkpoint_target.h"

namespace osprey::fuzz {
namespace {

// Every getter on every node: each gives a value or Error(kBadInput).
void ask(const ConfigTree& node) {
  expect_bad_input_only([&] { node.as_int(); });
  expect_bad_input_only([&] { node.as_double(); });
  expect_bad_input_only([&] { node.as_bool(); });
  expect_bad_input_only([&] { node.as_string(); });
  expect_bad_input_only([&] { node.as_doubles(); });
  for (const auto& item : node.items) ask(item);
}

}  // namespace
}  // namespace osprey::fuzz

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

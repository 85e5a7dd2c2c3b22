// fuzz-libs: osprey_formats
#include "formats/protobuf_text.h"

#include "config_getters.h"
#include "formats/config_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace osprey;
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_bad_input_only([&] {
    const ProtobufText read = parse_protobuf_text(text, fuzz::kFileName);
    fuzz::ask(read.tree);
    ConfigReader reader(read.tree);
    for (const ConfigTree& item : read.tree.items) reader.repeated(item.key);
    if (reader.unread().size() > text.size()) std::abort();
  });
  return 0;
}

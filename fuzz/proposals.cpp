// fuzz-libs: osprey_eval
//
// Files of proposals as hostile text or pickle: reading one, and what it holds of a few images, must end in
// proposals or in osprey::Error.
#include <cstdint>
#include <string>
#include <vector>

#include "eval/proposal_file.h"
#include "osprey/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const osprey::Source source{"proposals", {reinterpret_cast<const std::byte*>(data), size}, nullptr};
  try {
    const osprey::ProposalFile file(source);
    for (const char* name : {"139", "b", "7", "5", "a.png", "b.png"}) {
      try {
        file.of(std::vector<std::string>{name});
      } catch (const osprey::Error&) {
      }
    }
  } catch (const osprey::Error&) {
  }
  return 0;
}

// What the targets of checkpoint formats share: read the bytes as a file, load every tensor, and accept no
// failure but Error(kBadInput) that names the file.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "core/error.h"
#include "core/named_tensor.h"
#include "formats/source.h"

namespace osprey::fuzz {

inline constexpr const char* kFileName = "fuzzed-file";
inline constexpr std::size_t kMaxLoaded = std::size_t{128} << 20;  // then the input has had its time

inline void load_all(const Checkpoint& checkpoint) {
  std::size_t loaded = 0;
  for (const auto& tensor : checkpoint.tensors) {
    const Tensor value = tensor.load();
    if (value.shape() != tensor.shape || value.dtype() != tensor.dtype) std::abort();
    loaded += value.to_f32().bytes().size();
    if (loaded > kMaxLoaded) return;
  }
}

// Runs `body`; anything it throws but bad input that names the file escapes, which the fuzzer reports.
template <class Body>
void expect_bad_input_only(Body body) {
  try {
    body();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kBadInput ||
        std::string_view(e.what()).find(kFileName) == std::string_view::npos)
      throw;
  }
}

template <class Read>
int run_checkpoint(const std::uint8_t* data, std::size_t size, Read read) {
  // A copy of the exact size, so that AddressSanitizer sees a read past its end.
  const auto copy = std::make_shared<std::vector<std::byte>>(size);
  if (size > 0) std::memcpy(copy->data(), data, size);
  const Source source{.name = kFileName, .bytes = *copy, .owner = copy};
  expect_bad_input_only([&] { load_all(read(source)); });
  return 0;
}

}  // namespace osprey::fuzz

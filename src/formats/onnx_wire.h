// The wire format of protobuf, as far as it takes to step over a message field by field without copying it
// (protobuf.dev/programming-guides/encoding): an ONNX file is one message, and protobuf's own parser would
// copy all of its weights.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/bytes.h"

namespace osprey {

struct WireField {
  std::uint32_t number = 0;
  enum class Type : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 } type = Type::kVarint;
  std::uint64_t varint = 0;  // of a kVarint
  Bytes payload;             // of the others: the value without its length
  Bytes whole;               // tag and all
};

class WireReader {
 public:
  explicit WireReader(Bytes message, std::string_view what)
      : in_(message, what), message_(message), what_(what) {}

  // The next field; none at the end of the message. Malformed bytes are bad input.
  std::optional<WireField> next();

 private:
  std::uint64_t varint();

  ByteReader in_;
  Bytes message_;
  std::string_view what_;
};

// The head of a length-delimited field, whose `size` bytes follow.
std::string wire_head(std::uint32_t number, std::uint64_t size);

}  // namespace osprey

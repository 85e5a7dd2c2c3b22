// What a pickle describes, as data: a graph of values that borrow their bytes from the file. Nothing is ever
// called or imported; where Python would call a function, an object records its name and arguments.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/bytes.h"
#include "core/dtype.h"

namespace osprey::pickle {

enum class Kind : std::uint8_t {
  kNone,
  kBool,
  kInt,   // fits std::int64_t
  kLong,  // does not: `data` is its two's complement, little-endian
  kFloat,
  kText,
  kBytes,
  kList,
  kTuple,
  kSet,
  kDict,        // items: key, value, key, value
  kGlobal,      // a name on the list of pickle_globals.h
  kObject,      // `global` called with `args`, then given `state`
  kPersistent,  // a reference that only the container understands: items[0] is its id
};

// Text and bytes are left as the file spells them, so that gigabytes of weights are never copied here. Every
// spelling is a sequence of code points; for bytes each one is below 256 (Python 3 writes bytes as latin-1
// text in protocols 0 to 2, and Python 2's str is both).
enum class Spelling : std::uint8_t {
  kRaw,             // a byte is a code point
  kUtf8,            // BINUNICODE
  kUnicodeEscapes,  // UNICODE: bytes, and \uXXXX \UXXXXXXXX
  kStringEscapes,   // STRING: Python's repr without its quotes
};

enum class Global : std::uint8_t;

struct Spelled {
  Bytes data;
  Spelling spelling = Spelling::kRaw;
};

struct Value {
  Kind kind = Kind::kNone;
  Global global{};             // kGlobal, kObject
  std::optional<DType> dtype;  // of a global that names an element type, where we have it
  std::int64_t integer = 0;    // kBool, kInt
  double real = 0;             // kFloat
  Spelled text;                // kText, kBytes, kLong; kGlobal: its name as the list has it
  std::vector<const Value*> items;
  const Value* args = nullptr;   // kObject: a tuple
  const Value* state = nullptr;  // kObject: what BUILD gave, or null
};

// Bytes or characters after decoding, without decoding. Bad input when the spelling is broken.
std::uint64_t decoded_size(const Spelled& text);

// The code points of bytes written to out, which has decoded_size(); bad input when one is above 255.
void decode_bytes(const Spelled& text, std::byte* out);

// As UTF-8. Bad input when it takes more than `limit` bytes of the file, or is no valid text.
std::string decode_text(const Spelled& text, std::size_t limit = 4096);

// The value's text if it is one (or Python 2's bytes), else none.
std::optional<std::string> text_of(const Value& value, std::size_t limit = 4096);
std::optional<std::int64_t> int_of(const Value& value);

// "None", "a dict", "an integer": for messages.
std::string_view describe(const Value& value);

}  // namespace osprey::pickle

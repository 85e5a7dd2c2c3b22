// Opcodes of numbers and text.
#include <charconv>

#include "formats/pickle_machine.h"
#include "formats/source.h"

namespace osprey::pickle {

bool Machine::scalar_step(Op op) {
  switch (op) {
    case Op::kNone:
      push(Kind::kNone);
      return true;
    case Op::kNewTrue:
      push(Kind::kBool).integer = 1;
      return true;
    case Op::kNewFalse:
      push(Kind::kBool).integer = 0;
      return true;
    case Op::kBinInt:
      push_int(in_.read<std::int32_t>());
      return true;
    case Op::kBinInt1:
      push_int(in_.read<std::uint8_t>());
      return true;
    case Op::kBinInt2:
      push_int(in_.read<std::uint16_t>());
      return true;
    case Op::kLong1:
      push_long(in_.read<std::uint8_t>());
      return true;
    case Op::kLong4:
      push_long(in_.read<std::uint32_t>());
      return true;
    case Op::kInt:
    case Op::kLong:
      push_decimal(in_.line());
      return true;
    case Op::kBinFloat:
      push(Kind::kFloat).real = std::bit_cast<double>(__builtin_bswap64(in_.read<std::uint64_t>()));
      return true;
    case Op::kFloat: {
      const std::string_view text = in_.line();
      double value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      require(error != std::errc::invalid_argument && end == text.data() + text.size(),
              "pickle: \"{}\" is no number", printable(text));
      push(Kind::kFloat).real = value;
      return true;
    }
    default:
      return false;
  }
}

void Machine::push_long(std::uint64_t size) {
  const Bytes data = in_.take(size);
  if (size > 8) {
    push(Kind::kLong).text.data = data;
    return;
  }
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value |= static_cast<std::uint64_t>(data[i]) << (8 * i);
  const bool negative = size > 0 && (data[size - 1] & std::byte{0x80}) != std::byte{0};
  if (negative && size < 8) value |= ~std::uint64_t{0} << (8 * size);
  push_int(static_cast<std::int64_t>(value));
}

void Machine::push_decimal(std::string_view text) {
  if (text == "00" || text == "01") {  // how protocol 1 spelled False and True
    push(Kind::kBool).integer = text == "01";
    return;
  }
  if (text.ends_with('L')) text.remove_suffix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc{} && end == text.data() + text.size(), "pickle: \"{}\" is no integer of 64 bits",
          printable(text));
  push_int(value);
}

bool Machine::text_step(Op op) {
  switch (op) {
    case Op::kString:
      push_quoted();
      return true;
    case Op::kBinString:
      push_text(Kind::kText, Spelling::kRaw, in_.read<std::uint32_t>());
      return true;
    case Op::kShortBinString:
      push_text(Kind::kText, Spelling::kRaw, in_.read<std::uint8_t>());
      return true;
    case Op::kUnicode:
      push(Kind::kText).text = {as_bytes(in_.line()), Spelling::kUnicodeEscapes};
      return true;
    case Op::kBinUnicode:
      push_text(Kind::kText, Spelling::kUtf8, in_.read<std::uint32_t>());
      return true;
    case Op::kShortBinUnicode:
      push_text(Kind::kText, Spelling::kUtf8, in_.read<std::uint8_t>());
      return true;
    case Op::kBinUnicode8:
      push_text(Kind::kText, Spelling::kUtf8, in_.read<std::uint64_t>());
      return true;
    case Op::kBinBytes:
      push_text(Kind::kBytes, Spelling::kRaw, in_.read<std::uint32_t>());
      return true;
    case Op::kShortBinBytes:
      push_text(Kind::kBytes, Spelling::kRaw, in_.read<std::uint8_t>());
      return true;
    case Op::kBinBytes8:
    case Op::kByteArray8:
      push_text(Kind::kBytes, Spelling::kRaw, in_.read<std::uint64_t>());
      return true;
    default:
      return false;
  }
}

void Machine::push_quoted() {
  const std::string_view line = in_.line();
  require(line.size() >= 2 && (line.front() == '\'' || line.front() == '"') && line.back() == line.front(),
          "pickle: a string without quotes before byte {}", in_.offset());
  push(Kind::kText).text = {as_bytes(line.substr(1, line.size() - 2)), Spelling::kStringEscapes};
}

}  // namespace osprey::pickle

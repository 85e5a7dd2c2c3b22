#include "formats/numpy_pickle.h"

#include <array>

#include "formats/layout.h"
#include "formats/pickle.h"
#include "formats/pickle_globals.h"

namespace osprey {
namespace {

using pickle::Global;
using pickle::Kind;
using pickle::Spelled;
using pickle::Value;

bool is_object(const Value& value, Global global) {
  return value.kind == Kind::kObject && value.global == global;
}

const Value& item(const Value& tuple, std::size_t i, std::string_view what) {
  require(tuple.kind == Kind::kTuple && i < tuple.items.size(), "numpy: {} is cut short", what);
  return *tuple.items[i];
}

Shape shape_of(const Value& value) {
  require(value.kind == Kind::kTuple, "numpy: the shape of an array is {}", describe(value));
  Shape out;
  for (const Value* extent : value.items) {
    const auto number = pickle::int_of(*extent);
    require(number.has_value(), "numpy: an extent of an array is {}", describe(*extent));
    out.push_back(*number);
  }
  return out;
}

// dtype("f4", align, copy) with the state (3, "<", ...): the order is in the state, and '|' or '=' is native.
struct PickledType {
  NumpyType type;
  std::string code;
};

PickledType type_of(const Value& value) {
  require(is_object(value, Global::kNumpyDtype), "numpy: the element type of an array is {}",
          describe(value));
  const auto code = pickle::text_of(item(*value.args, 0, "an element type"));
  require(code.has_value(), "numpy: an element type without a name");
  PickledType out{numpy_type(*code), *code};
  if (value.state != nullptr && value.state->kind == Kind::kTuple && value.state->items.size() > 1) {
    const auto order = pickle::text_of(*value.state->items[1]);
    require(order.has_value(), "numpy: an element type without a byte order");
    out.type.swapped = *order == ">";
  }
  return out;
}

Leaf array_leaf(const PickledType& type, Shape shape, bool fortran, const Spelled& data,
                const Source& source) {
  if (!type.type.dtype)
    return {.note = fmt::format("numpy type {}, which is not read", printable(type.code))};
  Layout layout{.dtype = *type.type.dtype, .swapped = type.type.swapped};
  const auto count = static_cast<std::uint64_t>(element_count(shape, "numpy array"));
  const std::uint64_t size = decoded_size(data);
  require(checked_mul(count, type.type.size, "numpy array") == size,
          "numpy: an array of shape {} and type {} with {} bytes of data", to_string(shape), type.code, size);
  layout.shape = std::move(shape);
  layout.strides = fortran ? fortran_strides(layout.shape) : c_strides(layout.shape);
  validate(layout, count, "numpy array");

  Leaf out{.dtype = layout.dtype, .shape = layout.shape};
  out.load = [layout, data, size, owner = source.owner] {
    if (data.spelling == pickle::Spelling::kRaw) return read_layout(layout, data.data, owner);
    auto decoded = std::make_shared<std::vector<std::byte>>(size);
    decode_bytes(data, decoded->data());
    return read_layout(layout, *decoded, decoded);
  };
  return out;
}

// _reconstruct(ndarray, (0,), b"b") with the state (version, shape, dtype, is_fortran, data); the oldest have
// no version. Data of object arrays is a list.
std::optional<Leaf> reconstructed(const Value& array, const Source& source) {
  require(array.state != nullptr && array.state->kind == Kind::kTuple, "numpy: an array without contents");
  const std::size_t first = array.state->items.size() == 4 ? 0 : 1;
  const Value& data = item(*array.state, first + 3, "an array");
  const auto type = type_of(item(*array.state, first + 1, "an array"));
  if (data.kind != Kind::kText && data.kind != Kind::kBytes)
    return Leaf{.note = fmt::format("numpy array of Python objects, which is not read")};
  const auto fortran = pickle::int_of(item(*array.state, first + 2, "an array"));
  return array_leaf(type, shape_of(item(*array.state, first, "an array")), fortran.value_or(0) != 0,
                    data.text, source);
}

// _frombuffer(data, dtype, shape, order), which numpy writes in protocol 5.
std::optional<Leaf> from_buffer(const Value& array, const Source& source) {
  const Value& data = item(*array.args, 0, "an array");
  require(data.kind == Kind::kBytes, "numpy: an array made from {}", describe(data));
  const auto order = pickle::text_of(item(*array.args, 3, "an array"));
  return array_leaf(type_of(item(*array.args, 1, "an array")), shape_of(item(*array.args, 2, "an array")),
                    order == "F", data.text, source);
}

// scalar(dtype, data): an array of no axes.
std::optional<Leaf> scalar(const Value& value, const Source& source) {
  const Value& data = item(*value.args, 1, "a scalar");
  if (data.kind != Kind::kText && data.kind != Kind::kBytes)
    return Leaf{.note = fmt::format("numpy scalar of a Python object, which is not read")};
  return array_leaf(type_of(item(*value.args, 0, "a scalar")), {}, false, data.text, source);
}

}  // namespace

NumpyType numpy_type(std::string_view code) {
  NumpyType out;
  if (!code.empty() && std::string_view("<>|=").find(code[0]) != std::string_view::npos) {
    out.swapped = code[0] == '>';
    code.remove_prefix(1);
  }
  struct Row {
    std::string_view code;
    DType dtype;
  };
  static constexpr std::array<Row, 9> kRows{{{"f4", DType::kF32},
                                             {"f2", DType::kF16},
                                             {"f8", DType::kF64},
                                             {"i8", DType::kI64},
                                             {"i4", DType::kI32},
                                             {"i2", DType::kI16},
                                             {"i1", DType::kI8},
                                             {"u1", DType::kU8},
                                             {"b1", DType::kBool}}};
  for (const auto& row : kRows)
    if (row.code == code) {
      out.dtype = row.dtype;
      out.size = size_of(row.dtype);
    }
  return out;
}

std::optional<Leaf> numpy_leaf(const Value& value, const Source& source) {
  if (is_object(value, Global::kNumpyReconstruct)) return reconstructed(value, source);
  if (is_object(value, Global::kNumpyFromBuffer)) return from_buffer(value, source);
  if (is_object(value, Global::kNumpyScalar)) return scalar(value, source);
  return std::nullopt;
}

Checkpoint read_numpy_pickle(const Source& source) {
  return in_context(source.name, [&] {
    const auto parsed = pickle::parse(source.bytes, pickle::Persistent::kRefused);
    return collect("pickle", *parsed.root, source,
                   [&](const Value& value) { return numpy_leaf(value, source); });
  });
}

}  // namespace osprey

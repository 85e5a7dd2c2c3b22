#include "formats/tf_types.h"

#include <array>

#include "formats/onnx_wire.h"

namespace osprey {
namespace {

constexpr std::size_t kMaxRank = 64;

struct Row {
  std::string_view name;
  std::optional<DType> dtype;
};

// By number. References to variables (TF1) have 100 more.
constexpr std::array<Row, 24> kTypes{
    {{"invalid", {}},        {"float", DType::kF32}, {"double", DType::kF64},
     {"int32", DType::kI32}, {"uint8", DType::kU8},  {"int16", DType::kI16},
     {"int8", DType::kI8},   {"string", {}},         {"complex64", {}},
     {"int64", DType::kI64}, {"bool", DType::kBool}, {"qint8", {}},
     {"quint8", {}},         {"qint32", {}},         {"bfloat16", DType::kBF16},
     {"qint16", {}},         {"quint16", {}},        {"uint16", {}},
     {"complex128", {}},     {"half", DType::kF16},  {"resource", {}},
     {"variant", {}},        {"uint32", {}},         {"uint64", {}}}};

std::int64_t read_extent(Bytes message) {
  WireReader in(message, "extent");
  std::int64_t size = 0;
  while (const auto field = in.next())
    if (field->number == 1 && field->type == WireField::Type::kVarint)
      size = static_cast<std::int64_t>(field->varint);
  return size;
}

}  // namespace

std::optional<DType> dtype_of_tf(std::uint64_t type) {
  return type < kTypes.size() ? kTypes[type].dtype : std::nullopt;
}

std::string tf_type_name(std::uint64_t type) {
  if (type > 100 && type - 100 < kTypes.size()) return tf_type_name(type - 100) + " reference";
  return type < kTypes.size() ? std::string(kTypes[type].name) : fmt::format("type {}", type);
}

TfShape read_tf_shape(Bytes message) {
  TfShape out;
  WireReader in(message, "shape");
  while (const auto field = in.next()) {
    if (field->number == 2 && field->type == WireField::Type::kBytes) {
      require(out.extents.size() < kMaxRank, "a shape of more than {} extents", kMaxRank);
      out.extents.push_back(read_extent(field->payload));
    }
    if (field->number == 3 && field->type == WireField::Type::kVarint) out.known_rank = field->varint == 0;
  }
  return out;
}

std::string to_string(const TfShape& shape) {
  if (!shape.known_rank) return "[?...]";
  std::string out;
  for (const std::int64_t extent : shape.extents)
    out += (out.empty() ? "" : ", ") + (extent < 0 ? "?" : std::to_string(extent));
  return '[' + out + ']';
}

}  // namespace osprey

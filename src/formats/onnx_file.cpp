#include "formats/onnx_file.h"

#include <algorithm>
#include <array>

#include "core/file.h"
#include "formats/onnx_wire.h"

namespace osprey {
namespace {

// Field numbers of onnx.proto3.
constexpr std::uint32_t kModelIrVersion = 1, kModelGraph = 7, kGraphInitializer = 5;
constexpr std::uint32_t kTensorRawData = 9;

constexpr std::uint64_t kLargestFile = (std::uint64_t{1} << 31) - 1;
// Parsed messages take many times their size in the file; the largest model known has 0.3 MB besides weights.
constexpr std::size_t kLargestSkeleton = std::size_t{16} << 20;

struct TypePair {
  DType dtype;
  int onnx;
};
constexpr std::array<TypePair, 10> kTypes{{{DType::kF32, onnx::TensorProto::FLOAT},
                                           {DType::kF16, onnx::TensorProto::FLOAT16},
                                           {DType::kBF16, onnx::TensorProto::BFLOAT16},
                                           {DType::kF64, onnx::TensorProto::DOUBLE},
                                           {DType::kI64, onnx::TensorProto::INT64},
                                           {DType::kI32, onnx::TensorProto::INT32},
                                           {DType::kI16, onnx::TensorProto::INT16},
                                           {DType::kI8, onnx::TensorProto::INT8},
                                           {DType::kU8, onnx::TensorProto::UINT8},
                                           {DType::kBool, onnx::TensorProto::BOOL}}};

void append(std::string& to, Bytes bytes) {
  require(to.size() + bytes.size() <= kLargestSkeleton, "holds more than {} MB besides its weights",
          kLargestSkeleton >> 20);
  to.append(as_text(bytes));
}

Tensor aligned(const Tensor& tensor) {
  if (reinterpret_cast<std::uintptr_t>(tensor.bytes().data()) % size_of(tensor.dtype()) == 0) return tensor;
  Tensor out = Tensor::zeros(tensor.dtype(), tensor.shape());
  std::memcpy(out.mutable_data(), tensor.bytes().data(), tensor.bytes().size());
  return out;
}

OnnxWeight read_weight(Bytes message, const std::shared_ptr<const void>& owner) {
  std::string head;
  std::optional<Bytes> data;
  WireReader fields(message, "initializer");
  while (const auto field = fields.next()) {
    if (field->number != kTensorRawData) {
      append(head, field->whole);
      continue;
    }
    require(!data && field->type == WireField::Type::kBytes, "an initializer has no single raw_data");
    data = field->payload;
  }
  onnx::TensorProto tensor;
  require(tensor.ParseFromString(head), "an initializer is malformed");
  const std::string name = tensor.name();
  require(data.has_value(), "weight '{}' is not stored as raw data in this file (external data are not read)",
          printable(name));
  OnnxWeight out{.name = name, .dtype = dtype_of_onnx(tensor.data_type()), .shape = {}, .load = {}};
  out.shape.assign(tensor.dims().begin(), tensor.dims().end());
  const auto size = checked_mul(static_cast<std::uint64_t>(element_count(out.shape, printable(name))),
                                size_of(out.dtype), printable(name));
  require(size == data->size(), "weight '{}' has {} bytes for shape {}", printable(name), data->size(),
          to_string(out.shape));
  out.load = [dtype = out.dtype, shape = out.shape, bytes = *data, owner] {
    return aligned(Tensor::borrow(dtype, shape, bytes, owner));
  };
  return out;
}

// The tensor's message up to its raw data.
std::string weight_head(const OnnxWeight& weight, std::uint64_t size) {
  onnx::TensorProto tensor;
  for (const auto d : weight.shape) tensor.add_dims(d);
  tensor.set_data_type(onnx_type(weight.dtype));
  tensor.set_name(weight.name);
  return tensor.SerializeAsString() + wire_head(kTensorRawData, size);
}

std::uint64_t bytes_of(const OnnxWeight& weight) {
  return checked_mul(static_cast<std::uint64_t>(element_count(weight.shape, weight.name)),
                     size_of(weight.dtype), weight.name);
}

}  // namespace

OnnxFile read_onnx_file(const Source& source) {
  OnnxFile out;
  std::string skeleton, graph;
  bool has_graph = false;
  WireReader fields(source.bytes, "ONNX model");
  while (const auto field = fields.next()) {
    if (field->number != kModelGraph) {
      append(skeleton, field->whole);
      continue;
    }
    require(!has_graph && field->type == WireField::Type::kBytes, "an ONNX file with two graphs");
    has_graph = true;
    WireReader inner(field->payload, "ONNX graph");
    while (const auto part = inner.next()) {
      if (part->number == kGraphInitializer && part->type == WireField::Type::kBytes)
        out.weights.push_back(read_weight(part->payload, source.owner));
      else
        append(graph, part->whole);
    }
  }
  require(has_graph, "an ONNX file without a graph");
  require(out.model.ParseFromString(skeleton) && out.model.mutable_graph()->ParseFromString(graph),
          "a malformed ONNX file");
  return out;
}

void write_onnx_file(const std::filesystem::path& path, const OnnxFile& onnx,
                     const std::function<void(double)>& progress) {
  onnx::ModelProto model = onnx.model;
  const std::string graph = model.graph().SerializeAsString();
  model.clear_graph();
  const std::string skeleton = model.SerializeAsString();

  std::uint64_t graph_size = graph.size();
  std::vector<std::string> heads;
  for (const OnnxWeight& w : onnx.weights) {
    const std::uint64_t size = bytes_of(w);
    const std::string head = weight_head(w, size);
    heads.push_back(wire_head(kGraphInitializer, head.size() + size) + head);
    graph_size = checked_add(graph_size, checked_add(heads.back().size(), size, w.name), w.name);
  }
  const std::string graph_head = wire_head(kModelGraph, graph_size);
  const std::uint64_t total = skeleton.size() + graph_head.size() + graph_size;
  require(total <= kLargestFile, "{}: the model has {} MB; an ONNX file holds at most {}", path.string(),
          total >> 20, kLargestFile >> 20);

  AtomicFile out(path);
  out.write(skeleton);
  out.write(graph_head);
  out.write(graph);
  for (std::size_t i = 0; i < heads.size(); ++i) {
    out.write(heads[i]);
    const Tensor data = onnx.weights[i].load();
    check(data.bytes().size() == bytes_of(onnx.weights[i]), "weight {}: {} bytes, not {}",
          onnx.weights[i].name, data.bytes().size(), bytes_of(onnx.weights[i]));
    out.write(data.bytes());
    if (progress) progress(static_cast<double>(out.offset()) / static_cast<double>(total));
  }
  check(out.offset() == total, "ONNX: {} bytes written, {} announced", out.offset(), total);
  out.commit();
}

bool looks_like_onnx(Bytes bytes) {
  // Serializers write fields by number, so the IR version (a varint) comes first, and then any other field.
  if (bytes.size() < 3) return false;
  const auto byte = [&](std::size_t i) { return std::to_integer<unsigned>(bytes[i]); };
  const unsigned version = byte(1), field = byte(2) >> 3, type = byte(2) & 7;
  if (byte(0) != (kModelIrVersion << 3) || version < 3 || version > 100) return false;
  constexpr std::array<unsigned, 7> kMessages{2, 3, 4, 6, 7, 8, 14};  // field 5 is a number
  return (field == 5 && type == 0) ||
         (type == 2 && std::find(kMessages.begin(), kMessages.end(), field) != kMessages.end());
}

int onnx_type(DType dtype) {
  for (const TypePair& pair : kTypes)
    if (pair.dtype == dtype) return pair.onnx;
  fail(ErrorCode::kInternal, "ONNX has no element type {}", name_of(dtype));
}

DType dtype_of_onnx(int type) {
  for (const TypePair& pair : kTypes)
    if (pair.onnx == type) return pair.dtype;
  bad_input("ONNX's element type {} is not read", type);
}

void set_onnx_type(onnx::ValueInfoProto& to, const std::string& name, const TensorType& type) {
  to.set_name(name);
  auto& tensor = *to.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(onnx_type(type.dtype));
  for (const Dim& d : type.dims) {
    auto& dim = *tensor.mutable_shape()->add_dim();
    if (d.is_constant())
      dim.set_dim_value(d.constant());
    else
      dim.set_dim_param(to_string(d));
  }
}

TensorType type_of_onnx(const onnx::ValueInfoProto& value) {
  require(value.type().has_tensor_type(), "'{}' is no tensor", printable(value.name()));
  const auto& tensor = value.type().tensor_type();
  TensorType out{dtype_of_onnx(tensor.elem_type()), {}};
  for (const auto& dim : tensor.shape().dim())
    out.dims.push_back(dim.has_dim_param() ? parse_dim(dim.dim_param()) : Dim(dim.dim_value()));
  return out;
}

}  // namespace osprey

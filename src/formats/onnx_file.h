// ONNX files as containers: everything but the weights as protobuf's own message, the weights as bytes in the
// file, so that neither reading nor writing holds them in memory.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <onnx/onnx_pb.h>

#include "core/tensor.h"
#include "formats/source.h"
#include "graph/dim.h"

namespace osprey {

struct OnnxWeight {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::function<Tensor()> load;
};

struct OnnxFile {
  onnx::ModelProto model;  // its graph without initializers
  std::vector<OnnxWeight> weights;
};

// Reads a file. Loading a weight gives aligned memory: the mapped file's where it happens to be aligned.
// Weights must be stored as raw data inside the file. Throws Error(kBadInput); the caller names the file.
OnnxFile read_onnx_file(const Source& source);

// Writes a file, whole or not at all, loading one weight at a time; the same model gives the same bytes.
// Refuses more than 2 GiB, the most that protobuf reads.
void write_onnx_file(const std::filesystem::path& file, const OnnxFile& onnx,
                     const std::function<void(double)>& progress = {});

// Whether the bytes are an ONNX file's, whole or cut off after its head.
bool looks_like_onnx(Bytes bytes);

// Element types in ONNX's numbering (TensorProto.DataType).
int onnx_type(DType dtype);
DType dtype_of_onnx(int type);

// Types of values: constant extents as numbers, others in the text form of graph/dim.h ("32*h").
void set_onnx_type(onnx::ValueInfoProto& to, const std::string& name, const TensorType& type);
TensorType type_of_onnx(const onnx::ValueInfoProto& value);

}  // namespace osprey

// The engine file: one .osprey file, data only, mapped, every section checked before it is used.
//
//   bytes 0..7    "OSPREY\0\1" (the last byte is the format's version)
//   8..11         number of sections, 2
//   12..15        zero
//   16..31        XXH3-128 of the section table
//   32..          the table: for each section kind (u32), zero (u32), offset (u64), size (u64), XXH3-128
//   sections      at multiples of 64: 1 = FlatBuffers (engine.fbs), 2 = weights, each at a multiple of 64
//
// All integers are little-endian. The same model and options give the same bytes: no dates, no paths.
#pragma once

#include <filesystem>
#include <string>

#include "graph/model.h"

namespace osprey {

struct EngineData {
  Model model;            // its graph's weights borrow from the mapped file
  std::string version;    // of the Osprey that built it
  std::string device;     // "cpu", "cuda"
  std::string precision;  // "fp32", "tf32", "bf16", "fp16", "int8"
};

// Writes the file, whole or not at all. Weights are loaded one at a time. `progress` is called with the
// fraction done.
void write_engine(const std::filesystem::path& file, const EngineData& engine,
                  const std::function<void(double)>& progress = {});

enum class HashCheck { kAll, kNone };  // kNone is for fuzzing what lies behind the hashes

// Throws Error(kBadInput) naming the file and what is wrong with it.
EngineData read_engine(const std::filesystem::path& file, HashCheck hashes = HashCheck::kAll);

// Whether the bytes start like an engine file.
bool is_engine(Bytes head);

}  // namespace osprey

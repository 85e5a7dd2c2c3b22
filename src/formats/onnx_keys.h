// The keys under which a Model's ONNX file keeps what ONNX has no field for.
#pragma once

namespace osprey::onnx_keys {

inline constexpr const char* kFormat = "osprey.format";
inline constexpr const char* kFormatVersion = "1";
inline constexpr const char* kFamily = "osprey.family";
inline constexpr const char* kDescription = "osprey.description";
inline constexpr const char* kCategories = "osprey.categories";  // JSON: [{"id": 1, "name": "person"}, ...]
inline constexpr const char* kMetadata = "osprey.metadata";      // JSON: {"config": "...", ...}
inline constexpr const char* kWeights = "osprey.weights";  // JSON: {"used": [...], "unused": [...], ...}

// Constants that ONNX's Resize takes: "osprey.scales.2" is [1, 1, 2, 2].
inline constexpr const char* kScales = "osprey.scales.";

}  // namespace osprey::onnx_keys

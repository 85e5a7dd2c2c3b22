// Helpers of the tests of families.
#pragma once

#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "arch/family.h"
#include "osprey/error.h"

namespace osprey {

inline std::string error_of(auto&& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// "name: [64, 3, 7, 7]" lines of an account's missing weights, as tensors of zeros.
inline std::vector<NamedTensor> zeros_for(const std::string& account) {
  std::vector<NamedTensor> tensors;
  std::istringstream lines(account);
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(": [");
    if (!line.starts_with("  ") || colon == std::string::npos) continue;
    Shape shape;
    std::istringstream extents(line.substr(colon + 3));
    for (std::int64_t extent = 0; extents >> extent; extents.ignore(1)) shape.push_back(extent);
    tensors.push_back(
        {.section = "model", .name = line.substr(2, colon - 2), .shape = shape, .load = [shape] {
           return Tensor::zeros(DType::kF32, shape);
         }});
  }
  return tensors;
}

// The model that the request describes, over zeros for every weight that it asks for.
inline Model build_with_zeros(const Family& family, ImportRequest request) {
  request.source = "zeros.pkl";
  request.checkpoint.tensors = zeros_for(error_of([&] { family.build(request); }));
  return family.build(request);
}

}  // namespace osprey

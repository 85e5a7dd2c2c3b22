// Extents of tensors: constants, or expressions over the symbols that a call binds (batch, height, width).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace osprey {

// What each symbol is worth in one call: {"N": 1, "h": 25, "w": 38}.
using DimBindings = std::map<std::string, std::int64_t, std::less<>>;

// floor((mul * symbol + add) / div), kept in lowest terms, so that equal extents compare equal: with an image
// padded to 32 * h rows, every map of a feature pyramid comes out as an exact multiple of h.
//
// An extent may also be data-dependent (how many proposals survive): then the expression is its upper bound,
// written "<=1000*N", or there is no bound, written "?". Executors plan memory by the bound; kernels report
// the count.
class Dim {
 public:
  enum class Kind : std::uint8_t { kExact, kAtMost, kUnknown };

  Dim(std::int64_t constant = 0) : add_(constant) {}  // NOLINT: a constant is an extent
  static Dim symbol(std::string name);
  static Dim at_most(Dim bound);
  static Dim unknown();

  Kind kind() const { return kind_; }
  bool is_constant() const { return kind_ == Kind::kExact && symbol_.empty(); }
  bool is_exact() const { return kind_ == Kind::kExact; }
  std::int64_t constant() const;  // of a constant
  const std::string& symbol() const { return symbol_; }

  // The extent, or its upper bound, under `bindings`; an unbound symbol or a missing bound is an error.
  std::int64_t evaluate(const DimBindings& bindings) const;

  Dim operator+(std::int64_t n) const;
  Dim operator-(std::int64_t n) const { return *this + -n; }
  Dim operator*(std::int64_t n) const;  // only of expressions without a division
  Dim floor_div(std::int64_t n) const;
  bool operator==(const Dim&) const = default;

 private:
  void normalise();

  Kind kind_ = Kind::kExact;
  std::string symbol_;
  std::int64_t mul_ = 0, add_ = 0, div_ = 1;

  friend std::string to_string(const Dim& dim);
};

// "64", "32*h", "(h+1)/2", "<=1000*N", "?"; parse_dim reads the same.
std::string to_string(const Dim& dim);
Dim parse_dim(std::string_view text);

struct TensorType {
  DType dtype = DType::kF32;
  std::vector<Dim> dims;

  std::size_t rank() const { return dims.size(); }
  bool operator==(const TensorType&) const = default;
};

// The shape of a type without symbols, such as a weight's; an error where an extent is not constant.
Shape constant_shape(const TensorType& type);

// "f32[N,64,8*h,8*w]"; parse_type reads the same.
std::string to_string(const TensorType& type);
TensorType parse_type(std::string_view text);

}  // namespace osprey

// Convolutions and matrix products by libraries: several ways to compute the same, of which the tuner picks
// one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/kernel.h"
#include "cuda/tuner.h"

namespace osprey {

// In device memory; bias (f32) and residual are null where the call has none.
struct MatrixOperands {
  const void *x = nullptr, *weight = nullptr, *bias = nullptr, *residual = nullptr;
  void* y = nullptr;
};

// One way made ready.
class MatrixCall {
 public:
  virtual ~MatrixCall() = default;
  virtual void run(const MatrixOperands& operands, std::byte* workspace, cudaStream_t stream) const = 0;
  virtual std::size_t workspace() const = 0;
  virtual std::string name() const = 0;  // the same whenever device and libraries are
  // What restores the call sooner than its name does, if anything: compiled code.
  virtual std::string saved() const { return ""; }
};

struct MatrixWay {
  std::string name;
  std::function<std::unique_ptr<MatrixCall>()> make;  // null when the library refuses after all
};

struct MatrixSearch {
  std::string key;  // everything that speed depends on
  std::function<std::vector<MatrixWay>()>
      ways;  // most promising first; asked only when nothing is remembered
  // A shorter way to a remembered call than through `ways`; null when it cannot. May be left out.
  std::function<std::unique_ptr<MatrixCall>(const TunedChoice&)> restore = {};
  DType type = DType::kF32, out_type = DType::kF32;  // of x, and of residual and y
  std::int64_t x_count = 0, y_count = 0;             // elements
  MatrixOperands constants;                          // weight and bias
  bool residual = false;
  // Of how many photos x, residual and y are equal parts, one after the other, and the search for one part:
  // what a photo gives must not depend on those beside it.
  std::int64_t photos = 1;
  std::size_t weight_step = 0;  // bytes from a photo's weight to the next one's
  std::function<MatrixSearch()> alone = {};
  // What a call for one photo does, for all of them in one launch; null where it cannot. May be left out.
  std::function<std::unique_ptr<MatrixCall>(const MatrixCall& one)> together = {};
};

// Of how many photos the node's first input is equal parts: rows in proportion to the batch; 1 where they are
// not.
std::int64_t photos_of(const CudaPrepare& p);

// The way remembered for the key, or else the fastest by measurement, within the tuner's budget; null when
// there is none. Weight and bias must be on the device; everything else is measured on random numbers.
//
// For several photos, only ways that give, bit for bit, what the way for one photo gives for each of them: on
// the random numbers, that is. Ways that sum in another order show there, since every element of the result
// would have to round alike. Where none is, or none is known and the budget spent, the photos go one after
// the other.
std::unique_ptr<MatrixCall> fastest_call(CudaPrepare& p, const MatrixSearch& search);

}  // namespace osprey

// Matrix products through cuBLASLt: y = activation(x weight^T + bias + residual), with x [rows, inputs],
// weight [outputs, inputs], residual and y [rows, outputs], all in C order.
//
// f16 and bf16 are summed in f32, and so is f32, of which the operands are rounded to tf32 only if asked for.
#pragma once

#include "cuda/matrix_call.h"
#include "graph/enums.h"

namespace osprey {

struct Gemm {
  std::int64_t rows = 0, inputs = 0, outputs = 0;
  DType type = DType::kF32, out_type = DType::kF32;  // of x and weight; of residual and y
  bool residual = false, tf32 = false;
  Activation activation = Activation::kNone;
  std::shared_ptr<const DeviceBuffer> bias = nullptr;  // of out_type; none: null
  std::int64_t products = 1;  // that the rows are equal parts of, each summed as it is alone
  bool own_weights = false;   // each product has its own weight, one after the other

  std::string key() const;
  double flops() const { return 2.0 * static_cast<double>(rows * inputs) * static_cast<double>(outputs); }
};

// In the order of cuBLASLt's heuristics. Error(kDevice) when the library is missing. The calls use the Gemm's
// own bias.
std::vector<MatrixWay> gemm_ways(const Gemm& gemm);

// `photos` times the product that `one` is a call for, one of gemm_ways, by the same algorithm in one launch;
// null where `one` is another call, or the algorithm takes one product alone.
std::unique_ptr<MatrixCall> gemm_for_photos(const MatrixCall& one, std::int64_t photos,
                                            bool own_weights = false);

// As fastest_call, of gemm_ways; fails when there is none. With own weights the products are the photos, and
// `weight` is that of one of them.
std::unique_ptr<MatrixCall> fastest_gemm(CudaPrepare& p, const Gemm& gemm, const void* weight);

// For the tuner's cache: 0 where the library is missing.
std::size_t cublaslt_version();

}  // namespace osprey

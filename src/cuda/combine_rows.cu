#include "cuda/packed_weights.h"
#include "cuda/packs.cuh"
#include "cuda/row_packs.cuh"
#include "ops/combine_rows.h"

namespace osprey {
namespace {

template <class T, int N>
struct Combined {
  const T* x;
  const float* table;
  const int* rows;  // null: x is all tokens in their order
  T* y;
  std::int64_t tokens;
  int width;
  bool one_column, multiplies;

  __device__ void operator()(std::int64_t row, int column) const {
    const std::int64_t token = (rows ? rows[row] : row) % tokens, at = row * width + column;
    const auto from = *reinterpret_cast<const Pack<T, N>*>(x + at);
    Pack<T, N> out;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float entry = __ldg(table + (one_column ? token : token * width + column + k));
      const float v = widen(from.values[k]);
      out.values[k] = narrow<T>(multiplies ? v * entry : v + entry);
    }
    *reinterpret_cast<Pack<T, N>*>(y + at) = out;
  }
};

class CombineRowsStep final : public CudaStep {
 public:
  explicit CombineRowsStep(CudaPrepare& p)
      : multiplies_(p.op<CombineRows>().rule == CombineRule::kMultiply),
        has_rows_(p.has_input(2)),
        tokens_(p.input(1).dims[0]),
        one_column_(p.input(1).dims[1] == 1),
        table_(packed_vector(p, 1, DType::kF32)) {}

  void launch(CudaRun& run) override {
    const CudaValue& y = run.out(0);
    const auto width = static_cast<int>(y.dims[1]);
    with_float_type(y.dtype, [&](auto zero) {
      using T = decltype(zero);
      with_pack<T>(width, [&]<int N>() {
        launch_row_packs<N>(
            y, run.stream(),
            Combined<T, N>{run.in(0).as<T>(), table_->as<float>(), has_rows_ ? run.in(2).as<int>() : nullptr,
                           y.as<T>(), tokens_, width, one_column_, multiplies_});
      });
    });
  }

 private:
  const bool multiplies_, has_rows_;
  const std::int64_t tokens_;
  const bool one_column_;
  const std::shared_ptr<const DeviceBuffer> table_;
};

}  // namespace

CudaKernel combine_rows_cuda() {
  return {.op = &kOpInfo<CombineRows>,
          .dtypes = {DType::kF32, DType::kF16, DType::kBF16},
          .prepare = [](CudaPrepare& p) -> std::unique_ptr<CudaStep> {
            return std::make_unique<CombineRowsStep>(p);
          },
          .in_place = {0}};
}

}  // namespace osprey

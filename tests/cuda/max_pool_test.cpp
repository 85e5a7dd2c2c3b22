#include "ops/max_pool.h"

#include "cuda/cuda_harness.h"

namespace osprey {
namespace {

TEST(CudaMaxPool, IsExact) {
  SKIP_WITHOUT_GPU();
  const std::vector<MaxPool> ops{{.pads = {1, 1, 1, 1}},
                                 {.kernel = {1, 1}},
                                 {.kernel = {5, 5}, .stride = {1, 1}, .pads = {2, 2, 2, 2}},
                                 {.pads = {0, 0, 2, 2}},
                                 {.padding = Padding::kSame},
                                 {.kernel = {2, 2}, .padding = Padding::kSame},
                                 {.kernel = {5, 4}, .stride = {4, 3}, .padding = Padding::kSame},
                                 {.kernel = {3, 2}, .stride = {2, 1}, .pads = {0, 0, 1, 1}}};
  for (const MaxPool& op : ops)
    for (const Shape& shape :
         {Shape{1, 64, 33, 47}, Shape{2, 24, 9, 8}, Shape{3, 3, 5, 7}, Shape{1, 1, 3, 3}})
      for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
        expect_as_on_cpu({.op = op, .inputs = {{rounded_to(random_tensor(shape, -3, 3, 5), type)}}}, 0,
                         fmt::format("{} of {} in {}", op.kernel[0], to_string(shape), name_of(type)));
}

TEST(CudaMaxPool, OfIntegers) {
  SKIP_WITHOUT_GPU();
  const std::vector<MaxPool> ops{{.pads = {1, 1, 1, 1}},
                                 {.kernel = {5, 5}, .stride = {1, 1}, .pads = {2, 2, 2, 2}},
                                 {.kernel = {2, 2}, .padding = Padding::kSame}};
  for (const MaxPool& op : ops)
    for (const Shape& shape : {Shape{1, 64, 33, 47}, Shape{2, 24, 9, 8}, Shape{3, 3, 5, 7}})
      for (const DType type : {DType::kI8, DType::kU8}) {
        Tensor x = Tensor::zeros(type, shape);
        for (std::size_t i = 0; i < static_cast<std::size_t>(x.size()); ++i)
          reinterpret_cast<std::uint8_t*>(x.mutable_data())[i] = static_cast<std::uint8_t>(i * 37 + i / 256);
        expect_as_on_cpu({.op = op, .inputs = {{x}}}, 0,
                         fmt::format("{} of {} in {}", op.kernel[0], to_string(shape), name_of(type)));
      }
}

TEST(CudaMaxPool, SomeOrNoneOfTheRows) {
  SKIP_WITHOUT_GPU();
  for (const std::int64_t live : {0, 2, 5})
    expect_as_on_cpu(
        {.op = MaxPool{.pads = {1, 1, 1, 1}}, .inputs = {{random_tensor({live, 8, 6, 7}, -3, 3, 5), {}, 5}}},
        0, fmt::format("{} of 5 rows", live));
}

}  // namespace
}  // namespace osprey

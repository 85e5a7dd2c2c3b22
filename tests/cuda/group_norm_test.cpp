#include "ops/group_norm.h"

#include "cuda/cuda_harness.h"

namespace osprey {
namespace {

double last_place(DType type) { return type == DType::kF16 ? 0x1p-10 : type == DType::kBF16 ? 0x1p-7 : 1e-5; }

struct Map {
  Shape shape;
  int groups;
  std::int64_t bound = 0;
};
// Small images are a block's own, larger ones are cut into parts; packs of channels and single ones.
const Map kMaps[]{
    {{2, 6, 5, 7}, 3},     {{1, 32, 1, 1}, 32},    {{3, 64, 7, 7}, 32},   {{1, 33, 3, 5}, 11},
    {{1, 64, 41, 67}, 32}, {{2, 256, 20, 33}, 32}, {{1, 7, 101, 103}, 7}, {{1, 1, 300, 301}, 1},
    {{1, 2048, 5, 9}, 32}, {{2, 2048, 2, 3}, 1},   {{5, 1024}, 32},       {{3, 7}, 1},
    {{3, 64, 4, 4}, 8, 5}, {{0, 64, 4, 4}, 8, 5},  {{4, 96}, 32, 9},      {{2, 128, 30, 30}, 4, 3}};

TEST(CudaGroupNorm, OfSmallAndLargeMaps) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const auto& [shape, groups, bound] : kMaps)
      for (const Activation activation : {Activation::kNone, Activation::kRelu})
        expect_as_on_cpu({.op = GroupNorm{.groups = groups, .activation = activation},
                          .inputs = {{rounded_to(random_tensor(shape, 3, 9, 1), type), {}, bound},
                                     {random_tensor({shape[1]}, 0.5, 2, 2)},
                                     {random_tensor({shape[1]}, -1, 1, 3)}}},
                         last_place(type),
                         fmt::format("{} in {} groups, {}", to_string(shape), groups, name_of(type)));
}

}  // namespace
}  // namespace osprey

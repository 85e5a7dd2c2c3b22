// Masks of whole photos: their logits, the boxes around them, and the same runs as on the CPU.
#include "ops/resize_masks.h"

#include <cmath>
#include <numeric>

#include "cuda/box_cases.h"
#include "image/resize.h"
#include "ops/mask_boxes.h"
#include "ops/mask_logits.h"

namespace osprey {
namespace {

Tensor boxes_of(const std::vector<int>& images) {
  std::vector<Roi> out;
  for (const int image : images) out.push_back({static_cast<float>(image), {0, 0, 1, 1}});
  return out.empty() ? Tensor::zeros(DType::kF32, {0, 5}) : rows_tensor(out);
}

void run_logits(std::int64_t rows, std::int64_t depth, std::int64_t images, std::int64_t height,
                std::int64_t width, DType type) {
  const Tensor embeddings = rounded_to(random_tensor({rows * images, depth}, -1, 1, 1), type),
               prototypes = rounded_to(random_tensor({images, depth, height, width}, -1, 1, 2), type);
  const std::string what = fmt::format("{} rows, {} prototypes, {} images, {} x {}, {}", rows, depth, images,
                                       height, width, name_of(type));
  expect_as_on_cpu({.op = MaskLogits{}, .inputs = {{embeddings}, {prototypes}}}, 1e-5, what);
  // Detections: so many of each image that blocks hold rows of several.
  std::vector<int> owners;
  for (std::int64_t r = 0; r < rows * images; ++r) owners.push_back(static_cast<int>(r * r % images));
  std::sort(owners.begin(), owners.end());
  const std::int64_t bound = rows * images + 40;
  expect_as_on_cpu(
      {.op = MaskLogits{}, .inputs = {{embeddings, {}, bound}, {prototypes}, {boxes_of(owners), {}, bound}}},
      1e-5, what + ", with boxes");
}

TEST(CudaMaskLogits, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16})
    for (const std::int64_t depth : {1, 5, 16, 32, 64, 128})
      for (const std::int64_t rows : {1, 15, 33, 100})
        run_logits(rows, depth, rows == 15 ? 5 : 2, 7, rows == 33 ? 19 : 20, type);
  run_logits(300, 32, 1, 160, 160, DType::kF16);
}

TEST(CudaMaskLogits, NoRows) {
  SKIP_WITHOUT_GPU();
  for (const DType type : {DType::kF32, DType::kF16})
    expect_as_on_cpu({.op = MaskLogits{},
                      .inputs = {{rounded_to(Tensor::zeros(DType::kF32, {0, 32}), type), {}, 100},
                                 {rounded_to(random_tensor({1, 32, 9, 9}, -1, 1, 2), type)},
                                 {boxes_of({}), {}, 100}}},
                     0, "no rows");
}

TEST(CudaMaskBoxes, AsOnTheCpu) {
  SKIP_WITHOUT_GPU();
  for (const auto& [height, width] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {1, 64}, {7, 5}, {160, 160}, {33, 120}})
    for (const float most : {-0.1f, 0.0f, 0.001f, 1.0f}) {
      const Tensor logits = random_tensor({30, height, width}, -1, most, 1);
      const std::string what = fmt::format("{} x {}, up to {}", height, width, most);
      expect_as_on_cpu({.op = MaskBoxes{}, .inputs = {{logits}}}, 3e-7, what);
      expect_as_on_cpu({.op = MaskBoxes{}, .inputs = {{logits, {}, 50}}}, 3e-7, what + ", of a bound");
    }
}

struct Case {
  Tensor logits;
  std::vector<int> images;  // of the boxes
  std::vector<std::int32_t> rows;
  std::vector<Geometry> geometry;
  RunParameters parameters{};
};

void expect_same_runs(const Case& c, const std::string& what) {
  const auto boxes = static_cast<std::int64_t>(c.images.size());
  expect_as_on_cpu({.op = ResizeMasks{},
                    .inputs = {{c.logits, {}, c.logits.dim(0) + 1},
                               {boxes_of(c.images), {}, boxes + 3},
                               {tensor_of(c.rows, {boxes}), {}, boxes + 3},
                               {rows_tensor(c.geometry)}},
                    .parameters = c.parameters},
                   0, what);
}

TEST(CudaResizeMasks, PhotosOfEverySize) {
  SKIP_WITHOUT_GPU();
  for (const ImageSize size :
       {ImageSize{1, 1}, {1, 70}, {64, 1}, {33, 65}, {120, 125}, {517, 300}, {640, 480}, {1333, 800}})
    for (const auto& [height, width] :
         std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 1}, {7, 9}, {40, 56}})
      for (const float threshold : {0.5f, 0.55f, 0.0f, 1.0f})
        expect_same_runs(
            {.logits = random_tensor({5, height, width}, -1, 1, 3),
             .images = {0, 0, 0, 0, 0, 0},
             .rows = {2, 0, 1, 4, 3, 2},
             .geometry = {{1, 1, 1, 1, static_cast<float>(size.height), static_cast<float>(size.width)}},
             .parameters = {.mask_threshold = threshold}},
            fmt::format("{} x {} pixels of {} x {} logits, above {}", size.width, size.height, width, height,
                        threshold));
}

TEST(CudaResizeMasks, FullAndEmptyMasks) {
  SKIP_WITHOUT_GPU();
  std::vector<float> values(3 * 8 * 8, 1.0f);
  std::fill(values.begin() + 64, values.begin() + 128, -1.0f);
  values[128] = -1;  // all but a corner
  expect_same_runs({.logits = tensor_of(values, {3, 8, 8}),
                    .images = {0, 0, 0},
                    .rows = {0, 1, 2},
                    .geometry = {{1, 1, 1, 1, 96, 130}}},
                   "full, empty, all but a corner");
}

// What is no number is not above the threshold, and neither are the pixels that it is blended into.
TEST(CudaResizeMasks, LogitsThatAreNoNumbers) {
  SKIP_WITHOUT_GPU();
  for (const float bad : {NAN, INFINITY, -INFINITY})
    for (const float rest : {1.0f, -1.0f}) {
      std::vector<float> values(20 * 24, rest);
      for (const std::size_t at : {0, 37, 201, 479}) values[at] = bad;
      expect_same_runs({.logits = tensor_of(values, {1, 20, 24}),
                        .images = {0},
                        .rows = {0},
                        .geometry = {{1, 1, 1, 1, 133, 117}}},
                       fmt::format("{} among {}", bad, rest));
    }
}

TEST(CudaResizeMasks, ManyOrNoneOfABatch) {
  SKIP_WITHOUT_GPU();
  for (const int count : {0, 1, 40, 1100}) {
    std::vector<int> images;
    std::vector<std::int32_t> rows;
    for (int e = 0; e < count; ++e) images.push_back(e * 2 / count), rows.push_back(e % 8);
    expect_same_runs({.logits = random_tensor({8, 20, 24}, -1, 1, 3),
                      .images = images,
                      .rows = rows,
                      .geometry = kTwoImages},
                     fmt::format("{} masks", count));
  }
}

}  // namespace
}  // namespace osprey

// The picture's way into and out of the network against what Detectron2 did (fixtures/detectron2): decoding
// and resizing, sizes of ResizeShortestEdge, and pasted masks as run lengths.
#include <gtest/gtest.h>

#include "image/paste_mask.h"
#include "image/resize.h"
#include "image/rle.h"
#include "parity/fixtures.h"
#include "parity/golden_arrays.h"

namespace osprey {
namespace {

class ImageOps : public testing::Test {
 protected:
  void SetUp() override { OSPREY_NEEDS_FIXTURE(fixture("detectron2")) }

  static GoldenArrays golden(const std::string& name) {
    return GoldenArrays(fixture("detectron2") / name / "golden.npz");
  }
};

TEST_F(ImageOps, NetworkInputs) {
  const struct {
    const char *name, *photo;
    int shortest, longest;
  } cases[] = {{"mask_rcnn_R_50_FPN_3x", "coffee.png", 800, 1333},
               {"mask_rcnn_R_50_FPN_3x_astronaut", "astronaut.png", 800, 1333},
               {"mask_rcnn_narrow", "chelsea.png", 256, 384}};
  constexpr float kMean[] = {103.53f, 116.28f, 123.675f};  // of blue, green and red; the deviation is 1
  for (const auto& c : cases) {
    const GoldenArrays arrays = golden(c.name);
    const Image photo = read_image(fixture("images") / c.photo);
    const ImageSize size = shortest_edge_size(photo.width, photo.height, c.shortest, c.longest);
    const Image resized = resize_pil_bilinear(photo, size.width, size.height);

    const Tensor samples = arrays.tensor("input__sample"), shape = arrays.tensor("input__shape");
    const auto values = samples.values<float>();
    const auto dims = shape.values<std::int64_t>();  // 1, 3, height and width, padded
    const std::int64_t stride = arrays.tensor("input__stride").values<std::int64_t>()[0];
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t flat = static_cast<std::int64_t>(i) * stride;
      const std::int64_t x = flat % dims[3], y = flat / dims[3] % dims[2], channel = flat / dims[3] / dims[2];
      const bool padding = x >= size.width || y >= size.height;
      const float expected =
          padding
              ? 0
              : static_cast<float>(resized.row(static_cast<int>(y))[3 * x + 2 - channel]) - kMean[channel];
      ASSERT_EQ(values[i], expected) << c.name << " " << x << " " << y << " " << channel;
    }
  }
}

TEST_F(ImageOps, ShortestEdgeSizes) {
  const struct {
    const char* name;
    int shortest, longest;
  } cases[] = {{"resize_hw_800_1333", 800, 1333},
               {"resize_hw_1344_1344", 1344, 1344},
               {"resize_hw_320_480", 320, 480},
               {"resize_hw_256_384", 256, 384}};
  const GoldenArrays arrays = golden("ops");
  const Tensor images = arrays.tensor("in_image_wh");
  const auto wh = images.values<std::int64_t>();
  for (const auto& c : cases) {
    const Tensor sizes = arrays.tensor(c.name);
    const auto hw = sizes.values<std::int64_t>();
    for (std::size_t i = 0; i < wh.size(); i += 2) {
      const ImageSize got =
          shortest_edge_size(static_cast<int>(wh[i]), static_cast<int>(wh[i + 1]), c.shortest, c.longest);
      EXPECT_EQ(got.height, hw[i]) << c.name << " " << wh[i] << "x" << wh[i + 1];
      EXPECT_EQ(got.width, hw[i + 1]) << c.name << " " << wh[i] << "x" << wh[i + 1];
    }
  }
}

TEST_F(ImageOps, PastedMasksAreEqualRunForRun) {
  constexpr int kHeight = 80, kWidth = 100;
  const GoldenArrays arrays = golden("ops");
  const Tensor masks = arrays.tensor("in_masks"), boxes = arrays.tensor("in_paste_boxes"),
               areas = arrays.tensor("paste_area");
  const auto count = static_cast<std::size_t>(masks.dim(0));
  const auto cells = static_cast<std::size_t>(masks.dim(1) * masks.dim(2));
  const auto rles = arrays.strings("paste_rle");
  ASSERT_EQ(rles.size(), count);
  PasteWorkspace workspace;
  Rle rle;
  for (std::size_t i = 0; i < count; ++i) {
    const auto b = boxes.values<float>().subspan(4 * i, 4);
    paste_mask(masks.values<float>().subspan(i * cells, cells), static_cast<int>(masks.dim(1)),
               {b[0], b[1], b[2], b[3]}, kHeight, kWidth, 0.5f, workspace, rle);
    EXPECT_EQ(mask_area(rle), areas.values<std::int64_t>()[i]) << "mask " << i;
    EXPECT_EQ(compress_rle(rle), rles[i]) << "mask " << i;
  }
}

}  // namespace
}  // namespace osprey

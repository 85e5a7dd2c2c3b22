// The picture's way into and out of the network against what Detectron2 did (fixtures/detectron2/ops): sizes
// of ResizeShortestEdge, and pasted masks as run lengths.
#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include "formats/npy.h"
#include "image/paste_mask.h"
#include "image/resize.h"
#include "image/rle.h"

namespace osprey {
namespace {

std::filesystem::path fixtures() {
  const char* root = std::getenv("OSPREY_FIXTURES");
  return root ? root : OSPREY_SOURCE_DIR "/../shared/fixtures";
}

// The arrays of one case.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : source_(open_source(fixtures() / "detectron2" / name / "golden.npz")) {
    arrays_ = read_npz(source_);
  }

  Tensor array(const std::string& name) const {
    for (const NamedTensor& tensor : arrays_.tensors)
      if (tensor.name == name) return tensor.load();
    ADD_FAILURE() << name << " is not among the goldens";
    return {};
  }

  // numpy's array of byte strings, S<width>, which is no tensor: the contents after the .npy header.
  std::vector<std::string> texts(const std::string& name, std::size_t count) const {
    const ZipArchive zip(source_);
    const ZipEntry* entry = zip.find(name + ".npy");
    if (!entry) return {};
    const ZipData npy = zip.read(*entry, 1 << 20);
    const std::string_view bytes = as_text(npy.bytes);
    const std::string_view cells = bytes.substr(bytes.find('\n') + 1);
    std::vector<std::string> out;
    for (std::size_t i = 0, width = cells.size() / count; i < count; ++i) {
      const std::string_view cell = cells.substr(i * width, width);
      out.emplace_back(cell.substr(0, cell.find('\0')));
    }
    return out;
  }

 private:
  Source source_;
  Checkpoint arrays_;
};

class ImageOps : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(fixtures() / "detectron2"))
      GTEST_SKIP() << "no fixtures at " << fixtures().string() << " (set OSPREY_FIXTURES)";
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
    const Golden golden(c.name);
    const Image photo = read_image(fixtures() / "images" / c.photo);
    const ImageSize size = shortest_edge_size(photo.width, photo.height, c.shortest, c.longest);
    const Image resized = resize_pil_bilinear(photo, size.width, size.height);

    const Tensor samples = golden.array("input__sample"), shape = golden.array("input__shape");
    const auto values = samples.values<float>();
    const auto dims = shape.values<std::int64_t>();  // 1, 3, height and width, padded
    const std::int64_t stride = golden.array("input__stride").values<std::int64_t>()[0];
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
  const Golden golden("ops");
  const Tensor images = golden.array("in_image_wh");
  const auto wh = images.values<std::int64_t>();
  for (const auto& c : cases) {
    const Tensor sizes = golden.array(c.name);
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
  const Golden golden("ops");
  const Tensor masks = golden.array("in_masks"), boxes = golden.array("in_paste_boxes"),
               areas = golden.array("paste_area");
  const auto count = static_cast<std::size_t>(masks.dim(0));
  const auto cells = static_cast<std::size_t>(masks.dim(1) * masks.dim(2));
  const auto rles = golden.texts("paste_rle", count);
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

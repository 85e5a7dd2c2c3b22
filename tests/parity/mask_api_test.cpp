// Every number and string of pycocotools 2.0.11's mask API on its golden cases.
#include <array>
#include <cstring>
#include <memory>

#include <gtest/gtest.h>

#include "image/rle.h"
#include "parity/fixtures.h"
#include "parity/golden_arrays.h"

namespace osprey {
namespace {

class MaskApiParity : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto file = fixture("cocoeval/mask_api/golden.npz");
    OSPREY_NEEDS_FIXTURE(file);
    golden_ = std::make_unique<GoldenArrays>(file);
    const auto size = golden_->doubles("size");
    height_ = static_cast<int>(size[0]);
    width_ = static_cast<int>(size[1]);
    for (const auto& text : golden_->strings("rle")) masks_.push_back(decompress_rle(text, height_, width_));
  }

  // Lists of numbers that an array holds one after the other.
  std::vector<std::vector<double>> lists(const std::string& flat, const std::string& lengths) const {
    const auto all = golden_->doubles(flat);
    std::vector<std::vector<double>> out;
    auto at = all.begin();
    for (const double length : golden_->doubles(lengths)) {
      out.emplace_back(at, at + static_cast<std::ptrdiff_t>(length));
      at += static_cast<std::ptrdiff_t>(length);
    }
    return out;
  }
  std::vector<std::array<double, 4>> boxes() const {
    const auto flat = golden_->doubles("boxes");
    std::vector<std::array<double, 4>> out;
    for (std::size_t i = 0; i < flat.size(); i += 4)
      out.push_back({flat[i], flat[i + 1], flat[i + 2], flat[i + 3]});
    return out;
  }

  std::unique_ptr<GoldenArrays> golden_;
  int height_ = 0, width_ = 0;
  std::vector<Rle> masks_;
};

void expect_shapes(const std::vector<Rle>& masks, const std::vector<double>& areas,
                   const std::vector<double>& boxes) {
  for (std::size_t i = 0; i < masks.size(); ++i) {
    EXPECT_EQ(static_cast<double>(mask_area(masks[i])), areas[i]) << i;
    const auto box = mask_box(masks[i]);
    for (std::size_t j = 0; j < 4; ++j) EXPECT_EQ(box[j], boxes[4 * i + j]) << i << ", " << j;
  }
}

TEST_F(MaskApiParity, EncodesAndDecodes) {
  const Tensor pixels = golden_->tensor("masks");
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(pixels.bytes().data());
  const std::size_t area = static_cast<std::size_t>(height_) * width_;
  const auto texts = golden_->strings("rle");
  for (std::size_t i = 0; i < masks_.size(); ++i) {
    EXPECT_EQ(compress_rle(encode_mask(bytes + i * area, height_, width_)), texts[i]) << i;
    std::vector<std::uint8_t> back(area);
    decode_mask(masks_[i], back.data());
    EXPECT_EQ(std::memcmp(back.data(), bytes + i * area, area), 0) << i;
  }
  expect_shapes(masks_, golden_->doubles("area"), golden_->doubles("bbox"));
}

TEST_F(MaskApiParity, EncodesALargeMask) {
  const auto packed = golden_->doubles("big_mask");  // numpy.packbits: the first pixel is the highest bit
  std::vector<std::uint8_t> mask;
  for (const double byte : packed) {
    for (int bit = 7; bit >= 0; --bit) mask.push_back(static_cast<unsigned>(byte) >> bit & 1);
  }
  EXPECT_EQ(compress_rle(encode_mask(mask.data(), 480, 640)), golden_->strings("big_rle")[0]);
}

TEST_F(MaskApiParity, ReadsUncompressedCounts) {
  const auto texts = golden_->strings("rle_from_uncompressed");
  const auto counts = lists("uncompressed_flat", "uncompressed_len");
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::vector<std::uint32_t> runs(counts[i].begin(), counts[i].end());
    EXPECT_EQ(compress_rle(rle_from_counts(runs, height_, width_)), texts[i]) << i;
  }
}

TEST_F(MaskApiParity, Merges) {
  const auto unions = golden_->strings("merge_union_prefix"),
             intersections = golden_->strings("merge_inter_prefix");
  for (std::size_t i = 0; i < unions.size(); ++i) {
    const std::span first(masks_.data(), i + 1);
    EXPECT_EQ(compress_rle(merge_masks(first, false)), unions[i]) << i;
    EXPECT_EQ(compress_rle(merge_masks(first, true)), intersections[i]) << i;
  }
}

TEST_F(MaskApiParity, Overlaps) {
  for (const bool crowd : {false, true}) {
    const std::string suffix = crowd ? "iou_crowd1" : "iou_crowd0";
    std::vector<double> of_masks, of_boxes;
    for (const auto& d : masks_) {
      for (const auto& g : masks_) of_masks.push_back(mask_iou(d, g, crowd));
    }
    for (const auto& d : boxes()) {
      for (const auto& g : boxes()) of_boxes.push_back(box_iou(d, g, crowd));
    }
    expect_all_near(of_masks, golden_->doubles("mask_" + suffix), 0, "mask_" + suffix);
    expect_all_near(of_boxes, golden_->doubles("box_" + suffix), 0, "box_" + suffix);
  }
}

TEST_F(MaskApiParity, RasterisesPolygonsAndBoxes) {
  std::vector<Rle> rasters;
  const auto texts = golden_->strings("poly_rle");
  for (const auto& polygon : lists("poly_flat", "poly_len")) {
    rasters.push_back(rle_from_polygon(polygon, height_, width_));
    EXPECT_EQ(compress_rle(rasters.back()), texts[rasters.size() - 1]) << rasters.size() - 1;
  }
  expect_shapes(rasters, golden_->doubles("poly_area"), golden_->doubles("poly_bbox"));

  const auto box_texts = golden_->strings("box_rle");
  for (std::size_t i = 0; i < box_texts.size(); ++i) {
    EXPECT_EQ(compress_rle(rle_from_box(boxes()[i], height_, width_)), box_texts[i]) << i;
  }
}

}  // namespace
}  // namespace osprey

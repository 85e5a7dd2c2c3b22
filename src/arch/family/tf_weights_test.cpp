#include "arch/family/tf_weights.h"

#include <numeric>

#include <gmock/gmock.h>

#include "core/error.h"

namespace osprey {
namespace {

using testing::ElementsAre;

// 0, 1, 2, ... in C order.
NamedTensor counting(const std::string& name, const Shape& shape) {
  std::vector<float> values(static_cast<std::size_t>(element_count(shape)));
  std::iota(values.begin(), values.end(), 0.f);
  NamedTensor out;
  out.name = name;
  out.shape = shape;
  out.load = [t = Tensor::from<float>(values, shape)] { return t; };
  return out;
}

TEST(TfWeights, ConvolutionsPutOutputsFirst) {
  // Element (y, x, in, out) is 12y + 6x + 3in + out.
  const NamedTensor t = from_tf(counting("conv/kernel", {1, 2, 2, 3}), TfLayout::kConv);
  EXPECT_THAT(t.shape, ElementsAre(3, 2, 1, 2));
  EXPECT_THAT(t.load().shape(), ElementsAre(3, 2, 1, 2));
  EXPECT_THAT(t.load().values<float>(), ElementsAre(0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11));
}

TEST(TfWeights, ADepthwiseMultiplierCountsWithinItsChannel) {
  const NamedTensor t = from_tf(counting("conv/depthwise_kernel", {2, 1, 2, 2}), TfLayout::kDepthwise);
  EXPECT_THAT(t.shape, ElementsAre(4, 1, 2, 1));
  EXPECT_THAT(t.load().values<float>(), ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
}

TEST(TfWeights, DenseLayersAreTransposed) {
  const NamedTensor t = from_tf(counting("fc/kernel", {2, 3}), TfLayout::kDense);
  EXPECT_THAT(t.shape, ElementsAre(3, 2));
  EXPECT_THAT(t.load().values<float>(), ElementsAre(0, 3, 1, 4, 2, 5));
}

TEST(TfWeights, HalvesArePermutedAsTheyAre) {
  NamedTensor t;
  const std::uint16_t bits[] = {1, 2, 3, 4, 5, 6};
  t.dtype = DType::kF16;
  t.shape = {2, 3};
  t.load = [&] { return Tensor::borrow(DType::kF16, {2, 3}, std::as_bytes(std::span(bits)), nullptr); };
  const Tensor out = from_tf(t, TfLayout::kDense).load();
  ASSERT_EQ(out.dtype(), DType::kF16);
  std::vector<std::uint16_t> got(6);
  std::memcpy(got.data(), out.bytes().data(), 12);
  EXPECT_THAT(got, ElementsAre(1, 4, 2, 5, 3, 6));
}

TEST(TfWeights, AWrongRankIsRefusedByName) {
  EXPECT_THAT(
      [] {
        from_tf(counting("conv/kernel", {2, 3}), TfLayout::kConv);
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("conv/kernel: is [2, 3]")));
}

TEST(TfWeights, LayoutsFollowNamesAndRanks) {
  EXPECT_EQ(tf_layout("a/b/kernel", 4), TfLayout::kConv);
  EXPECT_EQ(tf_layout("a/b/kernel", 2), TfLayout::kDense);
  EXPECT_EQ(tf_layout("a/pointwise_kernel", 4), TfLayout::kConv);
  EXPECT_EQ(tf_layout("a/depthwise_kernel", 4), TfLayout::kDepthwise);
  EXPECT_EQ(tf_layout("kernel", 4), TfLayout::kConv);
  EXPECT_EQ(tf_layout("a/kernel/moving_mean", 1), TfLayout::kAsIs);
  EXPECT_EQ(tf_layout("a/bias", 1), TfLayout::kAsIs);
}

}  // namespace
}  // namespace osprey

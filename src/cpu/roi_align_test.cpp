#include "ops/roi_align.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "cpu/roi_align_cases_test.h"

namespace osprey {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// One bilinear sample of a plane as torchvision defines it.
double sample(const float* plane, std::int64_t h, std::int64_t w, double y, double x) {
  if (y < -1 || y > static_cast<double>(h) || x < -1 || x > static_cast<double>(w)) return 0;
  const auto axis = [](double at, std::int64_t size) {
    at = std::max(at, 0.0);
    const auto low = std::min(static_cast<std::int64_t>(at), size - 1), high = std::min(low + 1, size - 1);
    return std::tuple{low, high, high == low ? 0.0 : at - static_cast<double>(low)};
  };
  const auto [y0, y1, fy] = axis(y, h);
  const auto [x0, x1, fx] = axis(x, w);
  const auto at = [&](std::int64_t i, std::int64_t j) { return static_cast<double>(plane[i * w + j]); };
  return (1 - fy) * ((1 - fx) * at(y0, x0) + fx * at(y0, x1)) +
         fy * ((1 - fx) * at(y1, x0) + fx * at(y1, x1));
}

// The mean of samples, one after the other, on the level that the paper's formula gives.
std::vector<float> reference(const RoiAlign& op, const std::vector<Tensor>& levels,
                             const std::vector<Roi>& rois) {
  std::vector<float> out;
  for (const Roi& roi : rois) {
    const double size = std::sqrt(std::max(0.0f, roi.box.area()));
    const double level =
        std::floor(op.canonical_level + std::log2(size / op.canonical_size + 1e-8)) - op.first_level;
    const auto l = static_cast<std::size_t>(std::clamp(level, 0.0, static_cast<double>(levels.size()) - 1));
    const Shape& shape = levels[l].shape();
    const double scale = op.scales[l], shift = op.aligned ? 0.5 : 0;
    const double y0 = roi.box.y0 * scale - shift, x0 = roi.box.x0 * scale - shift;
    double h = roi.box.y1 * scale - shift - y0, w = roi.box.x1 * scale - shift - x0;
    if (!op.aligned) h = std::max(h, 1.0), w = std::max(w, 1.0);
    const int ny = op.samples ? op.samples : static_cast<int>(std::ceil(static_cast<float>(h / op.out)));
    const int nx = op.samples ? op.samples : static_cast<int>(std::ceil(static_cast<float>(w / op.out)));
    for (std::int64_t c = 0; c < shape[1]; ++c) {
      const float* plane = levels[l].values<float>().data() +
                           (static_cast<std::int64_t>(roi.image) * shape[1] + c) * shape[2] * shape[3];
      for (int by = 0; by < op.out; ++by)
        for (int bx = 0; bx < op.out; ++bx) {
          double sum = 0;
          for (int iy = 0; iy < ny; ++iy)
            for (int ix = 0; ix < nx; ++ix)
              sum += sample(plane, shape[2], shape[3], y0 + (by + (iy + 0.5) / ny) * h / op.out,
                            x0 + (bx + (ix + 0.5) / nx) * w / op.out);
          out.push_back(static_cast<float>(sum / std::max(ny * nx, 1)));
        }
    }
  }
  return out;
}

std::vector<RoiSetting> settings() {
  const RoiAlign pyramid{.out = 7, .samples = 0, .scales = {0.25f, 0.125f, 0.0625f, 0.03125f}};
  const RoiAlign legacy{.out = 14, .samples = 2, .scales = {0.125f}, .aligned = false};
  const RoiAlign two_levels{.out = 7, .samples = 2, .scales = {0.125f, 0.0625f}, .first_level = 3};
  const RoiAlign small{.out = 3, .samples = 0, .scales = {0.25f}, .aligned = false};
  return {{pyramid, 2, 16, {{40, 56}, {20, 28}, {10, 14}, {5, 7}}},
          {legacy, 1, 20, {{25, 33}}},
          {two_levels, 1, 109, {{20, 28}, {10, 14}}},
          {small, 3, 1, {{31, 17}}}};
}

std::vector<Roi> random_and_empty_rois(std::int64_t count, std::int64_t images) {
  std::vector<Roi> out = random_rois(count, images);
  out.push_back({0, {10, 10, 10, 40}});
  out.push_back({0, {-500, -500, -400, -400}});
  out.push_back({0, {0, 0, 224, 160}});
  return out;
}

std::vector<float> run(const RoiAlign& op, const std::vector<Tensor>& levels, const std::vector<Roi>& rois,
                       CpuLayout in, CpuLayout out, int threads = 1) {
  KernelCase test{.op = op, .output_layout = out, .threads = threads};
  for (const Tensor& level : levels) test.inputs.push_back({level, in});
  test.inputs.push_back({rows_tensor(rois), {}, static_cast<std::int64_t>(rois.size()) + 9});
  const Tensor result = run_kernel(test).at(0).to_f32();
  return {result.values<float>().begin(), result.values<float>().end()};
}

TEST(RoiAlign, IsTheMeanOfBilinearSamples) {
  for (const RoiSetting& s : settings()) {
    const std::vector<Tensor> levels = random_levels(s);
    const std::vector<Roi> rois = random_and_empty_rois(80, s.images);
    const std::vector<float> want = reference(s.op, levels, rois), got = run(s.op, levels, rois, {}, {});
    ASSERT_EQ(want.size(), got.size());
    for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(want[i], got[i], 3e-5f) << "element " << i;
  }
}

TEST(RoiAlign, AllLayoutsAndThreadsGiveTheSameBits) {
  for (const RoiSetting& s : settings()) {
    const std::vector<Tensor> levels = random_levels(s);
    const std::vector<Roi> rois = random_and_empty_rois(50, s.images);
    const std::vector<float> want = run(s.op, levels, rois, {}, {});
    for (const int block : {0, 1, 8, 16}) {
      EXPECT_EQ(want, run(s.op, levels, rois, {block}, {block}, 2)) << "block " << block;
      EXPECT_EQ(want, run(s.op, levels, rois, {block}, {1}, 2)) << "block " << block << " to C order";
      EXPECT_EQ(want, run(s.op, levels, rois, {1}, {block})) << "C order to block " << block;
    }
  }
}

TEST(RoiAlign, Bf16IsWidenedAndRoundedOnce) {
  const RoiSetting s = settings()[0];
  std::vector<Tensor> wide, narrow;
  for (const Tensor& level : random_levels(s)) {
    Tensor half = Tensor::zeros(DType::kBF16, level.shape());
    std::ranges::transform(level.values<float>(), half.mutable_values<BFloat16>().begin(), to_bfloat16);
    narrow.push_back(half);
    wide.push_back(half.to_f32());
  }
  const std::vector<Roi> rois = random_and_empty_rois(30, s.images);
  std::vector<float> want = run(s.op, wide, rois, {16}, {16});
  for (float& v : want) v = to_float(to_bfloat16(v));
  EXPECT_EQ(want, run(s.op, narrow, rois, {16}, {16}));
  EXPECT_EQ(want, run(s.op, narrow, rois, {0}, {1}));
}

TEST(RoiAlign, BoxesThatAreNoBoxesGiveZeros) {
  const RoiSetting s = settings()[0];
  const std::vector<Roi> rois{
      {0, {kInf, 0, kInf, 9}}, {0, {NAN, 0, 5, 9}}, {0, {30, 30, 10, 10}}, {1, {-kInf, -kInf, kInf, kInf}}};
  for (const float v : run(s.op, random_levels(s), rois, {16}, {16})) EXPECT_EQ(v, 0);
}

TEST(RoiAlign, NoBoxes) {
  const RoiSetting s = settings()[0];
  EXPECT_TRUE(run(s.op, random_levels(s), {}, {16}, {16}).empty());
}

// TensorFlow's crop_and_resize as its documentation has it, in double arithmetic.
double corner_sample(const RoiAlign& op, const float* plane, std::int64_t h, std::int64_t w, double y,
                     double x) {
  const auto inside = [](double at, std::int64_t size) {
    return at >= 0 && at <= static_cast<double>(size - 1);
  };
  if (!op.neighbours && !(inside(y, h) && inside(x, w))) return 0;
  double sum = 0;
  for (std::int64_t i = 0; i < h; ++i)
    for (std::int64_t j = 0; j < w; ++j)
      sum += std::max(0.0, 1 - std::abs(y - static_cast<double>(i))) *
             std::max(0.0, 1 - std::abs(x - static_cast<double>(j))) * static_cast<double>(plane[i * w + j]);
  return sum;
}

TEST(RoiAlign, CornersOfTensorflow) {
  const std::vector<Roi> rois{{0, {10, 20, 70.5f, 60}},
                              {1, {-9, 3, 30, 101}},
                              {0, {0, 0, 96, 80}},
                              {1, {40, 40, 40, 40}},
                              {0, {200, 9, 300, 30}}};
  const std::vector<float> geometry{80, 96, 1, 1, 80, 96, 64, 90, 1, 1, 64, 90};
  Tensor boxes = Tensor::zeros(DType::kF32, {5, 5});
  std::copy_n(&rois[0].image, 25, boxes.mutable_values<float>().data());
  for (const std::int64_t channels : {3, 16, 70})
    for (const bool neighbours : {false, true})
      for (const bool canvas : {false, true})
        for (const auto& [out, pool] : {std::pair{1, 1}, {7, 1}, {6, 2}, {7, 2}}) {
          RoiAlign op{.out = out,
                      .scales = {},
                      .sampling = RoiSampling::kCorners,
                      .neighbours = neighbours,
                      .pool = pool};
          if (canvas) op.canvas_height = 80, op.canvas_width = 96;
          const Tensor map = random_tensor({2, channels, 5, 6}, -1, 2, 9);
          std::vector<double> want;
          for (const Roi& roi : rois) {
            const float* g = geometry.data() + (canvas ? 0 : 6 * static_cast<std::size_t>(roi.image));
            const auto at = [&](float low, float high, float extent, int size, int i) -> double {
              if (op.out == 1) return 0.5 * (low / extent + high / extent) * (size - 1);
              return low / extent * (size - 1) +
                     i * (high / extent - low / extent) * (size - 1) / (op.out - 1);
            };
            for (std::int64_t c = 0; c < channels; ++c)
              for (int by = 0; by < op.side(); ++by)
                for (int bx = 0; bx < op.side(); ++bx) {
                  double most = -1e9;
                  for (int p = 0; p < pool * pool; ++p)
                    most = std::max(
                        most, corner_sample(op,
                                            map.values<float>().data() +
                                                (static_cast<std::int64_t>(roi.image) * channels + c) * 30,
                                            5, 6, at(roi.box.y0, roi.box.y1, g[0], 5, by * pool + p / pool),
                                            at(roi.box.x0, roi.box.x1, g[1], 6, bx * pool + p % pool)));
                  want.push_back(most);
                }
          }
          for (const int block : {0, 1, 8, 16}) {
            KernelCase test{
                .op = op, .inputs = {{map, {block}}, {boxes, {}, 7}}, .output_layout = {block}, .threads = 2};
            if (!canvas) test.inputs.push_back({tensor_of(geometry, {2, 6})});
            const Tensor got = run_kernel(test).at(0);
            ASSERT_EQ(got.shape(), (Shape{5, channels, op.side(), op.side()}));
            for (std::size_t i = 0; i < want.size(); ++i)
              ASSERT_NEAR(got.values<float>()[i], want[i], 2e-5)
                  << "box " << i / (want.size() / 5) << " of " << out << ", " << pool;
          }
        }
}

}  // namespace
}  // namespace osprey

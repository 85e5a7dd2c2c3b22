// The kernels that keep shapes: activate, add, batch_norm, cast, mean, softmax; and those that only move or
// average pixels: upsample, flatten, global_average_pool.
#include <functional>

#include "cpu/testing.h"
#include "ops/activate.h"
#include "ops/add.h"
#include "ops/batch_norm.h"
#include "ops/flatten.h"
#include "ops/global_average_pool.h"
#include "ops/mean.h"
#include "ops/softmax.h"
#include "ops/upsample.h"

namespace osprey::testing {
namespace {

double at(const Tensor& t, std::int64_t i) { return t.values<float>()[static_cast<std::size_t>(i)]; }

Tensor filled(const Shape& shape, const std::function<double(std::int64_t)>& value) {
  Tensor out = Tensor::zeros(DType::kF32, shape);
  for (std::int64_t i = 0; i < out.size(); ++i)
    out.mutable_values<float>()[static_cast<std::size_t>(i)] = static_cast<float>(value(i));
  return out;
}

// In every layout and type, for a full batch, for no rows and for some of the rows that there may be.
void in_every_way(const Op& op, const Shape& shape, std::size_t inputs, const std::vector<Tensor>& weights,
                  const std::vector<DType>& types,
                  const std::function<Tensor(const std::vector<Tensor>&)>& reference) {
  struct Rows {
    std::int64_t live, bound;
  };
  for (const Rows rows : {Rows{2, 0}, Rows{0, 20}, Rows{5, 20}})
    for (const int block : {0, 1, 8, 16})
      for (const DType type : types) {
        OpCase c{op, {}, weights, type, rows.bound};
        c.options.block = block;
        std::vector<Tensor> seen;
        for (std::size_t i = 0; i < inputs; ++i) {
          Shape s = shape;
          s[0] = rows.live;
          c.inputs.push_back(random_tensor(s, static_cast<unsigned>(i + 1), 3));
          seen.push_back(as_seen(c.inputs.back(), type));
        }
        expect_near(run_case(c), reference(seen), type == DType::kF32 ? 2e-6 : 8e-3,
                    fmt::format("{} of {}, block {}, {} rows, {}", op.name(), to_string(shape), block,
                                rows.live, name_of(type)));
      }
}

const std::vector<DType> kBoth{DType::kF32, DType::kBF16}, kOnlyF32{DType::kF32};
const std::vector<Shape> kMaps{{1, 3, 5, 4}, {1, 24, 3, 7}, {1, 81, 2, 2}};

TEST(CpuElementwise, Activate) {
  const std::pair<Activation, double (*)(double)> kinds[]{
      {Activation::kNone, [](double v) { return v; }},
      {Activation::kRelu, [](double v) { return std::max(v, 0.0); }},
      {Activation::kSigmoid, [](double v) { return 1 / (1 + std::exp(-v)); }},
      {Activation::kSwish, [](double v) { return v / (1 + std::exp(-v)); }}};
  for (const auto& [kind, f] : kinds)
    for (const Shape& shape : {kMaps[0], kMaps[1], Shape{1, 7}})
      in_every_way(Activate{.kind = kind}, shape, 1, {}, kBoth, [f = f](const auto& in) {
        return filled(in[0].shape(), [&](std::int64_t i) { return f(at(in[0], i)); });
      });
}

TEST(CpuElementwise, Add) {
  for (const Shape& shape : kMaps)
    in_every_way(Add{}, shape, 2, {}, kBoth, [](const auto& in) {
      return filled(in[0].shape(), [&](std::int64_t i) { return at(in[0], i) + at(in[1], i); });
    });
}

TEST(CpuElementwise, Mean) {
  in_every_way(Mean{}, {1, 81}, 3, {}, kOnlyF32, [](const auto& in) {
    return filled(in[0].shape(),
                  [&](std::int64_t i) { return (at(in[0], i) + at(in[1], i) + at(in[2], i)) / 3; });
  });
}

TEST(CpuElementwise, Softmax) {
  in_every_way(Softmax{}, {1, 81}, 1, {}, kOnlyF32, [](const auto& in) {
    return filled(in[0].shape(), [&](std::int64_t i) {
      const std::int64_t first = i / 81 * 81;
      double largest = -1e30, sum = 0;
      for (std::int64_t k = first; k < first + 81; ++k) largest = std::max(largest, at(in[0], k));
      for (std::int64_t k = first; k < first + 81; ++k) sum += std::exp(at(in[0], k) - largest);
      return std::exp(at(in[0], i) - largest) / sum;
    });
  });
}

TEST(CpuElementwise, BatchNorm) {
  for (const Shape& shape : kMaps) {
    const std::int64_t c = shape[1], pixels = shape[2] * shape[3];
    const Tensor scale = random_tensor({c}, 11), bias = random_tensor({c}, 12), mean = random_tensor({c}, 13);
    const Tensor variance = filled({c}, [](std::int64_t i) { return 0.5 + 0.01 * static_cast<double>(i); });
    in_every_way(BatchNorm{.epsilon = 1e-3f}, shape, 1, {scale, bias, mean, variance}, kBoth,
                 [&](const auto& in) {
                   return filled(in[0].shape(), [&](std::int64_t i) {
                     const std::int64_t k = i / pixels % c;
                     return (at(in[0], i) - at(mean, k)) / std::sqrt(at(variance, k) + 1e-3) * at(scale, k) +
                            at(bias, k);
                   });
                 });
  }
}

TEST(CpuElementwise, Flatten) {
  for (const Shape& shape : kMaps)
    in_every_way(Flatten{}, shape, 1, {}, kBoth, [&](const auto& in) {
      return in[0].reshaped({in[0].dim(0), shape[1] * shape[2] * shape[3]});
    });
}

TEST(CpuElementwise, GlobalAveragePool) {
  for (const Shape& shape : kMaps) {
    const std::int64_t pixels = shape[2] * shape[3];
    in_every_way(GlobalAveragePool{}, shape, 1, {}, kBoth, [&](const auto& in) {
      return filled({in[0].dim(0), shape[1]}, [&](std::int64_t i) {
        double sum = 0;
        for (std::int64_t k = 0; k < pixels; ++k) sum += at(in[0], i * pixels + k);
        return sum / static_cast<double>(pixels);
      });
    });
  }
}

// PyTorch's rule, by its formula.
double bilinear(const Tensor& x, std::int64_t plane, std::int64_t v, std::int64_t u, int scale) {
  const std::int64_t h = x.dim(2), w = x.dim(3);
  const double sy = std::max(0.0, (static_cast<double>(v) + 0.5) / scale - 0.5);
  const double sx = std::max(0.0, (static_cast<double>(u) + 0.5) / scale - 0.5);
  const auto y0 = static_cast<std::int64_t>(sy), x0 = static_cast<std::int64_t>(sx);
  const std::int64_t y1 = std::min(y0 + 1, h - 1), x1 = std::min(x0 + 1, w - 1);
  const double fy = sy - static_cast<double>(y0), fx = sx - static_cast<double>(x0);
  const auto p = [&](std::int64_t r, std::int64_t c) { return at(x, (plane * h + r) * w + c); };
  return (p(y0, x0) * (1 - fx) + p(y0, x1) * fx) * (1 - fy) + (p(y1, x0) * (1 - fx) + p(y1, x1) * fx) * fy;
}

TEST(CpuElementwise, Upsample) {
  for (const Shape& shape : kMaps)
    for (const Interpolation mode : {Interpolation::kNearest, Interpolation::kBilinear})
      for (const int scale : {1, 2, 3}) {
        const std::int64_t h = shape[2] * scale, w = shape[3] * scale;
        in_every_way(Upsample{.mode = mode, .scale = scale}, shape, 1, {}, kBoth, [&](const auto& in) {
          return filled({in[0].dim(0), shape[1], h, w}, [&](std::int64_t i) {
            const std::int64_t plane = i / (h * w), v = i / w % h, u = i % w;
            if (mode == Interpolation::kBilinear) return bilinear(in[0], plane, v, u, scale);
            return at(in[0], (plane * shape[2] + v / scale) * shape[3] + u / scale);
          });
        });
      }
}

}  // namespace
}  // namespace osprey::testing

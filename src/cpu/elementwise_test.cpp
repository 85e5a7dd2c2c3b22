// The kernels that keep shapes: activate, add, batch_norm, cast, mean, scale, scale_channels, softmax,
// squeeze_excite, weighted_sum; and those that only move or average pixels: upsample, concat, flatten,
// global_average_pool.
#include <functional>

#include "cpu/testing.h"
#include "ops/activate.h"
#include "ops/add.h"
#include "ops/batch_norm.h"
#include "ops/concat.h"
#include "ops/flatten.h"
#include "ops/global_average_pool.h"
#include "ops/mean.h"
#include "ops/scale.h"
#include "ops/scale_channels.h"
#include "ops/softmax.h"
#include "ops/squeeze_excite.h"
#include "ops/upsample.h"
#include "ops/weighted_sum.h"

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
      {Activation::kSwish, [](double v) { return v / (1 + std::exp(-v)); }},
      {Activation::kRelu6, [](double v) { return std::min(std::max(v, 0.0), 6.0); }}};
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

// What tf.reduce_mean over the pixels (TensorFlow 2.15.1) gives for these values: the order of its sums shows
// in the last digits, and behind a whole EfficientDet in the third.
TEST(CpuElementwise, GlobalAveragePoolIsSummedInTensorFlowsOrder) {
  struct Known {
    std::int64_t height, width;
    std::vector<float> means;
  };
  const Known known[]{{3,
                       5,
                       {0.543236554f, 0.427937239f, 0.512637854f, 0.464005172f, 0.482039183f, 0.566739917f,
                        0.451440483f, 0.536141157f}},
                      {4,
                       4,
                       {0.519539177f, 0.450073183f, 0.505607128f, 0.436141133f, 0.491675109f, 0.547209144f,
                        0.477743089f, 0.533277094f}},
                      {41,
                       43,
                       {0.50251776f, 0.500585735f, 0.498086572f, 0.500692308f, 0.498193175f, 0.499664485f,
                        0.500568449f, 0.499203742f}}};
  constexpr std::int64_t kChannels = 8;
  for (const Known& k : known)
    for (const int copies : {1, 3}) {  // of the channels, so that whole groups of them are summed too
      const std::int64_t pixels = k.height * k.width, channels = copies * kChannels;
      const Tensor x = filled({1, channels, k.height, k.width}, [&](std::int64_t i) {
        const auto place = static_cast<std::uint32_t>(i % pixels * kChannels + i / pixels % kChannels);
        return static_cast<double>((place * 2654435761u) >> 8) / (1 << 24);
      });
      for (const int block : {0, 1, 8, 16}) {
        OpCase c{GlobalAveragePool{}, {x}, {}, DType::kF32};
        c.options.block = block;
        const Tensor y = run_case(c);
        for (std::int64_t i = 0; i < channels; ++i)
          EXPECT_EQ(at(y, i), k.means[static_cast<std::size_t>(i % kChannels)])
              << k.height << " x " << k.width << ", block " << block << ", channel " << i;
      }
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

// To sizes that no factor reaches, larger and smaller, by TensorFlow's formulas.
TEST(CpuElementwise, UpsampleToASize) {
  const auto source = [](Interpolation mode, std::int64_t i, std::int64_t in, std::int64_t out) {
    const double at = static_cast<double>(i), from = static_cast<double>(in), to = static_cast<double>(out);
    if (mode == Interpolation::kNearest) return std::floor(at * from / to);
    if (mode == Interpolation::kBilinear) return std::max(0.0, (at + 0.5) * from / to - 0.5);
    return out > 1 ? at * (from - 1) / (to - 1) : 0.0;
  };
  for (const Shape& shape : {Shape{1, 3, 5, 3}, Shape{1, 24, 3, 7}, Shape{1, 16, 1, 1}})
    for (const Interpolation mode :
         {Interpolation::kNearest, Interpolation::kBilinear, Interpolation::kBilinearCorners})
      for (const auto& [h, w] : {std::pair{9, 5}, {33, 33}, {1, 2}}) {
        in_every_way(
            Upsample{.mode = mode, .height = h, .width = w}, shape, 1, {}, kBoth, [&](const auto& in) {
              return filled({in[0].dim(0), shape[1], h, w}, [&, h = h, w = w](std::int64_t i) {
                const double y = source(mode, i / w % h, shape[2], h), x = source(mode, i % w, shape[3], w);
                const auto y0 = static_cast<std::int64_t>(y), x0 = static_cast<std::int64_t>(x);
                const double fy = y - static_cast<double>(y0), fx = x - static_cast<double>(x0);
                const auto p = [&](std::int64_t r, std::int64_t c) {
                  return at(in[0], (i / (h * w) * shape[2] + std::min(r, shape[2] - 1)) * shape[3] +
                                       std::min(c, shape[3] - 1));
                };
                return (p(y0, x0) * (1 - fx) + p(y0, x0 + 1) * fx) * (1 - fy) +
                       (p(y0 + 1, x0) * (1 - fx) + p(y0 + 1, x0 + 1) * fx) * fy;
              });
            });
      }
}

// TensorFlow's factor is an f32 quotient, which products with it may lift over a whole number or keep below.
TEST(CpuElementwise, UpsampleNearestRoundsAsTensorFlow) {
  for (const auto& [in, out] : {std::pair{3, 5}, {5, 9}, {10, 19}, {19, 38}, {7, 61}, {41, 49}}) {
    const Tensor x = filled({1, 1, 1, in}, [](std::int64_t i) { return static_cast<double>(i); });
    const Tensor y = run_case({Upsample{.height = 1, .width = out}, {x}});
    const float factor = static_cast<float>(in) / static_cast<float>(out);
    for (std::int64_t i = 0; i < out; ++i)
      EXPECT_EQ(at(y, i), std::floor(static_cast<float>(i) * factor)) << in << " to " << out << " at " << i;
  }
}

TEST(CpuElementwise, Scale) {
  for (const Shape& shape : kMaps)
    in_every_way(Scale{.factor = 0.17f}, shape, 1, {}, kBoth, [](const auto& in) {
      return filled(in[0].shape(), [&](std::int64_t i) { return at(in[0], i) * double{0.17f}; });
    });
}

TEST(CpuElementwise, ScaleChannels) {
  for (const Shape& shape : kMaps)
    for (const std::int64_t rows : {0, 2, 5})
      for (const int block : {0, 1, 8, 16})
        for (const DType type : kBoth) {
          const Tensor x = random_tensor({rows, shape[1], shape[2], shape[3]}, 1),
                       s = random_tensor({rows, shape[1]}, 2);
          OpCase c{ScaleChannels{}, {x, s}, {}, type, 7};
          c.options.block = block;
          const Tensor seen = as_seen(x, type), factors = as_seen(s, type);
          expect_near(
              run_case(c),
              filled(x.shape(),
                     [&](std::int64_t i) { return at(seen, i) * at(factors, i / (shape[2] * shape[3])); }),
              type == DType::kF32 ? 1e-6 : 8e-3, fmt::format("{}, block {}", to_string(shape), block));
        }
}

TEST(CpuElementwise, SqueezeExcite) {
  for (const Shape& shape :
       {Shape{1, 3, 5, 4}, Shape{1, 24, 3, 7}, Shape{1, 40, 50, 60}, Shape{1, 96, 1, 1}}) {
    const std::int64_t c = shape[1], s = c / 3, pixels = shape[2] * shape[3];
    // As large as a trained layer's: the error of a gate is that of its argument, which grows with both
    // layers.
    const auto layer = [](Tensor weights) {
      for (float& w : weights.mutable_values<float>()) w /= std::sqrt(static_cast<float>(weights.dim(1)));
      return weights;
    };
    const Tensor squeeze = layer(random_tensor({s, c}, 21)), squeeze_bias = random_tensor({s}, 22),
                 expand = layer(random_tensor({c, s}, 23)), expand_bias = random_tensor({c}, 24);
    in_every_way(SqueezeExcite{}, shape, 1, {squeeze, squeeze_bias, expand, expand_bias}, kBoth,
                 [&](const auto& in) {
                   const std::int64_t images = in[0].dim(0);
                   std::vector<double> gates;
                   for (std::int64_t n = 0; n < images; ++n) {
                     std::vector<double> means(static_cast<std::size_t>(c)), hidden;
                     for (std::int64_t i = 0; i < c * pixels; ++i)
                       means[static_cast<std::size_t>(i / pixels)] +=
                           at(in[0], n * c * pixels + i) / static_cast<double>(pixels);
                     for (std::int64_t k = 0; k < s; ++k) {
                       double v = at(squeeze_bias, k);
                       for (std::int64_t i = 0; i < c; ++i)
                         v += at(squeeze, k * c + i) * means[static_cast<std::size_t>(i)];
                       hidden.push_back(v / (1 + std::exp(-v)));
                     }
                     for (std::int64_t k = 0; k < c; ++k) {
                       double v = at(expand_bias, k);
                       for (std::int64_t i = 0; i < s; ++i)
                         v += at(expand, k * s + i) * hidden[static_cast<std::size_t>(i)];
                       gates.push_back(1 / (1 + std::exp(-v)));
                     }
                   }
                   return filled(in[0].shape(), [&](std::int64_t i) {
                     return at(in[0], i) * gates[static_cast<std::size_t>(i / pixels)];
                   });
                 });
  }
}

TEST(CpuElementwise, Concat) {
  const std::vector<std::vector<std::int64_t>> cases{{3, 5}, {16, 32, 8}, {24, 8, 1, 40}, {64, 64}};
  for (const auto& channels : cases)
    for (const std::int64_t rows : {0, 2, 5})
      for (const int block : {0, 1, 8, 16})
        for (const DType type : kBoth) {
          OpCase c{Concat{}, {}, {}, type, 7};
          c.options.block = block;
          std::int64_t sum = 0;
          std::vector<Tensor> parts;
          for (const std::int64_t n : channels) {
            c.inputs.push_back(random_tensor({rows, n, 3, 5}, static_cast<unsigned>(n + sum)));
            parts.push_back(as_seen(c.inputs.back(), type));
            sum += n;
          }
          const Tensor want = filled({rows, sum, 3, 5}, [&](std::int64_t i) {
            std::int64_t channel = i / 15 % sum;
            std::size_t part = 0;
            while (channel >= channels[part]) channel -= channels[part++];
            return at(parts[part], (i / 15 / sum * channels[part] + channel) * 15 + i % 15);
          });
          expect_near(run_case(c), want, 0, fmt::format("{} maps, block {}", channels.size(), block));
        }
}

// Maps of h x w divided by their scales.
void check_weighted_sum(const WeightedSum& op, std::size_t maps, const std::vector<float>& weights,
                        std::int64_t channels, int block, DType type) {
  constexpr std::int64_t kHeight = 6, kWidth = 12;
  OpCase c{op, {}, {}, type, 5};
  c.options.block = block;
  std::vector<Tensor> seen;
  for (std::size_t i = 0; i < maps; ++i) {
    c.inputs.push_back(random_tensor({3, channels, kHeight / op.scale(i), kWidth / op.scale(i)},
                                     static_cast<unsigned>(i + 1), 4));
    seen.push_back(as_seen(c.inputs.back(), type));
  }
  double sum = op.epsilon;
  for (const float w : weights) {
    c.weights.push_back(Tensor::from<float>(std::span(&w, 1), {}));
    sum += std::max(w, 0.f);
  }
  const Tensor want = filled({3, channels, kHeight, kWidth}, [&](std::int64_t i) {
    double v = 0;
    for (std::size_t k = 0; k < maps; ++k) {
      const std::int64_t s = op.scale(k), row = i / kWidth % kHeight / s, column = i % kWidth / s;
      const double x = at(seen[k], (i / (kHeight * kWidth) * (kHeight / s) + row) * (kWidth / s) + column);
      v += op.normalize ? x * std::max(double{weights[k]}, 0.0) / sum : x;
    }
    if (op.activation == Activation::kSwish) v /= 1 + std::exp(-v);
    if (op.activation == Activation::kSigmoid) v = 1 / (1 + std::exp(-v));
    if (op.activation == Activation::kRelu6) v = std::min(std::max(v, 0.0), 6.0);
    return v;
  });
  expect_near(run_case(c), want, type == DType::kF32 ? 1e-6 : 8e-3,
              fmt::format("{} maps of {} channels, block {}, {}", maps, channels, block, name_of(type)));
}

TEST(CpuElementwise, WeightedSum) {
  for (const std::int64_t channels : {3, 16, 24, 64, 88})
    for (const int block : {0, 1, 8, 16})
      for (const DType type : kBoth) {
        check_weighted_sum({.activation = Activation::kSwish}, 2, {0.8f, 1.3f}, channels, block, type);
        check_weighted_sum({}, 3, {0.8f, -0.4f, 1.3f}, channels, block, type);
        check_weighted_sum({.activation = Activation::kSwish, .scales = {1, 2}}, 2, {0.7f, 0.1f}, channels,
                           block, type);
        check_weighted_sum({.activation = Activation::kSigmoid, .scales = {3, 1, 2}}, 3, {0.7f, 0.1f, 2.f},
                           channels, block, type);
        check_weighted_sum({.normalize = false, .activation = Activation::kRelu6}, 3, {}, channels, block,
                           type);
      }
}

// The lanes' exponential, far out: below, the result is 0 to f32; above, the value itself.
TEST(CpuElementwise, WeightedSumSwishesLargeNumbers) {
  const Tensor x =
      filled({1, 1, 1, 2001}, [](std::int64_t i) { return 0.25 * static_cast<double>(i - 1000); });
  const WeightedSum op{.normalize = false, .activation = Activation::kSwish};
  const Tensor y = run_case({op, {x, Tensor::zeros(DType::kF32, x.shape())}});
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double v = at(x, i), want = v / (1 + std::exp(-v));
    EXPECT_NEAR(at(y, i), want, std::abs(want) * 4e-7 + 1e-35) << v;
  }
}

}  // namespace
}  // namespace osprey::testing

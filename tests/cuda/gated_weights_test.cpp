// Gates of sums, and weights times gates, against the same in double.
#include "cuda/gated_weights.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "cuda/check.h"
#include "cuda/cuda_harness.h"
#include "cuda/device_buffer.h"
#include "cuda/packed_weights.h"

namespace osprey {
namespace {

struct Layers {
  Tensor squeeze, squeeze_bias, expand, expand_bias, weights;  // expand: [hidden, channels]
};

Layers layers_of(const GatesShape& s) {
  const auto layer = [&](std::int64_t rows, std::int64_t columns, unsigned seed) {
    const float most = 1 / std::sqrt(static_cast<float>(columns));
    return rounded_to(random_tensor({rows, columns}, -most, most, seed), s.type);
  };
  return {.squeeze = layer(s.hidden, s.channels, 1),
          .squeeze_bias = random_tensor({s.hidden}, -1, 1, 2),
          .expand = layer(s.hidden, s.channels, 3),
          .expand_bias = random_tensor({s.channels}, -1, 1, 4),
          .weights = layer(s.outputs, s.channels, 5)};
}

std::vector<double> gates_of(const GatesShape& s, const Layers& l, const long long* sums) {
  const Tensor squeeze = l.squeeze.to_f32(), expand = l.expand.to_f32();
  const auto first = squeeze.values<float>(), second = expand.values<float>();
  std::vector<double> hidden, out;
  for (int h = 0; h < s.hidden; ++h) {
    double sum = l.squeeze_bias.values<float>()[static_cast<std::size_t>(h)];
    for (int c = 0; c < s.channels; ++c)
      sum += std::ldexp(static_cast<double>(sums[c]), -24) / s.pixels *
             first[static_cast<std::size_t>(h * s.channels + c)];
    hidden.push_back(sum / (1 + std::exp(-sum)));
  }
  for (int c = 0; c < s.channels; ++c) {
    double sum = l.expand_bias.values<float>()[static_cast<std::size_t>(c)];
    for (int h = 0; h < s.hidden; ++h)
      sum += hidden[static_cast<std::size_t>(h)] * second[static_cast<std::size_t>(h * s.channels + c)];
    out.push_back(1 / (1 + std::exp(-sum)));
  }
  return out;
}

template <class T>
std::vector<T> downloaded(const DeviceBuffer& from) {
  std::vector<T> out(from.size() / sizeof(T));
  cuda_check(cudaMemcpy(out.data(), from.data(), from.size(), cudaMemcpyDeviceToHost), "download");
  return out;
}

template <class T>
DeviceBuffer uploaded(const std::vector<T>& values) {
  return DeviceBuffer::holding(std::as_bytes(std::span(values)));
}

struct Result {
  std::vector<float> gates;
  Tensor gated;
  std::vector<long long> sums;
  std::vector<unsigned> readers;
};

Result run(const GatesShape& s, const Layers& l, std::int64_t images, const std::vector<long long>& sums) {
  const DeviceBuffer device_sums = uploaded(sums),
                     readers = uploaded(std::vector<unsigned>(static_cast<std::size_t>(images)));
  const DeviceBuffer squeeze = DeviceBuffer::holding(l.squeeze.bytes()),
                     expand = DeviceBuffer::holding(l.expand.bytes()),
                     squeeze_bias = DeviceBuffer::holding(l.squeeze_bias.bytes()),
                     expand_bias = DeviceBuffer::holding(l.expand_bias.bytes()),
                     weights = DeviceBuffer::holding(l.weights.bytes());
  const DeviceBuffer gates(static_cast<std::size_t>(images * s.channels) * sizeof(float)),
      gated(static_cast<std::size_t>(images) * weights.size());
  launch_gated_weights(s,
                       {.sums = device_sums.as<long long>(),
                        .readers = readers.as<unsigned>(),
                        .squeeze = squeeze.data(),
                        .expand = expand.data(),
                        .squeeze_bias = squeeze_bias.as<float>(),
                        .expand_bias = expand_bias.as<float>(),
                        .weights = weights.data(),
                        .gated = gated.data(),
                        .gates = gates.as<float>()},
                       images, nullptr);
  cuda_check(cudaStreamSynchronize(nullptr), "gated weights");
  Result out{.gates = downloaded<float>(gates),
             .sums = downloaded<long long>(device_sums),
             .readers = downloaded<unsigned>(readers)};
  out.gated = Tensor::zeros(s.type, {images, s.outputs, s.channels});
  cuda_check(cudaMemcpy(out.gated.mutable_data(), gated.data(), gated.size(), cudaMemcpyDeviceToHost),
             "download");
  return out;
}

TEST(CudaGatedWeights, AsInDouble) {
  SKIP_WITHOUT_GPU();
  for (const auto& [channels, hidden, outputs, images] : {std::array{32, 8, 16, 1},
                                                          {3, 1, 5, 2},
                                                          {144, 6, 24, 3},
                                                          {1152, 48, 320, 1},
                                                          {1152, 48, 40, 12},
                                                          {2688, 112, 8, 2}})
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      const GatesShape shape{.type = type,
                             .pixels = 77,
                             .channels = channels,
                             .hidden = hidden,
                             .outputs = outputs,
                             .activation = Activation::kSwish};
      const std::string what = fmt::format("{} channels, {} photos, {}", channels, images, name_of(type));
      const Layers layers = layers_of(shape);
      const auto count = static_cast<std::size_t>(channels);
      std::vector<long long> sums;
      for (const float mean : random_floats(images * std::int64_t{channels}, -2, 2, 6))
        sums.push_back(std::llround(std::ldexp(static_cast<double>(mean) * shape.pixels, 24)));
      const Result got = run(shape, layers, images, sums);
      EXPECT_EQ(std::ranges::count(got.sums, 0), std::ssize(sums)) << what;
      EXPECT_EQ(std::ranges::count(got.readers, 0u), images) << what;
      const Tensor weights = layers.weights.to_f32(), gated = got.gated.to_f32();
      const double unit = type == DType::kF32 ? 0x1p-21 : type == DType::kF16 ? 0x1p-10 : 0x1p-7;
      for (std::size_t n = 0; n < static_cast<std::size_t>(images); ++n) {
        const std::vector<double> want = gates_of(shape, layers, sums.data() + n * count);
        double worst = 0, worst_gate = 0, largest = 0;
        for (std::size_t c = 0; c < count; ++c) {
          worst_gate = std::max(worst_gate, std::abs(got.gates[n * count + c] - want[c]));
          for (std::size_t o = 0; o < static_cast<std::size_t>(outputs); ++o) {
            const double product = want[c] * weights.values<float>()[o * count + c];
            largest = std::max(largest, std::abs(product));
            worst = std::max(
                worst,
                std::abs(gated.values<float>()[(n * static_cast<std::size_t>(outputs) + o) * count + c] -
                         product));
          }
        }
        EXPECT_LE(worst_gate, 1e-6) << what;
        EXPECT_LE(worst, unit * largest) << what;
      }
      const std::vector<long long> second(sums.end() - channels, sums.end());
      const Result alone = run(shape, layers, 1, second);
      EXPECT_TRUE(std::ranges::equal(alone.gated.bytes(), got.gated.bytes().last(alone.gated.bytes().size())))
          << what;
    }
}

}  // namespace
}  // namespace osprey

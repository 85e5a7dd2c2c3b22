// Winograd's F(m x m, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): a
// tile of m x m results comes from (m + 2)^2 inputs d and the weights g as A' [(G g G') * (B' d B)] A, where
// * is elementwise. Summed over channels, each of the (m + 2)^2 elements is a matrix product, tiles x
// channels by channels x outputs, and there are 9 m^2 / (m + 2)^2 times fewer multiplications than in the
// definition.
//
// A thread takes blocks of neighbouring tiles whose transformed inputs stay in its L2 cache. For every panel
// of 32 outputs it multiplies them and turns the products into results at once.
//
// Every sum runs over the channels in their order, whatever the block: results depend on neither the number
// of threads nor the number of images.
#include "cpu/conv_winograd.h"

#if defined(__x86_64__)

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <immintrin.h>
#include <omp.h>
#include <unistd.h>

#include "cpu/pages.h"
#include "cpu/scratch.h"
#include "cpu/vectors.h"
#include "ops/conv.h"

namespace osprey {
namespace {

constexpr int kLanes = 16;          // channels in a register
constexpr int kPanel = 2 * kLanes;  // outputs that a product makes side by side
constexpr int kRows =
    14;  // tiles in a product: with a panel, 28 sums, 2 weights and a value fill 31 registers
constexpr std::int64_t kChunk = 32;  // channels summed up in registers
constexpr std::int64_t kStrip = 4;   // rows of tiles that are walked together, so that blocks are near square
using Lanes = Floats<kLanes>;

// a * b + c, rounded once.
[[gnu::always_inline, gnu::target("avx512f")]] inline Lanes fma(float a, Lanes b, Lanes c) {
  return _mm512_fmadd_ps(_mm512_set1_ps(a), b, c);
}

// The transforms of one row or column. The points of F(2x2) are 0, 1, -1.
struct Tile2 {
  static constexpr int kOut = 2, kIn = 4, kMostTiles = 4 * kRows;
  static constexpr double kWeights[kIn][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};

  [[gnu::always_inline, gnu::target("avx512f")]] static void input(const Lanes* d, Lanes* to) {
    to[0] = d[0] - d[2];
    to[1] = d[1] + d[2];
    to[2] = d[2] - d[1];
    to[3] = d[3] - d[1];
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static void output(const Lanes* m, Lanes* to) {
    to[0] = m[0] + m[1] + m[2];
    to[1] = m[1] - m[2] + m[3];
  }
};

// The points of F(4x4) are 0, a, -a, b, -b with a = 3/4 and b = 3/2, whose products are all exact. The usual
// 0, 1, -1, 2, -2 have four times the rounding errors.
struct Tile4 {
  static constexpr int kOut = 4, kIn = 6, kMostTiles = 2 * kRows;
  static constexpr float a = 0.75f, b = 1.5f, aa = a * a, bb = b * b;
  static constexpr double kA = 1 / (2.0 * aa * (aa - bb)), kB = 1 / (2.0 * bb * (bb - aa));
  static constexpr double kWeights[kIn][3] = {{1 / (double{aa} * bb), 0, 0}, {kA, kA* a, kA* aa},
                                              {kA, -kA* a, kA* aa},          {kB, kB* b, kB* bb},
                                              {kB, -kB* b, kB* bb},          {0, 0, 1}};

  [[gnu::always_inline, gnu::target("avx512f")]] static void input(const Lanes* d, Lanes* to) {
    const Lanes even_a = fma(-bb, d[2], d[4]), odd_a = fma(-bb, d[1], d[3]);
    const Lanes even_b = fma(-aa, d[2], d[4]), odd_b = fma(-aa, d[1], d[3]);
    to[0] = fma(aa * bb, d[0], fma(-(aa + bb), d[2], d[4]));
    to[1] = fma(a, odd_a, even_a);
    to[2] = fma(-a, odd_a, even_a);
    to[3] = fma(b, odd_b, even_b);
    to[4] = fma(-b, odd_b, even_b);
    to[5] = fma(aa * bb, d[1], fma(-(aa + bb), d[3], d[5]));
  }
  [[gnu::always_inline, gnu::target("avx512f")]] static void output(const Lanes* m, Lanes* to) {
    const Lanes even_a = m[1] + m[2], odd_a = m[1] - m[2];
    const Lanes even_b = m[3] + m[4], odd_b = m[3] - m[4];
    to[0] = m[0] + even_a + even_b;
    to[1] = fma(b, odd_b, a * odd_a);
    to[2] = fma(bb, even_b, aa * even_a);
    to[3] = fma(b * bb, odd_b, fma(a * aa, odd_a, m[5]));
  }
};

// Strides in floats. Those between the elements of a tile are no multiple of a page, which would put all of
// them into the same few sets of the cache.
struct Products {
  std::int64_t channels, outputs;
  std::int64_t tiles;    // room for these in a block
  std::int64_t element;  // of transformed inputs: [element][tiles / kRows][channels / kLanes][kRows][kLanes]
  std::int64_t product;  // of products: [element][tiles][kPanel]
  const float* weights;  // [outputs / kPanel][element][channels][kPanel]
};

struct TileSource {
  const float* from;
  std::int64_t row, pixel;  // strides
};

template <class Tile>
[[gnu::target("avx512f")]] void transform_input(TileSource source, const Products& p, float* to) {
  constexpr int n = Tile::kIn;
  for (std::int64_t c = 0; c < p.channels; c += kLanes, to += kRows * kLanes) {
    Lanes rows[n][n];  // transposed: [column][row]
    for (int y = 0; y < n; ++y) {
      Lanes d[n], done[n];
      for (int x = 0; x < n; ++x)
        d[x] = *reinterpret_cast<const Lanes*>(source.from + y * source.row + x * source.pixel + c);
      Tile::input(d, done);
      for (int x = 0; x < n; ++x) rows[x][y] = done[x];
    }
    for (int x = 0; x < n; ++x) {
      Lanes done[n];
      Tile::input(rows[x], done);
      for (int y = 0; y < n; ++y) *reinterpret_cast<Lanes*>(to + (y * n + x) * p.element) = done[y];
    }
  }
}

// One panel of `rows` tiles: m[row] = the sum over channels of a[row] and the panel's weights. Sums of kChunk
// channels are added up: one sum over all of them would have twice the rounding error.
template <int rows>
[[gnu::target("avx512f")]] void multiply(const float* a, const Products& p, const float* weights, float* m) {
  const std::int64_t ahead = p.channels * kPanel;
  for (std::int64_t chunk = 0; chunk < p.channels; chunk += kChunk) {
    __m512 sums[rows][2];
    for (int r = 0; r < rows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (std::int64_t block = chunk; block < std::min(chunk + kChunk, p.channels); block += kLanes) {
      for (int c = 0; c < kLanes; ++c, weights += kPanel) {
        const __m512 left = _mm512_loadu_ps(weights), right = _mm512_loadu_ps(weights + kLanes);
        _mm_prefetch(weights + ahead, _MM_HINT_T1);
        _mm_prefetch(weights + ahead + kLanes, _MM_HINT_T1);
        for (int r = 0; r < rows; ++r) {
          const __m512 value = _mm512_set1_ps(a[r * kLanes + c]);
          sums[r][0] = _mm512_fmadd_ps(value, left, sums[r][0]);
          sums[r][1] = _mm512_fmadd_ps(value, right, sums[r][1]);
        }
      }
      a += kRows * kLanes;
    }
    for (int r = 0; r < rows; ++r)
      for (int half = 0; half < 2; ++half) {
        float* to = m + r * kPanel + half * kLanes;
        _mm512_storeu_ps(to, chunk == 0 ? sums[r][half] : _mm512_add_ps(sums[r][half], _mm512_loadu_ps(to)));
      }
  }
}

using Multiply = void (*)(const float*, const Products&, const float*, float*);
template <std::size_t... rows>
constexpr std::array<Multiply, sizeof...(rows)> multiply_table(std::index_sequence<rows...>) {
  return {multiply<static_cast<int>(rows) + 1>...};
}
constexpr auto kMultiply = multiply_table(std::make_index_sequence<kRows>{});

// Where one tile of a panel goes; strides in floats.
struct TileTarget {
  float* to;
  const float* bias;
  const float* residual;  // null: none
  std::int64_t row, pixel, residual_row, residual_pixel;
  int height, width;  // of the tile that lie in the map
  int residual_scale;
  bool relu, six;  // ReLU, and not above 6
};

// Brings where a tile goes into the cache: when its turn comes, there is no arithmetic to wait behind.
[[gnu::target("avx512f,prfchw")]] inline void prefetch_output(const TileTarget& target) {
  for (int y = 0; y < target.height; ++y)
    for (int x = 0; x < target.width; ++x) {
      const float* to = target.to + y * target.row + x * target.pixel;
      __builtin_prefetch(to, 1);
      __builtin_prefetch(to + kLanes, 1);
    }
}

template <class Tile>
[[gnu::target("avx512f")]] void transform_output(const float* m, const Products& p,
                                                 const TileTarget& target) {
  constexpr int n = Tile::kIn, out = Tile::kOut;
  for (int half = 0; half < kPanel; half += kLanes) {
    Lanes columns[out][n];
    for (int x = 0; x < n; ++x) {
      Lanes d[n], done[out];
      for (int y = 0; y < n; ++y) d[y] = *reinterpret_cast<const Lanes*>(m + (y * n + x) * p.product + half);
      Tile::output(d, done);
      for (int y = 0; y < out; ++y) columns[y][x] = done[y];
    }
    const Lanes bias = *reinterpret_cast<const Lanes*>(target.bias + half);
    for (int y = 0; y < target.height; ++y) {
      Lanes done[out];
      Tile::output(columns[y], done);
      for (int x = 0; x < target.width; ++x) {
        Lanes sum = done[x] + bias;
        if (target.residual)
          sum += *reinterpret_cast<const Lanes*>(target.residual +
                                                 y / target.residual_scale * target.residual_row +
                                                 x / target.residual_scale * target.residual_pixel + half);
        if (target.relu) sum = sum > 0 ? sum : Lanes{};
        if (target.six) sum = sum < 6 ? sum : Lanes{} + 6.f;
        *reinterpret_cast<Lanes*>(target.to + y * target.row + x * target.pixel + half) = sum;
      }
    }
  }
}

// One channel of a panel: g[9][kPanel] as the network has it, to[element * stride + output].
template <class Tile>
[[gnu::always_inline]] inline void transform_weights(const float (*g)[kPanel], float* to,
                                                     std::int64_t stride) {
  constexpr int n = Tile::kIn;
  double rows[n][3][kPanel];
  for (int i = 0; i < n; ++i)
    for (int x = 0; x < 3; ++x)
      for (int o = 0; o < kPanel; ++o)
        rows[i][x][o] = Tile::kWeights[i][0] * double{g[x][o]} + Tile::kWeights[i][1] * double{g[3 + x][o]} +
                        Tile::kWeights[i][2] * double{g[6 + x][o]};
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j)
      for (int o = 0; o < kPanel; ++o)
        to[(i * n + j) * stride + o] =
            static_cast<float>(Tile::kWeights[j][0] * rows[i][0][o] + Tile::kWeights[j][1] * rows[i][1][o] +
                               Tile::kWeights[j][2] * rows[i][2][o]);
}

template <class Tile>
std::shared_ptr<const PageBuffer> packed(const Tensor& weights, int threads) {
  const Tensor plain = weights.to_f32();
  const std::int64_t outputs = plain.dim(0), channels = plain.dim(1);
  constexpr int elements = Tile::kIn * Tile::kIn;
  auto out = std::make_shared<PageBuffer>();
  out->reserve(static_cast<std::size_t>(outputs * channels * elements) * sizeof(float));
  const float* from = plain.values<float>().data();
  auto* to = reinterpret_cast<float*>(out->data());
  cpu_for(outputs / kPanel, threads, [&](std::int64_t panel) {
    for (std::int64_t c = 0; c < channels; ++c) {
      float g[9][kPanel];
      for (int o = 0; o < kPanel; ++o)
        for (int tap = 0; tap < 9; ++tap) g[tap][o] = from[((panel * kPanel + o) * channels + c) * 9 + tap];
      const float(*const given)[kPanel] = g;
      vectorised<transform_weights<Tile>>(given, to + (panel * elements * channels + c) * kPanel,
                                          channels * kPanel);
    }
  });
  return out;
}

std::int64_t l2_cache_bytes() {
  const auto bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return bytes > 0 ? bytes : 1 << 20;
}

template <class Tile>
class WinogradStep final : public CpuStep {
 public:
  explicit WinogradStep(CpuPrepare& p)
      : op_(p.op<Conv>()),
        pads_(op_.window(3, 3).pads_of(p.input(0).dims[2], p.input(0).dims[3])),
        residual_(p.has_input(3)) {
    const CpuValue &x = p.input(0), &y = p.output(0);
    const std::int64_t channels = x.dims[1], outputs = y.dims[1];
    weights_ = std::static_pointer_cast<const PageBuffer>(
        p.shared(fmt::format("conv:{}:winograd{}", p.node().inputs[1], Tile::kOut),
                 [&]() -> std::shared_ptr<const void> { return packed<Tile>(p.weight(1), p.threads()); }));
    bias_ = p.has_input(2) ? p.weight(2).to_f32() : Tensor::zeros(DType::kF32, {outputs});
    // Products, weights and the map itself pass through what the transformed inputs leave of the cache.
    const std::int64_t tile_bytes = kElements * channels * static_cast<std::int64_t>(sizeof(float));
    products_.channels = channels, products_.outputs = outputs;
    products_.tiles = std::clamp<std::int64_t>(l2_cache_bytes() * 5 / 8 / tile_bytes / kRows * kRows, kRows,
                                               Tile::kMostTiles);
    products_.element = channels * products_.tiles + kLanes;
    products_.product = kPanel * products_.tiles + kLanes;
    products_.weights = reinterpret_cast<const float*>(weights_->data());
    thread_size_ = kElements * (products_.element + products_.product + channels);
    p.request_scratch(static_cast<std::size_t>(p.threads() * thread_size_) * sizeof(float));
    flops_ = 2.0 * 9 * static_cast<double>(channels) *
             static_cast<double>(y.dims[0] * outputs * y.dims[2] * y.dims[3]);
  }

  void run(CpuRun& run) override {
    const CpuValue &x = run.in(0), &y = run.out(0);
    Map map{reinterpret_cast<const float*>(x.data),
            reinterpret_cast<float*>(y.data),
            residual_ ? reinterpret_cast<const float*>(run.in(3).data) : nullptr,
            x.dims[2],
            x.dims[3],
            y.dims[2],
            y.dims[3]};
    map.tiles_y = (map.out_height + Tile::kOut - 1) / Tile::kOut;
    map.tiles_x = (map.out_width + Tile::kOut - 1) / Tile::kOut;
    const std::int64_t tiles = x.dims[0] * map.tiles_y * map.tiles_x;
    // As many blocks for each thread.
    const std::int64_t groups = (tiles + kRows - 1) / kRows, most = products_.tiles / kRows;
    std::int64_t blocks = (groups + most - 1) / most;
    blocks = std::min(groups, (blocks + run.threads() - 1) / run.threads() * run.threads());
    cpu_for(blocks, run.threads(), [&](std::int64_t b) {
      auto* memory = reinterpret_cast<float*>(run.scratch().data()) + omp_get_thread_num() * thread_size_;
      const std::int64_t begin = b * groups / blocks * kRows, end = (b + 1) * groups / blocks * kRows;
      do_block(map, begin, std::min(tiles, end) - begin, memory);
    });
  }
  std::string detail() const override { return fmt::format("winograd {}x{}", Tile::kOut, Tile::kOut); }
  double flops() const override { return flops_; }  // of the definition

 private:
  static constexpr int kElements = Tile::kIn * Tile::kIn;

  struct Map {
    const float* in;
    float* out;
    const float* residual;
    std::int64_t in_height, in_width, out_height, out_width, tiles_y, tiles_x;
  };
  struct Place {
    std::int64_t image, y, x;  // of a tile's first result
  };

  // Tiles are counted down the columns of strips of kStrip rows.
  static Place place_of(const Map& map, std::int64_t tile) {
    const std::int64_t image = tile / (map.tiles_y * map.tiles_x),
                       in_image = tile % (map.tiles_y * map.tiles_x);
    const std::int64_t strip = in_image / (kStrip * map.tiles_x),
                       in_strip = in_image % (kStrip * map.tiles_x);
    const std::int64_t rows = std::min(kStrip, map.tiles_y - strip * kStrip);
    return {image, (strip * kStrip + in_strip % rows) * Tile::kOut, in_strip / rows * Tile::kOut};
  }

  void do_block(const Map& map, std::int64_t begin, std::int64_t count, float* memory) const {
    float* inputs = memory;
    float* products = inputs + kElements * products_.element;
    float* patch = products + kElements * products_.product;
    const std::int64_t channels = products_.channels;
    std::array<Place, Tile::kMostTiles> places;
    for (std::int64_t t = 0; t < count; ++t) {
      places[static_cast<std::size_t>(t)] = place_of(map, begin + t);
      transform_input<Tile>(source_of(map, places[static_cast<std::size_t>(t)], patch), products_,
                            inputs + t / kRows * kRows * channels + t % kRows * kLanes);
    }
    for (std::int64_t panel = 0; panel < products_.outputs / kPanel; ++panel) {
      const auto target = [&](std::int64_t t) {
        return target_of(map, places[static_cast<std::size_t>(t)], panel * kPanel);
      };
      for (std::int64_t e = 0; e < kElements; ++e) {
        for (std::int64_t t = e * count / kElements; t < (e + 1) * count / kElements; ++t)
          prefetch_output(target(t));
        const float* weights = products_.weights + (panel * kElements + e) * channels * kPanel;
        for (std::int64_t t = 0; t < count; t += kRows)
          kMultiply[static_cast<std::size_t>(std::min<std::int64_t>(kRows, count - t) - 1)](
              inputs + e * products_.element + t * channels, products_, weights,
              products + e * products_.product + t * kPanel);
      }
      for (std::int64_t t = 0; t < count; ++t)
        transform_output<Tile>(products + t * kPanel, products_, target(t));
    }
  }

  // The tile's inputs: in the map, or where they reach over its edge, in `patch` with zeros around them.
  TileSource source_of(const Map& map, const Place& place, float* patch) const {
    constexpr int n = Tile::kIn;
    const std::int64_t channels = products_.channels, top = place.y - pads_[0], left = place.x - pads_[1];
    const auto pixel = [&](std::int64_t y, std::int64_t x) {
      return map.in + ((place.image * map.in_height + y) * map.in_width + x) * channels;
    };
    if (top >= 0 && left >= 0 && top + n <= map.in_height && left + n <= map.in_width)
      return {pixel(top, left), map.in_width * channels, channels};
    const auto bytes = static_cast<std::size_t>(channels) * sizeof(float);
    for (int y = 0; y < n; ++y)
      for (int x = 0; x < n; ++x) {
        const bool inside =
            top + y >= 0 && top + y < map.in_height && left + x >= 0 && left + x < map.in_width;
        if (inside) {
          std::memcpy(patch + (y * n + x) * channels, pixel(top + y, left + x), bytes);
        } else {
          std::memset(patch + (y * n + x) * channels, 0, bytes);
        }
      }
    return {patch, n * channels, channels};
  }

  TileTarget target_of(const Map& map, const Place& place, std::int64_t output) const {
    const std::int64_t outputs = products_.outputs, scale = op_.residual_scale;
    const auto at = [&](std::int64_t s) {
      return ((place.image * (map.out_height / s) + place.y / s) * (map.out_width / s) + place.x / s) *
                 outputs +
             output;
    };
    TileTarget out{.to = map.out + at(1),
                   .bias = bias_.values<float>().data() + output,
                   .residual = map.residual ? map.residual + at(scale) : nullptr,
                   .row = map.out_width * outputs,
                   .pixel = outputs,
                   .residual_row = map.out_width / scale * outputs,
                   .residual_pixel = outputs,
                   .residual_scale = op_.residual_scale,
                   .relu = op_.activation != Activation::kNone,
                   .six = op_.activation == Activation::kRelu6};
    out.height = static_cast<int>(std::min<std::int64_t>(Tile::kOut, map.out_height - place.y));
    out.width = static_cast<int>(std::min<std::int64_t>(Tile::kOut, map.out_width - place.x));
    return out;
  }

  const Conv& op_;
  const std::array<int, 4> pads_;
  bool residual_;
  std::shared_ptr<const PageBuffer> weights_;
  Tensor bias_;
  Products products_{};
  std::int64_t thread_size_ = 0;  // floats
  double flops_ = 0;
};

bool applies(const CpuPrepare& p, const Conv& op) {
  const CpuValue &x = p.input(0), &y = p.output(0);
  const auto& weight = p.input_type(1).dims;
  const bool values =
      x.dtype == DType::kF32 && y.dtype == DType::kF32 && x.layout.block == 0 && y.layout.block == 0;
  const bool shape = weight[2].constant() == 3 && weight[3].constant() == 3 && op.groups == 1 &&
                     x.dims[1] % kLanes == 0 && y.dims[1] % kPanel == 0;
  const bool steps = op.stride == std::vector{1, 1} && op.dilation == std::vector{1, 1};
  return values && shape && steps && !p.has_input(4) &&
         (op.activation == Activation::kNone || op.activation == Activation::kRelu ||
          op.activation == Activation::kRelu6);
}

}  // namespace

// Two cores of a Xeon with 2 MB of L2 each, ms, images of 800 x 1344 (oneDNN's direct convolution, F(2x2),
// F(4x4)):
//   res2   64 channels, 200 x 336   11.3   7.6   4.7      res5 512 channels, 25 x 42   11.2   7.7   7.1
//   res3  128 channels, 100 x 168   11.5   6.8   3.9      p2   256 channels, 200 x 336  198   109    71
//   res4  256 channels,  50 x  84   11.3   6.8   4.5      p6   256 channels, 13 x 21    0.76  0.65  0.80
// F(4x4) has 36/9 of the weights, which pass from memory through the caches for every block: up to 256 x 256
// it wins; beyond, F(2x2) with 16/9 of them is level. Where an image has but a few tiles the weights are all
// that counts. The rule does not look at the number of images, for their results shall not depend on it.
std::unique_ptr<CpuStep> winograd_step(CpuPrepare& p) {
  if (vector_set() != VectorSet::kAvx512 || !applies(p, p.op<Conv>())) return nullptr;
  constexpr std::int64_t kLeastChannels = 64, kLeastPixels = 256, kMostWeights = 256 * 256;
  const Shape& y = p.output(0).dims;
  const std::int64_t channels = p.input(0).dims[1];
  const bool regions = !p.input_type(0).dims[0].is_exact();  // rows depend on the data: many small maps
  if (std::min(channels, y[1]) < kLeastChannels || (!regions && y[2] * y[3] < kLeastPixels)) return nullptr;
  if (channels * y[1] <= kMostWeights) return std::make_unique<WinogradStep<Tile4>>(p);
  return std::make_unique<WinogradStep<Tile2>>(p);
}

}  // namespace osprey

#else

namespace osprey {

std::unique_ptr<CpuStep> winograd_step(CpuPrepare&) { return nullptr; }

}  // namespace osprey

#endif

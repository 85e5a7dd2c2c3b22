// One pass over rows of the result, whatever the layout: 16 values of every map are weighted, summed,
// activated and stored.
#include "ops/weighted_sum.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "cpu/floats.h"
#include "cpu/kernel.h"
#include "cpu/vector_math.h"

namespace osprey {
namespace {

// A row of the result, as `runs` runs of values that lie together in every map.
template <class T>
struct Row {
  struct Map {
    const T* x;
    int scale;  // a run of the map serves so many of the result
  };
  std::array<Map, WeightedSum::kMostMaps> maps;
  std::array<float, WeightedSum::kMostMaps> factors;
  std::size_t count;
  T* y;
  std::int64_t runs, length;
  Activation activation;
};

template <class T>
[[gnu::always_inline]] inline void load(Floats<16>& out, const T* from, std::int64_t n) {
  if constexpr (std::is_same_v<T, float>)
    if (n == 16) {
      out = *reinterpret_cast<const Floats<16>*>(from);
      return;
    }
  float values[16] = {};
  if (n == 16) {
    for (int k = 0; k < 16; ++k) values[k] = load_float(from[k]);
  } else {
    for (std::int64_t k = 0; k < n; ++k) values[k] = load_float(from[k]);
  }
  std::memcpy(&out, values, sizeof out);
}

template <class T>
[[gnu::always_inline]] inline void store(T* to, const Floats<16>& v, std::int64_t n) {
  if constexpr (std::is_same_v<T, float>)
    if (n == 16) {
      *reinterpret_cast<Floats<16>*>(to) = v;
      return;
    }
  float values[16];
  std::memcpy(values, &v, sizeof v);
  if (n == 16) {
    for (int k = 0; k < 16; ++k) to[k] = store_float<T>(values[k]);
  } else {
    for (std::int64_t k = 0; k < n; ++k) to[k] = store_float<T>(values[k]);
  }
}

template <class T>
[[gnu::always_inline]] inline void sum_row(const Row<T>* row) {
  T* y = row->y;
  auto maps = row->maps;
  std::array<int, WeightedSum::kMostMaps> served{};  // runs of the result, by a map's present one
  for (std::int64_t run = 0; run < row->runs; ++run, y += row->length) {
    for (std::int64_t at = 0; at < row->length; at += 16) {
      const std::int64_t n = std::min<std::int64_t>(16, row->length - at);
      Floats<16> sum{};
      for (std::size_t i = 0; i < row->count; ++i) {
        Floats<16> x;
        load(x, maps[i].x + at, n);
        sum += x * row->factors[i];
      }
      activate_lanes(row->activation, sum);
      store(y + at, sum, n);
    }
    for (std::size_t i = 0; i < row->count; ++i)
      if (++served[i] == maps[i].scale) {
        served[i] = 0;
        maps[i].x += row->length;
      }
  }
}

std::array<float, WeightedSum::kMostMaps> factors_of(const CpuPrepare& p) {
  const WeightedSum& op = p.op<WeightedSum>();
  std::array<float, WeightedSum::kMostMaps> out{};
  const std::size_t n = op.maps(p.node().inputs.size());
  if (!op.normalize) {
    std::fill_n(out.begin(), n, 1.f);
    return out;
  }
  float sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = activated(Activation::kRelu, p.weight(n + i).to_f32().values<float>()[0]);
    sum += out[i];
  }
  for (std::size_t i = 0; i < n; ++i) out[i] /= sum + op.epsilon;
  return out;
}

class WeightedSumStep final : public CpuStep {
 public:
  explicit WeightedSumStep(const CpuPrepare& p)
      : op_(p.op<WeightedSum>()), maps_(op_.maps(p.node().inputs.size())), factors_(factors_of(p)) {}

  void run(CpuRun& run) override {
    with_float(run.out(0).dtype, [&]<class T>() { sum<T>(run); });
  }

 private:
  template <class T>
  void sum(CpuRun& run) const {
    const CpuPlanes to(run.out(0));
    const bool alike =
        std::all_of(op_.scales.begin(), op_.scales.end(), [](int scale) { return scale == 1; });
    cpu_for(to.count * to.height, run.threads(), [&](std::int64_t i) {
      Row<T> row{.maps = {},
                 .factors = factors_,
                 .count = maps_,
                 .y = reinterpret_cast<T*>(run.out(0).data) + i * to.width * to.lanes,
                 .runs = alike ? 1 : to.width,
                 .length = alike ? to.width * to.lanes : to.lanes,
                 .activation = op_.activation};
      for (std::size_t k = 0; k < maps_; ++k) {
        const int scale = op_.scale(k);
        const std::int64_t height = to.height / scale, width = to.width / scale;
        const std::int64_t line = i / to.height * height + i % to.height / scale;
        row.maps[k] = {reinterpret_cast<const T*>(run.in(k).data) + line * width * to.lanes, scale};
      }
      const Row<T>* const job = &row;
      vectorised<sum_row<T>>(job);
      if (op_.activation == Activation::kSigmoid) clear_padding(row, to, i / to.height);
    });
  }

  // Padded lanes stay zero where the activation of zero is not.
  template <class T>
  static void clear_padding(const Row<T>& row, const CpuPlanes& planes, std::int64_t plane) {
    const std::int64_t live = planes.live_lanes(plane);
    for (std::int64_t i = 0; i < planes.width; ++i)
      std::fill_n(row.y + i * planes.lanes + live, planes.lanes - live, T{});
  }

  const WeightedSum& op_;
  const std::size_t maps_;
  const std::array<float, WeightedSum::kMostMaps> factors_;
};

}  // namespace

CpuKernel weighted_sum_cpu() {
  return {.op = &kOpInfo<WeightedSum>,
          .dtypes = {DType::kF32, DType::kBF16},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            return std::make_unique<WeightedSumStep>(p);
          }};
}

}  // namespace osprey

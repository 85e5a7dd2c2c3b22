// Enlarging on any layout, a row of the result at a time: nearest copies pixels, bilinear blends the two rows
// around.
#include "ops/upsample.h"

#include <algorithm>
#include <cstring>

#include "cpu/floats.h"
#include "cpu/planes.h"
#include "cpu/vectors.h"

namespace osprey {
namespace {

// Where a coordinate of the result samples: two neighbours and the weight of the second.
struct Sample {
  std::int64_t low = 0, high = 0;
  float weight = 0;
};

float source_of(const Upsample& op, std::int64_t index, std::int64_t in, std::int64_t out) {
  const auto at = static_cast<float>(index);
  const float factor = static_cast<float>(in) / static_cast<float>(out);
  switch (op.mode) {
    case Interpolation::kNearest:
      return at * factor;
    case Interpolation::kBilinear:
      return std::max(
          0.f, (op.sized() ? (at + 0.5f) * factor : (at + 0.5f) / static_cast<float>(op.scale)) - 0.5f);
    case Interpolation::kBilinearCorners:
      return out > 1 ? at * (static_cast<float>(in - 1) / static_cast<float>(out - 1)) : 0;
  }
  return 0;
}

std::vector<Sample> samples_of(const Upsample& op, std::int64_t in, std::int64_t out) {
  std::vector<Sample> samples(static_cast<std::size_t>(out));
  for (std::int64_t i = 0; i < out; ++i) {
    const float source = source_of(op, i, in, out);
    Sample& s = samples[static_cast<std::size_t>(i)];
    s.low = std::min(static_cast<std::int64_t>(source), in - 1);
    s.high = std::min(s.low + 1, in - 1);
    s.weight = source - static_cast<float>(s.low);
  }
  return samples;
}

// A row of the result, and the rows that it is blended of.
template <class T>
struct Row {
  const T *upper, *lower;
  T* y;
  const Sample* columns;
  std::int64_t width, lanes;
  float weight;  // of the lower
};

template <class T>
[[gnu::always_inline]] inline void blend_row(const Row<T>* row) {
  const std::int64_t lanes = row->lanes;
  const float weight = row->weight;
  T* out = row->y;
  for (std::int64_t i = 0; i < row->width; ++i, out += lanes) {
    const Sample h = row->columns[i];
    const T *a = row->upper + h.low * lanes, *b = row->upper + h.high * lanes;
    const T *d = row->lower + h.low * lanes, *e = row->lower + h.high * lanes;
    for (std::int64_t k = 0; k < lanes; ++k) {
      const float left = load_float(a[k]), below = load_float(d[k]);
      const float top = left + (load_float(b[k]) - left) * h.weight,
                  bottom = below + (load_float(e[k]) - below) * h.weight;
      out[k] = store_float<T>(top + (bottom - top) * weight);
    }
  }
}

class SampledStep final : public CpuStep {
 public:
  explicit SampledStep(const CpuPrepare& p)
      : nearest_(p.op<Upsample>().mode == Interpolation::kNearest),
        rows_(samples_of(p.op<Upsample>(), p.input(0).dims[2], p.output(0).dims[2])),
        columns_(samples_of(p.op<Upsample>(), p.input(0).dims[3], p.output(0).dims[3])) {}

  void run(CpuRun& run) override {
    if (size_of(run.in(0).dtype) == 1) return sample<std::uint8_t>(run);  // nearest: bytes are copied
    with_float(run.in(0).dtype, [&]<class T>() { sample<T>(run); });
  }

 private:
  template <class T>
  void sample(CpuRun& run) const {
    const CpuPlanes from(run.in(0)), to(run.out(0));
    cpu_for(to.count * to.height, run.threads(), [&](std::int64_t i) {
      const Sample v = rows_[static_cast<std::size_t>(i % to.height)];
      const T* plane = reinterpret_cast<const T*>(run.in(0).data) + i / to.height * from.plane_size();
      const std::int64_t line = from.width * from.lanes;
      const Row<T> row{.upper = plane + v.low * line,
                       .lower = plane + v.high * line,
                       .y = reinterpret_cast<T*>(run.out(0).data) + i * to.width * to.lanes,
                       .columns = columns_.data(),
                       .width = to.width,
                       .lanes = to.lanes,
                       .weight = v.weight};
      [[maybe_unused]] const Row<T>* const job = &row;
      if constexpr (sizeof(T) == 1) {
        pick_row(row);
      } else {
        nearest_ ? pick_row(row) : vectorised<blend_row<T>>(job);
      }
    });
  }

  template <class T>
  static void pick_row(const Row<T>& row) {
    const auto pixel = static_cast<std::size_t>(row.lanes) * sizeof(T);
    for (std::int64_t i = 0; i < row.width; ++i)
      std::memcpy(row.y + i * row.lanes, row.upper + row.columns[i].low * row.lanes, pixel);
  }

  const bool nearest_;
  const std::vector<Sample> rows_, columns_;
};

}  // namespace

CpuKernel upsample_cpu() {
  return {.op = &kOpInfo<Upsample>,
          .dtypes = {DType::kF32, DType::kBF16, DType::kI8, DType::kU8},
          .input = any_port,
          .output = any_port,
          .prepare = [](CpuPrepare& p) -> std::unique_ptr<CpuStep> {
            const Upsample& op = p.op<Upsample>();
            if (op.mode == Interpolation::kNearest && !op.sized())
              return cpu_step([scale = op.scale](CpuRun& run) {
                upsample_nearest(run.in(0), run.out(0), scale, run.threads());
              });
            return std::make_unique<SampledStep>(p);
          }};
}

}  // namespace osprey

// How an op runs on the CPU: one file an op, src/cpu/<op>.cpp, defining `CpuKernel <op>_cpu()`.
//
// A kernel is made ready once for each class of shapes (prepare: primitives, packed weights, scratch) and run
// many times. Nothing is allocated while it runs. Kernels assume what the op's shape rule has checked.
//
// Rows: where dims[0] depends on the data, work follows the live count, which may be zero. An output whose
// bound is that of an input starts with that input's live count, so kernels that keep every row say nothing;
// kernels that select rows call set_rows(). Memory behind such a value holds row_capacity(bound) rows, so
// that primitives of fixed sizes may run over its end; what the spare rows hold means nothing.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/executor.h"
#include "core/tensor.h"
#include "graph/graph.h"

namespace osprey {

// How a 4-D value lies in memory. `block` channels are innermost: 1 is C order (N,C,H,W); 8 or 16 is oneDNN's
// nChw8c / nChw16c, channels padded up with zeros; 0 is channels last (N,H,W,C). Other ranks are C order.
struct CpuLayout {
  int block = 1;
  bool operator==(const CpuLayout&) const = default;
};

// A value as a kernel sees it. `dims` are logical; dims[0] of a data-dependent value is its bound while
// preparing, and the live count while running.
struct CpuValue {
  DType dtype = DType::kF32;
  Shape dims;
  CpuLayout layout;
  std::byte* data = nullptr;

  std::size_t bytes() const;      // with padded channels, without spare rows
  std::size_t row_bytes() const;  // of one element of the first dimension
  template <class T, std::size_t N>
  View<T, N> view() const {  // of C order values
    check(layout.block == 1 && dims.size() == N && kDTypeOf<std::remove_const_t<T>> == dtype,
          "cpu: a kernel reads a value of rank {} and type {} otherwise", dims.size(), name_of(dtype));
    View<T, N> out{reinterpret_cast<T*>(data), {}};
    for (std::size_t i = 0; i < N; ++i) out.dims[i] = dims[i];
    return out;
  }
};

// Rows behind a data-dependent value of at most `bound` rows.
std::int64_t row_capacity(std::int64_t bound);

// Any layout of a 4-D value as `count` planes of height x width pixels with `lanes` channels side by side:
// plane = image * planes an image + channel / lanes, lane = channel % lanes. C order has 1 lane, channels
// last one plane an image. Padded lanes are zero and stay zero.
struct CpuPlanes {
  std::int64_t count = 0, per_image = 0, height = 0, width = 0, lanes = 0;
  std::int64_t channels = 0;  // logical, of an image

  explicit CpuPlanes(const CpuValue& value);
  std::int64_t plane_size() const { return height * width * lanes; }
  // Lanes of this plane that are channels, the others being padding.
  std::int64_t live_lanes(std::int64_t plane) const;
  // Offset of an element.
  std::int64_t at(std::int64_t n, std::int64_t c, std::int64_t y, std::int64_t x) const {
    return (((n * per_image + c / lanes) * height + y) * width + x) * lanes + c % lanes;
  }
};

// What a kernel wants of the layout of one of its 4-D inputs or outputs. All kAny ports of a node get the
// same layout, which may be any.
enum class CpuPort : std::uint8_t { kPlain, kBlocked, kAny };

class CpuPrepare;
class CpuRun;

// A kernel made ready.
class CpuStep {
 public:
  virtual ~CpuStep() = default;
  virtual void run(CpuRun& run) = 0;
  virtual std::string detail() const { return ""; }  // "jit_1x1:avx512_core"
  virtual double flops() const { return 0; }         // at the bound of data-dependent extents
};

struct CpuKernel {
  const OpInfo* op = nullptr;
  // Element types of the first input that it takes; others are declined by name.
  std::vector<DType> dtypes;
  CpuPort (*input)(const Node&, std::size_t index, const Graph&) = nullptr;  // null: all plain
  CpuPort (*output)(const Node&, std::size_t index, const Graph&) = nullptr;
  std::unique_ptr<CpuStep> (*prepare)(CpuPrepare&) = nullptr;
  // Inputs whose memory output 0 may take over when they die here, in order of preference; the executor does
  // so where type, extents and layout are the same, or rows of as many elements in C order.
  // CpuPrepare::in_place() tells.
  std::vector<int> in_place = {};
};

// Port rules for kernels whose 4-D inputs or outputs are all alike.
CpuPort any_port(const Node&, std::size_t, const Graph&);
CpuPort blocked_port(const Node&, std::size_t, const Graph&);

const std::vector<CpuKernel>& cpu_kernels();

// A step from a callable, for kernels that need no class of their own.
std::unique_ptr<CpuStep> cpu_step(std::function<void(CpuRun&)> run);

// What prepare() works with.
class CpuPrepare {
 public:
  virtual ~CpuPrepare() = default;
  virtual const Node& node() const = 0;
  virtual bool has_input(std::size_t i) const = 0;
  virtual const CpuValue& input(std::size_t i) const = 0;  // data is null
  virtual const CpuValue& output(std::size_t i) const = 0;
  virtual const TensorType& input_type(std::size_t i) const = 0;
  // The data of an input that is a weight.
  virtual Tensor weight(std::size_t i) const = 0;
  // Something derived from weights that sessions and shapes share (packed weights): made once for each key.
  virtual std::shared_ptr<const void> shared(
      const std::string& key, const std::function<std::shared_ptr<const void>()>& make) const = 0;
  // Memory for what shared() makes: 64-byte aligned, there as long as the executor.
  virtual std::byte* constant_memory(std::size_t bytes) const = 0;
  // Whether output 0 lies in the memory of input i (CpuKernel::in_place).
  virtual bool in_place(std::size_t i) const = 0;
  // Bytes that run() may use for itself, 64-byte aligned; the largest of all kernels is kept once.
  virtual void request_scratch(std::size_t bytes) = 0;
  virtual int threads() const = 0;

  template <class T>
  const T& op() const {
    return *node().op.as<T>();
  }
};

// What run() works with.
class CpuRun {
 public:
  virtual ~CpuRun() = default;
  virtual const CpuValue& in(std::size_t i) const = 0;
  virtual const CpuValue& out(std::size_t i) const = 0;
  // The live count of output i, at most its bound.
  virtual void set_rows(std::size_t i, std::int64_t rows) = 0;
  // Makes output i, which has no bound, hold `rows` elements of the first dimension; data moves.
  virtual const CpuValue& grow(std::size_t i, std::int64_t rows) = 0;
  virtual std::span<std::byte> scratch() = 0;
  // The graph's inputs `photos` and `sizes`: they are never copied into values, in() has no data for them.
  virtual std::span<const ImageView> photos() const = 0;
  virtual const RunParameters& parameters() const = 0;
  virtual int threads() const = 0;

  template <class T, std::size_t N>
  View<const T, N> input(std::size_t i) const {
    return in(i).template view<const T, N>();
  }
  template <class T, std::size_t N>
  View<T, N> output(std::size_t i) const {
    return out(i).template view<T, N>();
  }
};

// Calls body(i) for 0 <= i < n on the OpenMP threads; chunks are taken as they come, results must not depend
// on who took them.
template <class Body>
void cpu_for(std::int64_t n, int threads, Body&& body) {
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (n > 1 && threads > 1)
  for (std::int64_t i = 0; i < n; ++i) body(i);
}

}  // namespace osprey

#include "cuda/matrix_call.h"

#include <algorithm>

#include "cuda/matrix_kernels.h"
#include "cuda/measure.h"

namespace osprey {
namespace {

constexpr const char* kNone = "none";  // remembered where no way exists
constexpr int kMostMeasured = 24;

// Operands for measurements.
class Bench {
 public:
  Bench(const MatrixSearch& search, cudaStream_t stream)
      : x_(bytes(search.x_count, search.type)),
        residual_(search.residual ? bytes(search.y_count, search.out_type) : 0),
        y_(bytes(search.y_count, search.out_type)),
        operands_(search.constants),
        stream_(stream) {
    fill_random(x_.data(), search.type, search.x_count, stream);
    if (search.residual) fill_random(residual_.data(), search.out_type, search.y_count, stream);
    operands_.x = x_.data();
    operands_.residual = residual_.data();
    operands_.y = y_.data();
  }

  std::optional<double> seconds(const MatrixCall& call) {
    if (workspace_.size() < call.workspace()) workspace_ = DeviceBuffer(call.workspace());
    return measure_launches(stream_, [&] { call.run(operands_, workspace_.data(), stream_); });
  }

 private:
  static std::size_t bytes(std::int64_t count, DType type) {
    return static_cast<std::size_t>(count) * size_of(type);
  }

  DeviceBuffer x_, residual_, y_, workspace_;
  MatrixOperands operands_;
  cudaStream_t stream_;
};

std::unique_ptr<MatrixCall> made(const MatrixWay& way) {
  try {
    return way.make();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kDevice) throw;
    return nullptr;  // the library listed it, but cannot have it after all
  }
}

std::unique_ptr<MatrixCall> remembered(const MatrixSearch& search, const TunedChoice& choice) {
  if (search.restore)
    if (auto call = search.restore(choice)) return call;
  for (const MatrixWay& way : search.ways())
    if (way.name == choice.name) return made(way);
  return nullptr;
}

// How much of the graph comes before the node that is being prepared.
double part_done(const CudaPrepare& p) {
  const auto& nodes = p.graph().nodes();
  return static_cast<double>(&p.node() - nodes.data()) / static_cast<double>(nodes.size());
}

std::unique_ptr<MatrixCall> searched(CudaPrepare& p, const MatrixSearch& search) {
  CudaTuner& tuner = p.tuner();
  tuner.announce(part_done(p), p.node().name);
  const std::vector<MatrixWay> ways = search.ways();
  std::vector<std::string> names;
  for (const MatrixWay& way : ways) names.push_back(way.name);
  std::unique_ptr<Bench> bench;
  std::vector<std::unique_ptr<MatrixCall>> calls(ways.size());
  int measured = 0;
  const std::size_t first = tuner.choose(search.key, names, [&](std::size_t i) -> std::optional<double> {
    if (measured == kMostMeasured) return std::nullopt;
    calls[i] = made(ways[i]);
    if (!calls[i]) return std::nullopt;
    ++measured;
    if (!bench) bench = std::make_unique<Bench>(search, p.stream());
    return bench->seconds(*calls[i]);
  });
  for (std::size_t k = 0; k < ways.size(); ++k) {
    const std::size_t i = (first + k) % ways.size();
    if (!calls[i]) calls[i] = made(ways[i]);
    if (!calls[i]) continue;
    if (k == 0) tuner.save(search.key, {names[i], calls[i]->saved()});
    return std::move(calls[i]);
  }
  tuner.remember(search.key, kNone);
  return nullptr;
}

}  // namespace

std::unique_ptr<MatrixCall> fastest_call(CudaPrepare& p, const MatrixSearch& search) {
  if (const auto choice = p.tuner().find(search.key)) {
    if (choice->name == kNone) return nullptr;
    if (auto call = remembered(search, *choice)) return call;
    p.tuner().forget(search.key);
  }
  return searched(p, search);
}

}  // namespace osprey

#include "cuda/matrix_call.h"

#include <algorithm>
#include <future>
#include <limits>
#include <span>

#include "core/parallel.h"
#include "cuda/alignment.h"
#include "cuda/matrix_kernels.h"
#include "cuda/measure.h"

namespace osprey {
namespace {

constexpr const char* kNone = "none";  // remembered where no way exists
constexpr const char* kEachPhoto = "each photo";
constexpr const char* kTogether = "photos together";
// Ways come with the most promising first: after so many that were slower than the best one, none is expected
// to be faster.
constexpr int kMostMeasured = 24, kMostMeasuredForPhotos = 8, kMostSlower = 6;
constexpr std::size_t kOperandAlignment = 16;  // that libraries ask for

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
    make_room(call);
    return measure_launches(stream_, [&] { call.run(operands_, workspace_.data(), stream_); });
  }

  // What the call gives. The memory of the result holds no number of an earlier call.
  DeviceBuffer result(const MatrixCall& call) {
    make_room(call);
    DeviceBuffer out(y_.size());
    cuda_check(cudaMemsetAsync(out.data(), 0xff, out.size(), stream_), "measuring");
    MatrixOperands operands = operands_;
    operands.y = out.data();
    call.run(operands, workspace_.data(), stream_);
    return out;
  }
  bool gives(const MatrixCall& call, const DeviceBuffer& want) {
    try {
      const DeviceBuffer got = result(call);
      return same_bytes(got.data(), want.data(), want.size(), stream_);
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kDevice) throw;
      return false;
    }
  }

 private:
  void make_room(const MatrixCall& call) {
    if (workspace_.size() < call.workspace()) workspace_ = DeviceBuffer(call.workspace());
  }
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

// Makes ways in their order, and on other threads those that will be asked for next: for many of them a
// library compiles code, a fifth of a second each.
class Maker {
 public:
  explicit Maker(std::span<const MatrixWay> ways) : ways_(ways), begun_(ways.size()) {
    cuda_check(cudaGetDevice(&device_), "measuring");
  }

  // Way i, when it and the `ahead` behind it are begun.
  std::unique_ptr<MatrixCall> make(std::size_t i, int ahead) {
    const int others = std::clamp(thread_count() - 1, 0, ahead);
    const std::size_t end = std::min(ways_.size(), i + 1 + static_cast<std::size_t>(others));
    for (next_ = std::max(next_, i); next_ < end; ++next_)
      begun_[next_] = std::async(std::launch::async, [this, &way = ways_[next_]] {
        cuda_check(cudaSetDevice(device_), way.name);
        return made(way);
      });
    return begun_[i].get();
  }

 private:
  std::span<const MatrixWay> ways_;
  int device_ = 0;
  std::size_t next_ = 0;
  std::vector<std::future<std::unique_ptr<MatrixCall>>> begun_;
};

std::unique_ptr<MatrixCall> remembered(const MatrixSearch& search, const TunedChoice& choice) {
  if (search.restore)
    if (auto call = search.restore(choice)) return call;
  for (const MatrixWay& way : search.ways())
    if (way.name == choice.name) return made(way);
  return nullptr;
}

// One photo after the other, each as it runs alone. Parts that do not begin where libraries want operands are
// copied to and from the workspace.
class EachPhotoCall final : public MatrixCall {
 public:
  EachPhotoCall(std::unique_ptr<MatrixCall> alone, const MatrixSearch& search)
      : alone_(std::move(alone)),
        photos_(search.photos),
        weight_step_(search.weight_step),
        x_bytes_(static_cast<std::size_t>(search.x_count / search.photos) * size_of(search.type)),
        y_bytes_(static_cast<std::size_t>(search.y_count / search.photos) * size_of(search.out_type)) {}

  void run(const MatrixOperands& o, std::byte* workspace, cudaStream_t stream) const override {
    std::byte* const x_copy = workspace + device_aligned(alone_->workspace());
    std::byte* const y_copy = x_copy + device_aligned(x_bytes_);
    std::byte* const residual_copy = y_copy + device_aligned(y_bytes_);
    const auto copy = [&](void* to, const void* from, std::size_t bytes) {
      cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "a photo of a batch");
    };
    const auto input = [&](const void* from, std::size_t bytes, std::int64_t photo,
                           std::byte* aside) -> const void* {
      if (!from) return nullptr;
      const auto* part = static_cast<const std::byte*>(from) + static_cast<std::size_t>(photo) * bytes;
      if (bytes % kOperandAlignment == 0) return part;
      copy(aside, part, bytes);
      return aside;
    };
    for (std::int64_t i = 0; i < photos_; ++i) {
      std::byte* const y = static_cast<std::byte*>(o.y) + static_cast<std::size_t>(i) * y_bytes_;
      const bool aside = y_bytes_ % kOperandAlignment != 0;
      alone_->run(
          {.x = input(o.x, x_bytes_, i, x_copy),
           .weight = static_cast<const std::byte*>(o.weight) + static_cast<std::size_t>(i) * weight_step_,
           .bias = o.bias,
           .residual = input(o.residual, y_bytes_, i, residual_copy),
           .y = aside ? y_copy : y},
          workspace, stream);
      if (aside) copy(y, y_copy, y_bytes_);
    }
  }
  std::size_t workspace() const override {
    return device_aligned(alone_->workspace()) + device_aligned(x_bytes_) + 2 * device_aligned(y_bytes_);
  }
  std::string name() const override { return kEachPhoto; }

 private:
  std::unique_ptr<MatrixCall> alone_;
  std::int64_t photos_;
  std::size_t weight_step_, x_bytes_, y_bytes_;
};

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
  Maker maker(ways);
  std::vector<std::unique_ptr<MatrixCall>> calls(ways.size());
  int measured = 0, slower = 0;
  double least = std::numeric_limits<double>::infinity();
  const std::size_t first = tuner.choose(search.key, names, [&](std::size_t i) -> std::optional<double> {
    // So many are measured at least.
    const int left = std::min(kMostMeasured - measured, kMostSlower - slower);
    if (left == 0) return std::nullopt;
    calls[i] = maker.make(i, left - 1);
    if (!calls[i]) return std::nullopt;
    ++measured;
    if (!bench) bench = std::make_unique<Bench>(search, p.stream());
    const std::optional<double> seconds = bench->seconds(*calls[i]);
    slower = seconds && *seconds < least ? 0 : slower + 1;
    if (seconds) least = std::min(least, *seconds);
    return seconds;
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

// All photos in one launch of what the call for one does; its name is kTogether.
class TogetherCall final : public MatrixCall {
 public:
  explicit TogetherCall(std::unique_ptr<MatrixCall> call) : call_(std::move(call)) {}
  void run(const MatrixOperands& o, std::byte* workspace, cudaStream_t stream) const override {
    call_->run(o, workspace, stream);
  }
  std::size_t workspace() const override { return call_->workspace(); }
  std::string name() const override { return kTogether; }

 private:
  std::unique_ptr<MatrixCall> call_;
};

std::unique_ptr<MatrixCall> together(const MatrixSearch& search, const MatrixCall& alone) {
  const auto aligned_parts = [&](std::int64_t count, DType type) {
    return static_cast<std::size_t>(count / search.photos) * size_of(type) % kOperandAlignment == 0;
  };
  if (!search.together || !aligned_parts(search.x_count, search.type) ||
      !aligned_parts(search.y_count, search.out_type))
    return nullptr;
  auto call = made({kTogether, [&] { return search.together(alone); }});
  return call ? std::make_unique<TogetherCall>(std::move(call)) : nullptr;
}

std::unique_ptr<MatrixCall> remembered_for_photos(CudaPrepare& p, const MatrixSearch& search,
                                                  const TunedChoice& choice) {
  if (choice.name != kEachPhoto && choice.name != kTogether) return remembered(search, choice);
  auto alone = fastest_call(p, search.alone());
  if (!alone) return nullptr;
  if (choice.name == kTogether) return together(search, *alone);
  return std::make_unique<EachPhotoCall>(std::move(alone), search);
}

// Whether calls for several photos give what the photos give one after the other, and how fast they are.
class PhotosTrial {
 public:
  PhotosTrial(const MatrixSearch& search, const EachPhotoCall& each, cudaStream_t stream)
      : search_(search), each_(each), stream_(stream) {}

  std::unique_ptr<MatrixCall> if_right(std::unique_ptr<MatrixCall> call) {
    return call && is_right(*call) ? std::move(call) : nullptr;
  }
  bool is_right(const MatrixCall& call) {
    Bench& measuring = bench();
    return measuring.gives(call, want_);
  }
  std::optional<double> seconds(const MatrixCall& call) { return bench().seconds(call); }

 private:
  Bench& bench() {
    if (!bench_) {
      bench_ = std::make_unique<Bench>(search_, stream_);
      want_ = bench_->result(each_);
    }
    return *bench_;
  }

  const MatrixSearch& search_;
  const EachPhotoCall& each_;
  cudaStream_t stream_;
  std::unique_ptr<Bench> bench_;
  DeviceBuffer want_;
};

// First comes what is right whatever the budget, and expected to be fast: the photos together, or the way for
// them of the name that the one for one photo has; where neither gives the same, one photo after the other.
std::unique_ptr<MatrixCall> searched_for_photos(CudaPrepare& p, const MatrixSearch& search) {
  auto alone = fastest_call(p, search.alone());
  if (!alone) return nullptr;
  CudaTuner& tuner = p.tuner();
  tuner.announce(part_done(p), p.node().name);
  const std::string likeliest = alone->name();
  auto all = together(search, *alone);
  auto each = std::make_unique<EachPhotoCall>(std::move(alone), search);
  PhotosTrial trial(search, *each, p.stream());
  std::unique_ptr<MatrixCall> first = trial.if_right(std::move(all));
  std::vector<MatrixWay> ways;
  if (!first || tuner.seconds_left() > 0) ways = search.ways();
  const auto same =
      std::find_if(ways.begin(), ways.end(), [&](const MatrixWay& way) { return way.name == likeliest; });
  if (!first && same != ways.end()) {
    first = trial.if_right(made(*same));
    ways.erase(same);
  }

  std::vector<std::unique_ptr<MatrixCall>> calls;
  calls.push_back(first ? std::move(first) : std::move(each));
  std::vector<std::string> names{calls[0]->name()};
  for (const MatrixWay& way : ways) names.push_back(way.name);
  calls.resize(names.size());
  Maker maker(ways);
  int measured = 0;
  std::size_t best = tuner.choose(search.key, names, [&](std::size_t i) -> std::optional<double> {
    const int left = kMostMeasuredForPhotos - measured;
    if (left == 0) return std::nullopt;
    if (i > 0) calls[i] = maker.make(i - 1, left - 1);
    if (!calls[i]) return std::nullopt;
    ++measured;
    return i == 0 || trial.is_right(*calls[i]) ? trial.seconds(*calls[i]) : std::nullopt;
  });
  // What another process chose, or this one guessed earlier, was perhaps not made here, let alone looked at.
  if (!calls[best]) calls[best] = trial.if_right(made(ways[best - 1]));
  if (!calls[best]) best = 0;
  tuner.save(search.key, {names[best], calls[best]->saved()});
  return std::move(calls[best]);
}

}  // namespace

std::int64_t photos_of(const CudaPrepare& p) {
  const Dim& rows = p.graph().value(p.node().inputs.at(0)).type.dims.at(0);
  if (rows.symbol() != "N") return 1;
  const std::int64_t each = rows.evaluate({{"N", 1}}), all = p.input(0).dims.at(0);
  return each > 0 && all % each == 0 ? all / each : 1;
}

std::unique_ptr<MatrixCall> fastest_call(CudaPrepare& p, const MatrixSearch& search) {
  if (search.photos > 1) {
    if (const auto choice = p.tuner().find(search.key)) {
      if (auto call = remembered_for_photos(p, search, *choice)) return call;
      p.tuner().forget(search.key);
    }
    return searched_for_photos(p, search);
  }
  if (const auto choice = p.tuner().find(search.key)) {
    if (choice->name == kNone) return nullptr;
    if (auto call = remembered(search, *choice)) return call;
    p.tuner().forget(search.key);
  }
  return searched(p, search);
}

}  // namespace osprey

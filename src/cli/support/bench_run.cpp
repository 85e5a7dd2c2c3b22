#include "cli/support/bench_run.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <future>

#include "core/error.h"

namespace osprey {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void append(std::vector<double>& to, const std::vector<double>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

// One session and what it measured.
class Stream {
 public:
  Stream(const std::shared_ptr<const LoadedEngine>& engine, const BenchPhotos& photos, const BenchPlan& plan)
      : gpu_(engine->device().cuda),
        needs_proposals_(engine->needs_proposals()),
        session_(engine),
        photos_(photos),
        plan_(plan),
        reader_(plan.gpu_decode ? gpu_reader(engine->device()) : exact_reader()) {}

  // One run; its time from outside, which counts decoding when that was asked for.
  double run(const RunOptions& options, RunTimes& times) {
    auto start = Clock::now();
    const std::vector<ImageView> batch = photos_.round(round_++, plan_.batch, *reader_);
    const auto proposals = proposals_for(batch);
    if (!plan_.decode) start = Clock::now();
    session_.detect(batch, options, &times, proposals);
    return since(start);
  }

  // Each begins while the one before computes.
  void run_ahead(int runs) {
    for (int i = 0; i <= runs; ++i) {
      if (i < runs) {
        const std::vector<ImageView> batch = photos_.round(round_++, plan_.batch, *reader_);
        session_.start(batch, {}, proposals_for(batch));
      }
      if (i > 0) session_.finish();
    }
  }

  void timed_run() {
    RunTimes times;
    if (gpu_ && plan_.no_transfers) {
      const auto start = Clock::now();
      samples.replay.push_back(session_.replay(1));
      samples.latency.push_back(since(start));
      return;
    }
    samples.latency.push_back(run({}, times));
    samples.preprocess.push_back(times.preprocess);
    samples.network.push_back(times.network);
    samples.postprocess.push_back(times.postprocess);
    samples.device.push_back(times.device);
    samples.upload.push_back(times.upload);
    samples.download.push_back(times.download);
  }

  double replay(int times) { return session_.replay(times); }
  std::size_t arena_bytes() const { return session_.arena_bytes(); }

  BenchSamples samples;

 private:
  std::vector<std::vector<Proposal>> proposals_for(const std::vector<ImageView>& batch) const {
    std::vector<std::vector<Proposal>> out;
    if (needs_proposals_)
      for (const ImageView& photo : batch) out.push_back(synthetic_proposals(photo));
    return out;
  }

  bool gpu_, needs_proposals_;
  DetectionSession session_;
  const BenchPhotos& photos_;
  const BenchPlan& plan_;
  std::unique_ptr<PhotoReader> reader_;
  int round_ = 0;
};

using Streams = std::vector<std::unique_ptr<Stream>>;

// Runs `work` for every stream at once, a thread each; how long all of it took. One stream stays on this
// thread, which OpenMP's workers know already.
double side_by_side(Streams& streams, const std::function<void(Stream&, std::size_t)>& work) {
  const auto start = Clock::now();
  if (streams.size() == 1) {
    work(*streams.front(), 0);
    return since(start);
  }
  std::vector<std::future<void>> running;
  for (std::size_t i = 0; i < streams.size(); ++i)
    running.push_back(std::async(std::launch::async, [&work, &streams, i] { work(*streams[i], i); }));
  for (auto& r : running) r.get();
  return since(start);
}

// Kernel by kernel, which on a GPU costs the overlap that a graph has: so in runs of their own.
void time_layers(Stream& stream, int runs, BenchSamples& out) {
  for (int i = 0; i < runs; ++i) {
    RunTimes times;
    stream.run({.time_nodes = true}, times);
    out.phases.preprocess += times.preprocess / runs;
    out.phases.network += times.network / runs;
    out.phases.postprocess += times.postprocess / runs;
    if (out.layers.empty()) {
      out.layers = std::move(times.nodes);
      for (NodeTime& n : out.layers) n.seconds /= runs;
    } else {
      for (std::size_t k = 0; k < std::min(out.layers.size(), times.nodes.size()); ++k)
        out.layers[k].seconds += times.nodes[k].seconds / runs;
    }
  }
}

BenchSamples gathered(const Streams& streams) {
  BenchSamples out;
  for (const auto& stream : streams) {
    const BenchSamples& s = stream->samples;
    append(out.latency, s.latency);
    append(out.preprocess, s.preprocess);
    append(out.network, s.network);
    append(out.postprocess, s.postprocess);
    append(out.device, s.device);
    append(out.upload, s.upload);
    append(out.download, s.download);
    append(out.replay, s.replay);
    out.device_bytes += stream->arena_bytes();
  }
  return out;
}

}  // namespace

BenchSamples run_bench(const std::shared_ptr<const LoadedEngine>& engine, const BenchPhotos& photos,
                       const BenchPlan& plan, ProgressBar& bar) {
  const bool gpu = engine->device().cuda, replays = gpu && photos.one_size();
  if (gpu && plan.no_transfers && !replays)
    fail(ErrorCode::kUsage,
         "--no-transfers repeats one run: give --input photos of one size, kept in memory");
  double first = 0;
  Streams streams;
  for (int s = 0; s < plan.streams; ++s) {
    streams.push_back(std::make_unique<Stream>(engine, photos, plan));
    const int warm_up = std::max(plan.warm_up, gpu ? 1 : 0);  // what is replayed must have run
    for (int i = 0; i < warm_up; ++i) {
      RunTimes times;
      const double seconds = streams.back()->run({}, times);
      if (s == 0 && i == 0) first = seconds;
    }
  }
  const double wall = side_by_side(streams, [&](Stream& stream, std::size_t index) {
    const auto start = Clock::now();
    for (int i = 0; i < plan.iterations || since(start) < plan.duration; ++i) {
      stream.timed_run();
      if (index == 0) bar.update(static_cast<double>(i + 1) / std::max(plan.iterations, i + 1), "running");
    }
  });
  // Photos that are decoded in the run do not outlive it.
  const bool ahead = gpu && !plan.no_transfers && !plan.decode;
  const auto run_ahead = [&](int runs) {
    return side_by_side(streams, [&](Stream& stream, std::size_t) { stream.run_ahead(runs); });
  };
  // The first runs that two are under way with make memory and graphs of the second one, for each size.
  if (ahead) run_ahead(photos.one_size() ? std::max(plan.warm_up, 2) : plan.iterations);
  const double overlapped = ahead ? run_ahead(plan.iterations) : 0;
  double queued = 0;
  if (replays) {
    if (!plan.no_transfers)
      for (int i = 0; i < plan.iterations; ++i)
        streams.front()->samples.replay.push_back(streams.front()->replay(1));
    queued = side_by_side(streams, [&](Stream& stream, std::size_t) { stream.replay(plan.iterations); });
  }
  BenchSamples out = gathered(streams);
  out.first = plan.warm_up > 0 || gpu ? first : out.latency.front();
  const double photos_a_run = plan.batch;
  out.rate = ahead ? photos_a_run * plan.streams * plan.iterations / overlapped
                   : photos_a_run * static_cast<double>(out.runs()) / wall;
  if (replays) out.queued_rate = photos_a_run * plan.streams * plan.iterations / queued;
  if (plan.time_layers) time_layers(*streams.front(), std::min(plan.iterations, 20), out);
  return out;
}

}  // namespace osprey

// osprey bench: how long a run takes, and where.
#include <algorithm>
#include <chrono>
#include <random>

#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "cli/support/device_flags.h"
#include "cli/support/inputs.h"
#include "cli/support/progress.h"
#include "cli/support/statistics.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "core/file.h"
#include "engine/runtime.h"

namespace osprey {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string engine, size = "800x1333", trace;
  std::vector<std::string> input;
  DeviceFlags device;
  int iterations = 10, warm_up = 1, batch = 1, streams = 1;
  double duration = 0;
  bool layers = false, no_transfers = false, end_to_end = false;
};

// The time of each layer, the first `preprocess` and so on, over all timed runs.
struct Samples {
  std::vector<double> total, preprocess, network, postprocess;
  std::vector<NodeTime> layers;  // seconds added up
  double open = 0, first = 0;    // opening the engine; the first run, which prepares the image's size

  void add(double seconds, const RunTimes& times) {
    total.push_back(seconds);
    preprocess.push_back(times.preprocess);
    network.push_back(times.network);
    postprocess.push_back(times.postprocess);
    if (layers.empty())
      layers = times.nodes;
    else
      for (std::size_t i = 0; i < layers.size() && i < times.nodes.size(); ++i)
        layers[i].seconds += times.nodes[i].seconds;
  }
};

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A photo of noise: timing on constant data would flatter.
Image noise(int width, int height) {
  Image out(width, height);
  std::mt19937 random(1);
  for (auto& p : out.pixels) p = static_cast<std::uint8_t>(random());
  return out;
}

// The photos of a round: kept in memory, or read and decoded each time.
class Photos {
 public:
  explicit Photos(const Options& o) : end_to_end_(o.end_to_end) {
    if (o.end_to_end && o.input.empty())
      fail(ErrorCode::kUsage, "--end-to-end needs --input with photos to read");
    if (!o.input.empty()) files_ = find_images(o.input);
    if (o.input.empty())
      kept_.push_back(photo_of_noise(o.size));
    else if (!end_to_end_)
      for (const auto& file : files_) kept_.push_back(read_image(file));
  }

  std::vector<ImageView> round(int number, int batch) {
    std::vector<ImageView> out;
    read_.clear();
    read_.reserve(static_cast<std::size_t>(batch));
    for (int i = 0; i < batch; ++i) {
      const auto at =
          static_cast<std::size_t>(number) * static_cast<std::size_t>(batch) + static_cast<std::size_t>(i);
      if (end_to_end_) read_.push_back(read_image(files_[at % files_.size()]));
      out.push_back(end_to_end_ ? read_.back() : kept_[at % kept_.size()]);
    }
    return out;
  }

 private:
  static Image photo_of_noise(const std::string& size);

  bool end_to_end_;
  std::vector<std::filesystem::path> files_;
  std::vector<Image> kept_, read_;
};

Image Photos::photo_of_noise(const std::string& size) {
  int height = 0, width = 0;
  if (std::sscanf(size.c_str(), "%dx%d", &height, &width) != 2 || height < 1 || width < 1 || height > 16384 ||
      width > 16384)
    fail(ErrorCode::kUsage, "--size {}: write HEIGHTxWIDTH of the photo, like 800x1333", size);
  return noise(width, height);
}

long peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

Samples measure(const Options& o, const CommonOptions& common) {
  Samples out;
  Photos photos(o);
  const auto opening = Clock::now();
  const auto engine = LoadedEngine::open(o.engine, o.device.options(common));
  DetectionSession session(engine);
  out.open = since(opening);

  ProgressBar bar(!common.quiet);
  const RunOptions options{.time_nodes = o.layers || !o.trace.empty()};
  const int rounds = o.warm_up + o.iterations;
  const auto start = Clock::now();
  for (int round = 0; round < rounds || since(start) < o.duration; ++round) {
    RunTimes times;
    auto run = Clock::now();
    const std::vector<ImageView> batch = photos.round(round, o.batch);
    if (!o.end_to_end) run = Clock::now();
    session.detect(batch, options, &times);
    const double seconds = since(run);
    if (round == 0) out.first = seconds;
    if (round >= o.warm_up) out.add(seconds, times);
    bar.update(static_cast<double>(round + 1) / rounds, "running");
  }
  return out;
}

json to_json(const Summary& s) {
  return {{"min", s.min * 1e3}, {"max", s.max * 1e3}, {"mean", s.mean * 1e3}, {"median", s.median * 1e3},
          {"p90", s.p90 * 1e3}, {"p95", s.p95 * 1e3}, {"p99", s.p99 * 1e3}};
}

json layer_json(const Samples& s) {
  json out = json::array();
  const double runs = static_cast<double>(s.total.size());
  for (const NodeTime& n : s.layers)
    out.push_back({{"name", n.name},
                   {"op", n.op},
                   {"kernel", n.detail},
                   {"ms", n.seconds / runs * 1e3},
                   {"gflop", n.flops / 1e9}});
  return out;
}

void print_layers(const Samples& s) {
  std::vector<NodeTime> sorted = s.layers;
  std::sort(sorted.begin(), sorted.end(),
            [](const NodeTime& a, const NodeTime& b) { return a.seconds > b.seconds; });
  const double runs = static_cast<double>(s.total.size());
  double sum = 0;
  for (const NodeTime& n : sorted) sum += n.seconds;
  fmt::print("{:>9}  {:>6}  {:>8}  {:<16} {:<44} {}\n", "ms", "%", "GFLOP/s", "op", "layer", "kernel");
  for (const NodeTime& n : sorted) {
    const double seconds = n.seconds / runs;
    const std::string rate = n.flops > 0 ? fmt::format("{:.1f}", n.flops / seconds / 1e9) : "";
    fmt::print("{:9.3f}  {:6.2f}  {:>8}  {:<16} {:<44} {}\n", seconds * 1e3, n.seconds / sum * 100, rate,
               n.op, n.name, n.detail);
  }
}

// Chrome's trace format (chrome://tracing, Perfetto): the layers of one run, at their mean times, in order.
void write_trace(const std::string& file, const Samples& s) {
  json events = json::array();
  double at = 0;
  const double runs = static_cast<double>(s.total.size());
  for (const NodeTime& n : s.layers) {
    const double micros = n.seconds / runs * 1e6;
    events.push_back({{"name", n.name},
                      {"cat", n.op},
                      {"ph", "X"},
                      {"ts", at},
                      {"dur", micros},
                      {"pid", 1},
                      {"tid", 1},
                      {"args", {{"kernel", n.detail}, {"gflop", n.flops / 1e9}}}});
    at += micros;
  }
  write_file(file, json{{"traceEvents", events}, {"displayTimeUnit", "ms"}}.dump());
}

int bench(const Options& o, const CommonOptions& common) {
  const Samples s = measure(o, common);
  const Summary total = summarize(s.total), pre = summarize(s.preprocess), net = summarize(s.network),
                post = summarize(s.postprocess);
  const double throughput = o.batch / total.mean;
  if (!o.trace.empty()) write_trace(o.trace, s);
  if (common.json) {
    json out{{"engine", o.engine},
             {"batch", o.batch},
             {"iterations", s.total.size()},
             {"open_ms", s.open * 1e3},
             {"first_run_ms", s.first * 1e3},
             {"latency_ms", to_json(total)},
             {"preprocess_ms", to_json(pre)},
             {"network_ms", to_json(net)},
             {"postprocess_ms", to_json(post)},
             {"throughput", throughput},
             {"peak_memory_mib", static_cast<double>(peak_kib()) / 1024}};
    if (o.layers) out["layers"] = layer_json(s);
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  fmt::print("Opening: {:.1f} ms; first run, preparing the image size: {:.1f} ms; peak memory: {:.0f} MiB\n",
             s.open * 1e3, s.first * 1e3, static_cast<double>(peak_kib()) / 1024);
  fmt::print("Throughput: {:.3f} images/s (batch {}, {} runs)\n", throughput, o.batch, s.total.size());
  fmt::print("Latency: {}\n", to_text(total));
  fmt::print("Preprocess: {}\nNetwork: {}\nPostprocess: {}\n", to_text(pre), to_text(net), to_text(post));
  if (o.layers) print_layers(s);
  return 0;
}

}  // namespace

Verb bench_verb() {
  return {
      "bench", "Measure latency and throughput, by stage and by layer",
      "  osprey bench m.osprey\n"
      "  osprey bench m.osprey --input photo.jpg --iterations 50 --layers\n"
      "  osprey bench m.osprey --batch 4 --json\n"
      "  osprey bench m.osprey --trace trace.json\n",
      [](CLI::App& app, const CommonOptions& common) {
        auto o = std::make_shared<Options>();
        app.add_option("ENGINE", o->engine, "An engine file")->required();
        o->device.declare(app);
        app.add_option("--iterations", o->iterations, "Timed runs")
            ->capture_default_str()
            ->check(CLI::Range(1, 1000000));
        app.add_option("--warm-up,--warmUp", o->warm_up, "Runs before them")
            ->capture_default_str()
            ->check(CLI::Range(0, 1000));
        app.add_option("--duration", o->duration, "Go on for at least this many seconds")
            ->capture_default_str();
        app.add_option("--batch", o->batch, "Images a run")->capture_default_str()->check(CLI::Range(1, 256));
        app.add_option("--streams", o->streams, "Concurrent sessions; on the CPU one uses all cores")
            ->check(CLI::Range(1, 1));
        app.add_option("--size", o->size, "HxW of the photo of noise that is used without --input")
            ->capture_default_str();
        app.add_option("--input", o->input, "Photos to run instead: files, folders, globs");
        app.add_flag("--layers", o->layers, "A table of layers, slowest first");
        app.add_option("--trace", o->trace, "Write a Chrome trace of the layers to this file");
        app.add_flag("--no-transfers", o->no_transfers,
                     "Leave copies to the device out; on the CPU there are none");
        app.add_flag("--end-to-end", o->end_to_end,
                     "Count reading and decoding the photos of --input as well");
        return [o, &common] { return bench(*o, common); };
      }};
}

}  // namespace osprey

// osprey bench: how long a run takes, and where.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>

#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "cli/support/bench_run.h"
#include "cli/support/device_flags.h"
#include "cli/support/statistics.h"
#include "cli/support/verb.h"
#include "core/error.h"
#include "core/file.h"

namespace osprey {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string engine, size = "800x1333", trace, batch = "1";
  std::vector<std::string> input;
  DeviceFlags device;
  std::optional<int> iterations, warm_up;
  int streams = 1;
  double duration = 0;
  bool layers = false, no_transfers = false, no_graph = false, end_to_end = false, gpu_decode = false;
};

// N, a list N,N,... or a range N..N.
std::vector<int> parse_batches(const std::string& text) {
  const auto number = [&](std::string_view part) {
    int value = 0;
    const auto [stop, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || stop != part.data() + part.size() || value < 1 || value > 256)
      fail(ErrorCode::kUsage, "--batch {}: write N, N,N,... or N..N, each from 1 to 256", text);
    return value;
  };
  std::vector<int> out;
  if (const auto dots = text.find(".."); dots != std::string::npos) {
    const int last = number(std::string_view(text).substr(dots + 2));
    for (int n = number(std::string_view(text).substr(0, dots)); n <= last; ++n) out.push_back(n);
  } else {
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      out.push_back(number(std::string_view(text).substr(begin, end - begin)));
      begin = end + 1;
    }
  }
  if (out.empty()) fail(ErrorCode::kUsage, "--batch {}: is an empty range", text);
  return out;
}

// What was measured at one batch.
struct Row {
  int batch = 1;
  BenchSamples samples;
};

struct Bench {
  bool gpu = false;
  std::string device;
  double open = 0;  // seconds
  std::vector<Row> rows;
};

Bench measure(const Options& o, const CommonOptions& common) {
  const std::vector<int> batches = parse_batches(o.batch);
  const BenchPhotos photos(o.input, o.size, o.end_to_end);
  ProgressBar bar(!common.quiet);
  EngineOptions options = o.device.options(common, bar);
  options.cuda_graph = !o.no_graph;

  Bench out;
  const auto opening = Clock::now();
  const auto engine = LoadedEngine::open(o.engine, options);
  out.open = std::chrono::duration<double>(Clock::now() - opening).count();
  out.gpu = engine->device().cuda;
  out.device = to_string(engine->device());
  if (!out.gpu && o.streams > 1)
    fail(ErrorCode::kUsage, "--streams {}: on the CPU one session uses all cores", o.streams);
  for (const int batch : batches) {
    const BenchPlan plan{.iterations = o.iterations.value_or(out.gpu ? 200 : 10),
                         .warm_up = o.warm_up.value_or(out.gpu ? 20 : 1),
                         .batch = batch,
                         .streams = o.streams,
                         .duration = o.duration,
                         .decode = o.end_to_end,
                         .gpu_decode = o.gpu_decode,
                         .no_transfers = o.no_transfers,
                         .time_layers = o.layers || !o.trace.empty()};
    out.rows.push_back({batch, run_bench(engine, photos, plan, bar)});
  }
  return out;
}

// --- Figures as JSON
// -----------------------------------------------------------------------------------------

json to_json(const Summary& s) {
  return {{"min", s.min * 1e3}, {"max", s.max * 1e3}, {"mean", s.mean * 1e3}, {"median", s.median * 1e3},
          {"p90", s.p90 * 1e3}, {"p95", s.p95 * 1e3}, {"p99", s.p99 * 1e3}};
}

json layer_json(const BenchSamples& s) {
  json out = json::array();
  for (const NodeTime& n : s.layers)
    out.push_back({{"name", n.name},
                   {"op", n.op},
                   {"kernel", n.detail},
                   {"ms", n.seconds * 1e3},
                   {"gflop", n.flops / 1e9}});
  return out;
}

double peak_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

json row_json(const Row& row, bool gpu, bool layers) {
  const BenchSamples& s = row.samples;
  json out{{"batch", row.batch},
           {"iterations", s.runs()},
           {"first_run_ms", s.first * 1e3},
           {"latency_ms", to_json(summarize(s.latency))},
           {"throughput", s.rate}};
  const auto add = [&](const char* name, const std::vector<double>& samples) {
    if (!samples.empty()) out[name] = to_json(summarize(samples));
  };
  if (gpu) {
    add("device_ms", s.device);
    add("upload_ms", s.upload);
    add("download_ms", s.download);
    add("gpu_compute_ms", s.replay);
    if (s.queued_rate > 0) out["throughput_no_transfers"] = s.queued_rate;
    out["device_memory_mib"] = static_cast<double>(s.device_bytes) / (1 << 20);
  } else {
    add("preprocess_ms", s.preprocess);
    add("network_ms", s.network);
    add("postprocess_ms", s.postprocess);
  }
  if (layers) {
    out["layers"] = layer_json(s);
    out["phases_ms"] = {{"preprocess", s.phases.preprocess * 1e3},
                        {"network", s.phases.network * 1e3},
                        {"postprocess", s.phases.postprocess * 1e3}};
  }
  return out;
}

// One batch: its figures beside the engine's; several: a list of them.
void print_json(const Options& o, const Bench& b) {
  json out{{"engine", o.engine},
           {"device", b.device},
           {"streams", o.streams},
           {"open_ms", b.open * 1e3},
           {"peak_memory_mib", peak_mib()}};
  json rows = json::array();
  for (const Row& row : b.rows) rows.push_back(row_json(row, b.gpu, o.layers));
  if (rows.size() == 1)
    out.update(rows[0]);
  else
    out["batches"] = rows;
  fmt::print("{}\n", out.dump(2));
}

// --- Figures as text
// -----------------------------------------------------------------------------------------

std::string rate_text(const NodeTime& n) {
  return n.flops > 0 && n.seconds > 0 ? fmt::format("{:.1f}", n.flops / n.seconds / 1e9) : "";
}

void print_ops(const std::vector<NodeTime>& layers, double sum) {
  std::map<std::string, std::pair<double, int>> by_op;
  for (const NodeTime& n : layers) {
    by_op[n.op].first += n.seconds;
    ++by_op[n.op].second;
  }
  std::vector<std::pair<std::string, std::pair<double, int>>> sorted(by_op.begin(), by_op.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.first > b.second.first; });
  fmt::print("{:>9}  {:>6}  {:>6}  {}\n", "ms", "%", "layers", "op");
  for (const auto& [op, total] : sorted)
    fmt::print("{:9.3f}  {:6.2f}  {:>6}  {}\n", total.first * 1e3, total.first / sum * 100, total.second, op);
}

void print_layers(const BenchSamples& s) {
  std::vector<NodeTime> sorted = s.layers;
  std::sort(sorted.begin(), sorted.end(),
            [](const NodeTime& a, const NodeTime& b) { return a.seconds > b.seconds; });
  double sum = 0;
  for (const NodeTime& n : sorted) sum += n.seconds;
  fmt::print(
      "\nOne layer after the other: {:.3f} ms: preprocess {:.3f}, network {:.3f}, postprocess {:.3f}\n",
      sum * 1e3, s.phases.preprocess * 1e3, s.phases.network * 1e3, s.phases.postprocess * 1e3);
  print_ops(sorted, sum);
  fmt::print("\n{:>9}  {:>6}  {:>8}  {:<16} {:<44} {}\n", "ms", "%", "GFLOP/s", "op", "layer", "kernel");
  for (const NodeTime& n : sorted)
    fmt::print("{:9.3f}  {:6.2f}  {:>8}  {:<16} {:<44} {}\n", n.seconds * 1e3, n.seconds / sum * 100,
               rate_text(n), n.op, n.name, n.detail);
}

void print_samples(const char* name, const std::vector<double>& samples) {
  if (!samples.empty()) fmt::print("{}: {}\n", name, to_text(summarize(samples)));
}

void print_row(const Row& row, const Bench& b, bool layers) {
  const BenchSamples& s = row.samples;
  fmt::print("Throughput: {:.3f} images/s (batch {}, {} runs)\n", s.rate, row.batch, s.runs());
  print_samples("Latency", s.latency);
  if (b.gpu) {
    print_samples("GPU Compute Time", s.replay);
    print_samples("Device", s.device);
    print_samples("Upload", s.upload);
    print_samples("Download", s.download);
    if (s.queued_rate > 0)
      fmt::print("Throughput without transfers: {:.3f} images/s; arenas on the device: {:.0f} MiB\n",
                 s.queued_rate, static_cast<double>(s.device_bytes) / (1 << 20));
  } else {
    print_samples("Preprocess", s.preprocess);
    print_samples("Network", s.network);
    print_samples("Postprocess", s.postprocess);
  }
  if (layers) print_layers(s);
}

// Chrome's trace format (chrome://tracing, Perfetto): the layers of one run, at their mean times, in order.
void write_trace(const std::string& file, const BenchSamples& s) {
  json events = json::array();
  double at = 0;
  for (const NodeTime& n : s.layers) {
    const double micros = n.seconds * 1e6;
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
  const Bench b = measure(o, common);
  if (!o.trace.empty()) write_trace(o.trace, b.rows.front().samples);
  if (common.json) {
    print_json(o, b);
    return 0;
  }
  fmt::print("Opening: {:.1f} ms; first run, preparing the image size: {:.1f} ms; peak memory: {:.0f} MiB\n",
             b.open * 1e3, b.rows.front().samples.first * 1e3, peak_mib());
  for (const Row& row : b.rows) print_row(row, b, o.layers);
  return 0;
}

}  // namespace

Verb bench_verb() {
  return {"bench", "Measure latency and throughput, by stage and by layer",
          "  osprey bench m.osprey\n"
          "  osprey bench m.osprey --input photo.jpg --iterations 50 --layers\n"
          "  osprey bench m.osprey --batch 1,2,4,8 --json\n"
          "  osprey bench m.osprey --device cuda --no-transfers --streams 2\n"
          "  osprey bench m.osprey --end-to-end --gpu-decode --input photos/\n"
          "  osprey bench m.osprey --trace trace.json\n",
          [](CLI::App& app, const CommonOptions& common) {
            auto o = std::make_shared<Options>();
            app.add_option("ENGINE", o->engine, "An engine file")->required();
            o->device.declare(app);
            app.add_option("--iterations", o->iterations, "Timed runs; default: 10 on the CPU, 200 on a GPU")
                ->check(CLI::Range(1, 1000000));
            app.add_option("--warm-up,--warmUp", o->warm_up, "Runs before them; default: 1, on a GPU 20")
                ->check(CLI::Range(0, 1000));
            app.add_option("--duration", o->duration, "Go on for at least this many seconds")
                ->capture_default_str();
            app.add_option("--batch", o->batch,
                           "Images a run: N, or several one after the other: N,N,... or N..N")
                ->capture_default_str();
            app.add_option("--streams", o->streams, "Sessions side by side on a GPU, a thread each")
                ->capture_default_str()
                ->check(CLI::Range(1, 64));
            app.add_option("--size", o->size, "HxW of the photo of noise that is used without --input")
                ->capture_default_str();
            app.add_option("--input", o->input, "Photos to run instead: files, folders, globs");
            app.add_flag("--layers", o->layers, "A table of layers, slowest first, and of ops");
            app.add_option("--trace", o->trace, "Write a Chrome trace of the layers to this file");
            app.add_flag(
                "--no-transfers", o->no_transfers,
                "Time what the GPU does alone, without copies to and from it; on the CPU there are none");
            app.add_flag("--no-graph", o->no_graph, "Launch kernel by kernel instead of one CUDA graph");
            CLI::Option* const end_to_end = app.add_flag(
                "--end-to-end", o->end_to_end, "Count reading and decoding the photos of --input as well");
            app.add_flag("--gpu-decode", o->gpu_decode,
                         "With --end-to-end: JPEG files by the GPU, whose pixels differ by a few levels")
                ->needs(end_to_end);
            return [o, &common] { return bench(*o, common); };
          }};
}

}  // namespace osprey

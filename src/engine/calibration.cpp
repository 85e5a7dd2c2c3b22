#include "engine/calibration.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "cpu/executor.h"
#include "engine/proposals.h"

namespace osprey {
namespace {

// Values of one kind that a histogram is made of, whatever the element type.
class Collector {
 public:
  Collector(const Graph& graph, int threads)
      : takes_proposals_(takes_proposals(graph)),
        wanted_(values_to_calibrate(graph)),
        executor_(make_cpu_executor(std::make_shared<const Graph>(graph), {.threads = threads})),
        session_(executor_->session()) {}

  const std::vector<std::string>& wanted() const { return wanted_; }

  // Photos run one by one: a batch would pad the smaller ones further.
  void look_at(const ImageView& photo, std::map<std::string, Magnitudes>& values) {
    RunOptions options{.wanted = wanted_};
    options.observe = [&](const std::string& name, const Tensor& value) {
      Magnitudes& of = values[name];
      of.add(value.values<float>());
      if (!of.finite())
        bad_input("int8: {} has values that are not finite: the model computes no fp32 to compare with",
                  name);
    };
    const std::vector<Proposal> proposals = synthetic_proposals(photo);
    const std::vector<Proposal>* const given = &proposals;
    if (takes_proposals_) options.inputs["proposals"] = proposal_rows({&given, 1});
    session_->run({&photo, 1}, options);
  }

 private:
  bool takes_proposals_;
  std::vector<std::string> wanted_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<ExecutorSession> session_;
};

std::optional<Image> usable(const std::filesystem::path& file, std::vector<std::string>& unreadable) {
  try {
    return read_image(file);
  } catch (const Error& e) {
    unreadable.emplace_back(e.what());
    return std::nullopt;
  }
}

std::filesystem::path partial_file(const BuildOptions& options) {
  std::filesystem::path out = options.calibration.cache;
  if (!out.empty()) out += ".partial";
  return out;
}

// What an earlier run of the same calibration left; one of another is started over.
PartialCalibration start(const CalibrationKey& key, const std::filesystem::path& file,
                         std::vector<std::string>& remarks) {
  if (!file.empty() && std::filesystem::exists(file)) {
    PartialCalibration left = read_partial(file);
    if (mismatch(left.key, key).empty()) {
      remarks.push_back(
          fmt::format("int8: calibration went on after {} of {} photos", left.photos, key.photos.size()));
      return left;
    }
  }
  return {key, 0, {}, {}};
}

PartialCalibration collect(const Graph& graph, const CalibrationKey& key, const BuildOptions& options,
                           std::vector<std::string>& remarks) {
  const std::filesystem::path file = partial_file(options);
  PartialCalibration out = start(key, file, remarks);
  Collector collector(graph, options.threads);
  require(!collector.wanted().empty(), "int8: the model has no layer that computes in integers");
  const auto& photos = options.calibration_photos;
  const auto batch = static_cast<std::size_t>(std::max(options.calibration.batch, 1));
  while (out.photos < photos.size()) {
    if (options.progress)
      options.progress(static_cast<double>(out.photos) / static_cast<double>(photos.size()),
                       fmt::format("calibrating, photo {} of {}", out.photos + 1, photos.size()));
    const std::filesystem::path& photo = photos[out.photos];
    if (const auto image = usable(photo, out.unreadable))
      in_context(photo.string(), [&] { collector.look_at(*image, out.values); });
    ++out.photos;
    if (!file.empty() && out.photos % batch == 0) write_partial(file, out);
  }
  for (const std::string& name : collector.wanted()) out.values.try_emplace(name);
  return out;
}

CalibrationCache limits_of(const Graph& graph, const PartialCalibration& collected,
                           CalibrationMethod method) {
  CalibrationCache out{collected.key, {}, std::nullopt};
  for (const auto& [name, values] : collected.values) {
    CalibratedValue& v = out.values[name];
    if (values.count() == 0) continue;
    if (values.least() == values.largest())
      bad_input(
          "int8: {} is {} everywhere in all {} photos: they cannot tell how large its values come; calibrate "
          "on photos like those to come",
          name, values.least(), collected.key.photos.size() - collected.unreadable.size());
    const int levels = is_non_negative(graph, graph.find(name)) ? 255 : 127;
    v = {values.least(), values.largest(), limit_of(values, method, levels), 0, 0};
    v.saturated = saturated_share(values, v.limit);
    v.sqnr = signal_to_noise(values, v.limit, levels);
  }
  return out;
}

}  // namespace

Calibration calibrate(const Graph& graph, const BuildOptions& options) {
  const std::filesystem::path& cache = options.calibration.cache;
  const bool cached = !cache.empty() && std::filesystem::exists(cache);
  if (options.calibration_photos.empty() && !cached)
    fail(ErrorCode::kUsage,
         "int8 is calibrated on photos like those to come: name them (--calib-input), or a cache that an "
         "earlier calibration wrote (--calib-cache)");
  if (options.progress) options.progress(0, "calibrating");
  const CalibrationKey key = calibration_key(graph, options.calibration.method, options.calibration_photos);
  if (cached) {
    Calibration out{read_cache(cache), {}};
    if (const std::string why = mismatch(out.found.key, key); !why.empty())
      bad_input("{}: was calibrated for {}; remove it, or name another file", cache.string(), why);
    out.remarks.push_back(fmt::format("int8: limits are those of {}", cache.string()));
    const auto values = values_to_calibrate(graph);
    const auto unknown = std::ranges::count_if(
        values, [&](const std::string& value) { return !out.found.values.contains(value); });
    if (unknown > 0)
      out.remarks.push_back(
          fmt::format("int8: it was written before {} of {} values were calibrated, whose layers stay in "
                      "floats; without it they are calibrated, too",
                      unknown, values.size()));
    return out;
  }
  Calibration out;
  const PartialCalibration collected = collect(graph, key, options, out.remarks);
  for (const std::string& why : collected.unreadable) out.remarks.push_back("int8: left out: " + why);
  if (collected.unreadable.size() == key.photos.size())
    bad_input("int8: none of the {} photos can be read; the first: {}", key.photos.size(),
              collected.unreadable.front());
  out.found = limits_of(graph, collected, options.calibration.method);
  if (!cache.empty()) {
    write_cache(cache, out.found);
    std::filesystem::remove(partial_file(options));
  }
  return out;
}

Quantization quantization_of(const CalibrationCache& cache) {
  Quantization out;
  for (const auto& [name, value] : cache.values)
    if (value.limit > 0) out.limits[name] = value.limit;
  return out;
}

}  // namespace osprey

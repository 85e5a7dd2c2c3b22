#include "parity/model_case.h"

#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "engine/devices.h"

namespace osprey {

namespace fs = std::filesystem;

ScratchFolder::ScratchFolder() {
  std::string pattern = (fs::temp_directory_path() / "osprey_parity_XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder: " + pattern);
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

TuningOptions quick_tuning() {
  return {.budget = 5, .cache = fs::temp_directory_path() / "osprey_parity_tuning"};
}

namespace {

BuildOptions tuned_quickly(BuildOptions options) {
  options.tuning = quick_tuning();
  return options;
}

}  // namespace

CaseEngine::CaseEngine(const ModelCase& c, const BuildOptions& options)
    : file_(scratch_.path() / (c.name + ".osprey")) {
  const fs::path folder = fixture(c.family) / c.name;
  const fs::path archive =
      fixture(c.family) / (c.weights_of.empty() ? c.name : c.weights_of) / "checkpoint.tar.xz";
  if (!unpack(archive, scratch_.path())) throw std::runtime_error("cannot unpack " + archive.string());
  build_engine({.source = scratch_.path() / c.checkpoint,
                .config = c.config.empty() ? (folder / "config.yaml").string() : c.config,
                .overrides = c.overrides,
                .height = c.canvas,
                .width = c.canvas},
               tuned_quickly(options), file_);
}

double GoldenStage::magnitude() const {
  double out = 0;
  for (const double v : values) out = std::max(out, std::abs(v));
  return out;
}

GoldenStage golden_stage(const GoldenArrays& golden, const std::string& name) {
  if (!golden.has(name + "__sample")) return {golden.tensor(name).shape(), 1, golden.doubles(name)};
  GoldenStage out{
      {}, golden.tensor(name + "__stride").values<std::int64_t>()[0], golden.doubles(name + "__sample")};
  const Tensor shape = golden.tensor(name + "__shape");
  out.shape.assign(shape.values<std::int64_t>().begin(), shape.values<std::int64_t>().end());
  return out;
}

CaseRun run_with_stages(const fs::path& engine, const Image& photo, const std::vector<std::string>& stages) {
  CaseRun out;
  DetectionSession session(LoadedEngine::open(engine, {.tuning = quick_tuning()}));
  RunOptions options{.wanted = stages};
  options.observe = [&](const std::string& name, const Tensor& value) {
    const bool half = value.dtype() == DType::kF16 || value.dtype() == DType::kBF16;
    out.stages.emplace(name, half ? value.to_f32() : value.copied());
  };
  const ImageView view = photo;
  out.detections = std::move(session.detect({&view, 1}, options).front());
  return out;
}

std::string why_no_device(const std::string& device) {
  if (device == "cpu") return "";
  const CudaReport cuda = cuda_report();
  return cuda.gpus.empty() ? cuda.why_none : "";
}

}  // namespace osprey

#include "engine/devices.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "core/error.h"
#include "core/file.h"
#include "cpu/executor.h"
#ifdef OSPREY_HAS_CUDA
#include "cuda/executor.h"
#include "cuda/jpeg.h"
#include "cuda/libraries.h"
#endif

namespace osprey {
namespace {

// Of fp16, and of int8 for a GPU, whose other layers are.
bool computes_in_f16(const Graph& graph) {
  return std::any_of(graph.values().begin(), graph.values().end(),
                     [](const Value& v) { return v.type.dtype == DType::kF16; });
}

// What to do with an engine where no GPU can run it.
std::string_view way_out(const Graph& graph) {
  return computes_in_f16(graph)
             ? "build it again with --device cpu, or run it on a machine with an NVIDIA GPU"
             : "run it with --device cpu, or on a machine with an NVIDIA GPU";
}

}  // namespace

DeviceName parse_device(std::string_view text) {
  if (text == "cpu") return {};
  if (text == "cuda") return {.cuda = true};
  DeviceName out{.cuda = true};
  if (text.starts_with("cuda:")) {
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + 5, end, out.index);
    if (error == std::errc() && stop == end && out.index >= 0) return out;
  }
  fail(ErrorCode::kUsage, "device '{}': there are cpu, cuda and cuda:N", text);
}

std::string to_string(const DeviceName& device) {
  return device.cuda ? fmt::format("cuda:{}", device.index) : "cpu";
}

std::string_view name_of(Precision precision) {
  switch (precision) {
    case Precision::kFp32:
      return "fp32";
    case Precision::kTf32:
      return "tf32";
    case Precision::kBf16:
      return "bf16";
    case Precision::kFp16:
      return "fp16";
    case Precision::kInt8:
      return "int8";
  }
  fail(ErrorCode::kUsage, "precision {} does not exist", static_cast<int>(precision));
}

namespace {

std::unique_ptr<Executor> make_cuda(const std::shared_ptr<const Graph>& graph, const DeviceName& device,
                                    std::string_view precision, const EngineOptions& options) {
#ifdef OSPREY_HAS_CUDA
  std::string why;
  const auto devices = cuda_devices(&why);
  if (devices.empty()) fail(ErrorCode::kDevice, "needs an NVIDIA GPU: {}; {}", why, way_out(*graph));
  if (std::none_of(devices.begin(), devices.end(),
                   [&](const CudaDevice& d) { return d.index == device.index; }))
    fail(ErrorCode::kDevice, "needs GPU {}, and this machine has {}, numbered from 0", device.index,
         devices.size());
  return make_cuda_executor(graph, {.device = device.index,
                                    // A layer that stays f32 between half ones does so for its range: tf32
                                    // has f32's, and as many places as f16.
                                    .tf32 = precision != "fp32",
                                    .graph = options.cuda_graph,
                                    .tuning_budget = options.tuning.budget,
                                    .tuning_cache = options.tuning.cache,
                                    .progress = options.progress});
#else
  (void)precision, (void)device, (void)options;
  fail(ErrorCode::kDevice,
       "needs an NVIDIA GPU: this Osprey was built without CUDA (`osprey doctor` tells how to get it); {}",
       way_out(*graph));
#endif
}

}  // namespace

void check_precision(const DeviceName& device, Precision precision) {
  const bool on_cpu =
      precision == Precision::kFp32 || precision == Precision::kBf16 || precision == Precision::kInt8;
  if (device.cuda || on_cpu) return;
  fail(ErrorCode::kUsage, "precision {0}: the CPU computes in fp32, bf16 and int8; {0} needs --device cuda",
       name_of(precision));
}

void check_kernels([[maybe_unused]] const Graph& graph, [[maybe_unused]] const DeviceName& device) {
#ifdef OSPREY_HAS_CUDA
  if (device.cuda) check_cuda_kernels(graph);
#endif
}

std::unique_ptr<Executor> make_executor(const std::shared_ptr<const Graph>& graph, const DeviceName& device,
                                        std::string_view precision, const EngineOptions& options) {
  if (device.cuda) return make_cuda(graph, device, precision, options);
  if (precision == "fp16" || computes_in_f16(*graph))
    fail(ErrorCode::kUsage,
         "was built in {}, with layers in fp16, which the CPU does not compute in; build it again with "
         "--device cpu",
         precision);
  return make_cpu_executor(graph, {.threads = options.threads});
}

namespace {

class ExactReader final : public PhotoReader {
 public:
  ImageView read(const std::filesystem::path& file, std::size_t slot) override {
    return photos_[slot] = read_image(file);
  }

 private:
  std::map<std::size_t, Image> photos_;
};

#ifdef OSPREY_HAS_CUDA
class GpuReader final : public PhotoReader {
 public:
  explicit GpuReader(const DeviceName& device) : device_(enter(device)) {}

  ImageView read(const std::filesystem::path& file, std::size_t slot) override {
    enter(device_);
    const auto map = MappedFile::open(file);
    if (!gpu_decodes(map->bytes())) return exact_.read(file, slot);
    return in_context(file.string(), [&] { return decoder_.decode(map->bytes(), memory_[slot]); });
  }

 private:
  // The current device belongs to the calling thread.
  static DeviceName enter(const DeviceName& device) {
    cuda_check(cudaSetDevice(device.index), to_string(device));
    return device;
  }

  DeviceName device_;  // before what is made on it
  ExactReader exact_;
  GpuJpegDecoder decoder_;
  std::map<std::size_t, DeviceBuffer> memory_;
};
#endif

}  // namespace

std::unique_ptr<PhotoReader> exact_reader() { return std::make_unique<ExactReader>(); }

std::unique_ptr<PhotoReader> gpu_reader(const DeviceName& device) {
  if (!device.cuda) fail(ErrorCode::kUsage, "only an engine on a GPU can have its photos decoded there");
#ifdef OSPREY_HAS_CUDA
  return std::make_unique<GpuReader>(device);
#else
  fail(ErrorCode::kDevice, "this Osprey was built without CUDA");
#endif
}

CudaReport cuda_report() {
  CudaReport out;
#ifdef OSPREY_HAS_CUDA
  out.built = true;
  const CudaLibraries libraries = cuda_libraries();
  out.runtime = libraries.runtime;
  out.driver = libraries.driver;
  out.cudnn = libraries.cudnn;
  out.cublaslt = libraries.cublaslt;
  for (const CudaDevice& d : cuda_devices(&out.why_none))
    out.gpus.push_back({d.index, d.name, fmt::format("{}.{}", d.major, d.minor), d.memory});
#else
  out.why_none = "this Osprey was built without CUDA";
#endif
  return out;
}

std::string cuda_types([[maybe_unused]] const OpInfo& op) {
  std::string out;
#ifdef OSPREY_HAS_CUDA
  const auto& kernels = cuda_kernels();
  const auto it =
      std::find_if(kernels.begin(), kernels.end(), [&](const CudaKernel& k) { return k.op == &op; });
  if (it == kernels.end()) return out;
  for (const DType type : it->dtypes) out += (out.empty() ? "" : " ") + std::string(name_of(type));
  if (out.empty()) out = "any";
#endif
  return out;
}

double replay([[maybe_unused]] ExecutorSession& session, [[maybe_unused]] int replays) {
#ifdef OSPREY_HAS_CUDA
  if (auto* cuda = dynamic_cast<CudaSession*>(&session)) return cuda->replay(replays);
#endif
  fail(ErrorCode::kUsage, "only a GPU replays what it ran last");
}

bool start([[maybe_unused]] ExecutorSession& session, [[maybe_unused]] std::span<const ImageView> photos,
           [[maybe_unused]] const RunOptions& options) {
#ifdef OSPREY_HAS_CUDA
  if (auto* cuda = dynamic_cast<CudaSession*>(&session);
      cuda && !options.time_nodes && options.wanted.empty())
    return cuda->start(photos, options);
#endif
  return false;
}

RunTimes finish([[maybe_unused]] ExecutorSession& session) {
#ifdef OSPREY_HAS_CUDA
  if (auto* cuda = dynamic_cast<CudaSession*>(&session)) return cuda->finish();
#endif
  fail(ErrorCode::kInternal, "finish: runs on this device are one call");
}

}  // namespace osprey

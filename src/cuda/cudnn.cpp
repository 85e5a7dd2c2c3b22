#include "cuda/cudnn.h"

#include <map>
#include <mutex>
#include <set>
#include <unordered_map>

// libcudnn, libcuda and libnvrtc are opened at run time.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#include <cudnn_frontend.h>
#include <fmt/format.h>

#include "cuda/runtime_library.h"

void* cudnn_frontend::cudnn_dlhandle = nullptr;  // where cudnn-frontend looks its functions up

namespace osprey {
namespace {

namespace fe = cudnn_frontend;
using FeGraph = fe::graph::Graph;
using fe::graph::Pointwise_attributes;
using fe::graph::Tensor_attributes;
using FeTensor = std::shared_ptr<Tensor_attributes>;

constexpr std::int64_t kMostWorkspace = std::int64_t{256} << 20;

// Names of the tensors of a graph.
enum Uid : std::int64_t { kX = 1, kWeight, kBias, kResidual, kY };

void open_library() {
  static const bool opened = [] {
    fe::cudnn_dlhandle = RuntimeLibrary("cuDNN", fmt::format("libcudnn.so.{}", CUDNN_MAJOR)).handle();
    return true;
  }();
  static_cast<void>(opened);
}

void fe_check(fe::error_t status, std::string_view what) {
  if (status.is_good()) return;
  fail(ErrorCode::kDevice, "cuDNN: {} failed: {}", what, status.get_message());
}

// One handle for each device, kept until the process ends; a call is made with the handle's stream set, by
// one thread at a time.
class Handle {
 public:
  static Handle& of_device() {
    static std::mutex mutex;
    static std::map<int, std::unique_ptr<Handle>> handles;
    int device = 0;
    cuda_check(cudaGetDevice(&device), "cuDNN");
    const std::lock_guard lock(mutex);
    std::unique_ptr<Handle>& out = handles[device];
    if (!out) out.reset(new Handle);
    return *out;
  }

  template <class Body>
  auto with(Body&& body) {
    const std::lock_guard lock(mutex_);
    return body(handle_);
  }

 private:
  Handle() {
    open_library();
    if (const auto status = fe::detail::create_handle(&handle_); status != CUDNN_STATUS_SUCCESS)
      fail(ErrorCode::kDevice, "cuDNN does not start: {}", fe::detail::get_error_string(status));
  }

  std::mutex mutex_;
  cudnnHandle_t handle_ = nullptr;
};

fe::DataType_t fe_type(DType type) {
  switch (type) {
    case DType::kF16:
      return fe::DataType_t::HALF;
    case DType::kBF16:
      return fe::DataType_t::BFLOAT16;
    default:
      return fe::DataType_t::FLOAT;
  }
}

std::vector<std::int64_t> dims_of(const std::array<std::int64_t, 4>& dims) {
  return {dims.begin(), dims.end()};
}

// Of channels-last memory.
std::vector<std::int64_t> strides_of(const std::array<std::int64_t, 4>& dims) {
  return {dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1]};
}

Tensor_attributes tensor(const char* name, Uid uid, const std::array<std::int64_t, 4>& dims, DType type) {
  return Tensor_attributes()
      .set_name(name)
      .set_uid(uid)
      .set_dim(dims_of(dims))
      .set_stride(strides_of(dims))
      .set_data_type(fe_type(type));
}

Pointwise_attributes activation_of(Activation kind) {
  Pointwise_attributes out;
  switch (kind) {
    case Activation::kSigmoid:
      return out.set_mode(fe::PointwiseMode_t::SIGMOID_FWD);
    case Activation::kSwish:
      return out.set_mode(fe::PointwiseMode_t::SWISH_FWD).set_swish_beta(1.f);
    case Activation::kRelu6:
      return out.set_mode(fe::PointwiseMode_t::RELU_FWD).set_relu_upper_clip(6.f);
    default:
      return out.set_mode(fe::PointwiseMode_t::RELU_FWD);
  }
}

void describe(FeGraph& graph, const CudnnConv& c) {
  const auto shaped = [&](FeTensor value) {
    value->set_dim(dims_of(c.y)).set_stride(strides_of(c.y));
    return value;
  };
  const auto sum = [&](const FeTensor& a, const FeTensor& b) {
    return shaped(graph.pointwise(a, b, Pointwise_attributes().set_mode(fe::PointwiseMode_t::ADD)));
  };
  const FeTensor x = graph.tensor(tensor("x", kX, c.x, c.type));
  const FeTensor weight = graph.tensor(tensor("weight", kWeight, c.weight, c.type));
  FeTensor y = shaped(graph.conv_fprop(x, weight,
                                       fe::graph::Conv_fprop_attributes()
                                           .set_pre_padding({c.pads_before[0], c.pads_before[1]})
                                           .set_post_padding({c.pads_after[0], c.pads_after[1]})
                                           .set_stride({c.stride[0], c.stride[1]})
                                           .set_dilation({c.dilation[0], c.dilation[1]})));
  if (c.bias) y = sum(y, graph.tensor(tensor("bias", kBias, {1, c.y[1], 1, 1}, DType::kF32)));
  if (c.residual) y = sum(y, graph.tensor(tensor("residual", kResidual, c.y, c.out_type)));
  if (c.activation != Activation::kNone) y = shaped(graph.pointwise(y, activation_of(c.activation)));
  y->set_output(true).set_uid(kY).set_data_type(fe_type(c.out_type));
}

// Plans that a graph may have belong to it.
std::shared_ptr<FeGraph> new_graph() {
  auto graph = std::make_shared<FeGraph>();
  // A session keeps its plans for as long as its CUDA graph.
  graph->set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE);
  return graph;
}

std::shared_ptr<FeGraph> described(const CudnnConv& conv) {
  std::shared_ptr<FeGraph> graph = new_graph();
  graph->set_io_data_type(fe_type(conv.type))
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  describe(*graph, conv);
  fe_check(graph->validate(), conv.key());
  return graph;
}

// One plan of those that a graph may have, to be found again.
struct PlanConfig {
  std::int64_t engine = 0;
  std::unordered_map<fe::KnobType_t, std::int64_t> knobs;
};

class CudnnCall final : public MatrixCall {
 public:
  CudnnCall(const CudnnConv& conv, std::shared_ptr<FeGraph> graph, std::int64_t plan, std::string name)
      : bias_(conv.bias),
        residual_(conv.residual),
        graph_(std::move(graph)),
        plan_(plan),
        name_(std::move(name)) {
    std::int64_t bytes = 0;
    fe_check(graph_->get_workspace_size_plan_at_index(plan_, bytes), name_);
    workspace_ = static_cast<std::size_t>(bytes);
  }

  void run(const MatrixOperands& o, std::byte* workspace, cudaStream_t stream) const override {
    std::unordered_map<std::int64_t, void*> pointers{
        {kX, const_cast<void*>(o.x)}, {kWeight, const_cast<void*>(o.weight)}, {kY, o.y}};
    if (bias_) pointers[kBias] = const_cast<void*>(o.bias);
    if (residual_) pointers[kResidual] = const_cast<void*>(o.residual);
    Handle::of_device().with([&](cudnnHandle_t handle) {
      if (const auto status = fe::detail::set_stream(handle, stream); status != CUDNN_STATUS_SUCCESS)
        fail(ErrorCode::kDevice, "cuDNN: {}", fe::detail::get_error_string(status));
      fe_check(graph_->execute_plan_at_index(handle, pointers, workspace, plan_), name_);
    });
  }
  std::size_t workspace() const override { return workspace_; }
  std::string name() const override { return name_; }
  std::string saved() const override {
    std::vector<std::uint8_t> bytes;
    // What was built last is serialized: once built, building again only says which.
    if (graph_->build_plan_at_index(plan_).is_bad() || graph_->serialize(bytes, false).is_bad()) return "";
    return {bytes.begin(), bytes.end()};
  }

 private:
  bool bias_, residual_;
  std::shared_ptr<FeGraph> graph_;
  std::int64_t plan_;
  std::size_t workspace_ = 0;
  std::string name_;
};

// Engines that may not run: those that give other results each time, and in f32 those that round more than
// sums in f32 must.
std::vector<fe::NumericalNote_t> refused_notes(const CudnnConv& conv) {
  using Note = fe::NumericalNote_t;
  std::vector<Note> out{Note::NONDETERMINISTIC};
  if (conv.type == DType::kF32)
    out.insert(out.end(), {Note::FFT, Note::WINOGRAD, Note::WINOGRAD_TILE_4x4, Note::WINOGRAD_TILE_6x6,
                           Note::WINOGRAD_TILE_13x13});
  else
    out.push_back(Note::REDUCED_PRECISION_REDUCTION);
  if (conv.type == DType::kF32 && !conv.tf32)
    out.insert(out.end(), {Note::TENSOR_CORE, Note::DOWN_CONVERT_INPUTS, Note::REDUCED_PRECISION_REDUCTION});
  return out;
}

std::string text_of(const std::array<std::int64_t, 4>& dims) {
  return fmt::format("{}", fmt::join(dims, "x"));
}

void refuse_plans(FeGraph& graph, const CudnnConv& conv) {
  graph.deselect_numeric_notes(refused_notes(conv));
  graph.deselect_workspace_greater_than(kMostWorkspace);
}

// Graphs of their own, since plans of one graph cannot be built by several threads at once.
std::unique_ptr<MatrixCall> planned(const CudnnConv& conv, const PlanConfig& config,
                                    const std::string& name) {
  const std::shared_ptr<FeGraph> graph = described(conv);
  const bool made = Handle::of_device().with([&](cudnnHandle_t handle) {
    return graph->build_operation_graph(handle).is_good() &&
           graph->create_execution_plan(config.engine, config.knobs).is_good();
  });
  if (!made) return nullptr;
  refuse_plans(*graph, conv);
  if (graph->build_plan_at_index(0).is_bad()) return nullptr;
  return std::make_unique<CudnnCall>(conv, graph, 0, name);
}

// cudnn-frontend throws where a function is missing from a library.
template <class Body>
auto as_device_errors(Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail(ErrorCode::kDevice, "cuDNN: {}", e.what());
  }
}

}  // namespace

std::string CudnnConv::key() const {
  return fmt::format("conv {}>{} {} by {} stride {} dilation {} pads {},{}{}{}{} {}", name_of(type),
                     name_of(out_type), text_of(x), text_of(weight), fmt::join(stride, ","),
                     fmt::join(dilation, ","), fmt::join(pads_before, ","), fmt::join(pads_after, ","),
                     bias ? " bias" : "", residual ? " residual" : "",
                     tf32 && type == DType::kF32 ? " tf32" : "",
                     kActivationNames[static_cast<std::size_t>(activation)]);
}

std::vector<MatrixWay> cudnn_ways(const CudnnConv& conv) {
  return as_device_errors([&] {
    open_library();
    const std::shared_ptr<FeGraph> graph = described(conv);
    std::vector<MatrixWay> out;
    Handle::of_device().with([&](cudnnHandle_t handle) {
      if (graph->build_operation_graph(handle).is_bad()) return;
      // Either list may be empty. In f32 all of the first one may round to tf32.
      (void)graph->create_execution_plans({fe::HeurMode_t::A});
      if (graph->get_execution_plan_count() == 0 || conv.type == DType::kF32)
        (void)graph->create_execution_plans({fe::HeurMode_t::FALLBACK});
    });
    std::set<std::string> seen;
    for (std::int64_t i = 0; i < graph->get_execution_plan_count(); ++i) {
      std::string name;
      PlanConfig config;
      if (graph->get_plan_name_at_index(i, name).is_bad() || !seen.insert(name).second ||
          graph->get_engine_and_knobs_at_index(i, config.engine, config.knobs).is_bad())
        continue;
      name.insert(0, "cudnn ");
      out.push_back({name, [conv, config, name] {
                       return as_device_errors([&] { return planned(conv, config, name); });
                     }});
    }
    return out;
  });
}

std::unique_ptr<MatrixCall> restored_cudnn_call(const CudnnConv& conv, const TunedChoice& choice) {
  return as_device_errors([&]() -> std::unique_ptr<MatrixCall> {
    open_library();
    const std::shared_ptr<FeGraph> graph = new_graph();
    const std::vector<std::uint8_t> bytes(choice.saved.begin(), choice.saved.end());
    try {
      const fe::error_t restored = Handle::of_device().with([&](cudnnHandle_t handle) {
        return graph->deserialize(handle, bytes, /*enforce_precompiled=*/false, /*run_warmup=*/false);
      });
      if (restored.is_bad()) return nullptr;
    } catch (const nlohmann::json::exception&) {  // damaged
      return nullptr;
    }
    return std::make_unique<CudnnCall>(conv, graph, 0, choice.name);
  });
}

std::size_t cudnn_version() {
  try {
    open_library();
    return fe::detail::get_backend_version();
  } catch (const std::exception&) {
    return 0;
  }
}

}  // namespace osprey

#include "cuda/gemm.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include <cublasLt.h>
#include <fmt/format.h>

#include "cuda/matrix_kernels.h"
#include "cuda/runtime_library.h"

namespace osprey {
namespace {

constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr int kMostWays = 16;

class Api {
 public:
  Api() : library_("cuBLAS", fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR)) {
    library_.bind(create, "cublasLtCreate");
    library_.bind(version, "cublasLtGetVersion");
    library_.bind(create_operation, "cublasLtMatmulDescCreate");
    library_.bind(destroy_operation, "cublasLtMatmulDescDestroy");
    library_.bind(set_operation, "cublasLtMatmulDescSetAttribute");
    library_.bind(create_layout, "cublasLtMatrixLayoutCreate");
    library_.bind(destroy_layout, "cublasLtMatrixLayoutDestroy");
    library_.bind(create_preference, "cublasLtMatmulPreferenceCreate");
    library_.bind(destroy_preference, "cublasLtMatmulPreferenceDestroy");
    library_.bind(set_preference, "cublasLtMatmulPreferenceSetAttribute");
    library_.bind(set_layout, "cublasLtMatrixLayoutSetAttribute");
    library_.bind(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    library_.bind(check_algorithm, "cublasLtMatmulAlgoCheck");
    library_.bind(get_config, "cublasLtMatmulAlgoConfigGetAttribute");
    library_.bind(multiply, "cublasLtMatmul");
  }

  decltype(&cublasLtCreate) create;
  decltype(&cublasLtGetVersion) version;
  decltype(&cublasLtMatmulDescCreate) create_operation;
  decltype(&cublasLtMatmulDescDestroy) destroy_operation;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation;
  decltype(&cublasLtMatrixLayoutCreate) create_layout;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference;
  decltype(&cublasLtMatrixLayoutSetAttribute) set_layout;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmulAlgoCheck) check_algorithm;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) get_config;
  decltype(&cublasLtMatmul) multiply;

 private:
  RuntimeLibrary library_;
};

const Api& api() {
  static const Api api;
  return api;
}

void lt_check(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(ErrorCode::kDevice, "cuBLASLt: {} failed with status {}", what, static_cast<int>(status));
}

// One for each device, kept until the process ends.
cublasLtHandle_t handle() {
  static std::mutex mutex;
  static std::map<int, cublasLtHandle_t> handles;
  int device = 0;
  cuda_check(cudaGetDevice(&device), "cuBLASLt");
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& out = handles[device];
  if (!out) lt_check(api().create(&out), "creating a handle");
  return out;
}

cudaDataType_t lt_type(DType type) {
  switch (type) {
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

struct Operation {
  explicit Operation(const Gemm& gemm) {
    const cublasComputeType_t compute =
        gemm.tf32 && gemm.type == DType::kF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    lt_check(api().create_operation(&get, compute, CUDA_R_32F), "describing a product");
  }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  ~Operation() { api().destroy_operation(get); }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    lt_check(api().set_operation(get, attribute, &value, sizeof value), "describing a product");
  }

  cublasLtMatmulDesc_t get = nullptr;
};

// Matrices in C order are transposed ones to cuBLASLt, whose columns lie together. `count` of them, each
// `step` elements behind the one before it.
struct Layout {
  Layout(DType type, std::int64_t rows, std::int64_t columns, std::int64_t count, std::int64_t step) {
    lt_check(api().create_layout(&get, lt_type(type), static_cast<std::uint64_t>(columns),
                                 static_cast<std::uint64_t>(rows), columns),
             "describing a matrix");
    if (count == 1) return;
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(count));
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
  }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  ~Layout() { api().destroy_layout(get); }

  template <class T>
  void set(cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
    lt_check(api().set_layout(get, attribute, &value, sizeof value), "describing a matrix");
  }

  cublasLtMatrixLayout_t get = nullptr;
};

struct Preference {
  explicit Preference(const Gemm& gemm) {
    lt_check(api().create_preference(&get), "stating preferences");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
    // Parts of a sum stay f32 until they are one: others would be added up in the result's type.
    if (gemm.out_type != DType::kF32)
      set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  ~Preference() { api().destroy_preference(get); }

  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    lt_check(api().set_preference(get, attribute, &value, sizeof value), "stating preferences");
  }

  cublasLtMatmulPreference_t get = nullptr;
};

cublasLtEpilogue_t epilogue_of(const Gemm& gemm) {
  if (gemm.activation == Activation::kRelu)
    return gemm.bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
  return gemm.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

std::string name_of(const cublasLtMatmulAlgo_t& algo) {
  static constexpr std::array<std::pair<const char*, cublasLtMatmulAlgoConfigAttributes_t>, 9> kParts{
      {{"alg", CUBLASLT_ALGO_CONFIG_ID},
       {"tile", CUBLASLT_ALGO_CONFIG_TILE_ID},
       {"stages", CUBLASLT_ALGO_CONFIG_STAGES_ID},
       {"split", CUBLASLT_ALGO_CONFIG_SPLITK_NUM},
       {"sum", CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME},
       {"swizzle", CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING},
       {"custom", CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION},
       {"inner", CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID},
       {"cluster", CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID}}};
  std::string out = "cublaslt";
  for (const auto& [label, attribute] : kParts) {
    // Some of these are two bytes wide, most four.
    std::uint32_t value = 0;
    std::size_t written = 0;
    if (api().get_config(&algo, attribute, &value, sizeof value, &written) != CUBLAS_STATUS_SUCCESS) {
      std::uint16_t narrow = 0;
      if (api().get_config(&algo, attribute, &narrow, sizeof narrow, &written) != CUBLAS_STATUS_SUCCESS)
        continue;
      value = narrow;
    }
    out += fmt::format(" {}{}", label, value);
  }
  return out;
}

// A product as cuBLASLt knows it. Of m x n = outputs x rows: A is the weight, transposed, and B is x.
struct Problem {
  explicit Problem(const Gemm& of)
      : gemm(of),
        operation(of),
        a(of.type, of.outputs, of.inputs, of.products, of.own_weights ? of.outputs * of.inputs : 0),
        b(of.type, of.rows / of.products, of.inputs, of.products, of.rows / of.products * of.inputs),
        d(of.out_type, of.rows / of.products, of.outputs, of.products, of.rows / of.products * of.outputs) {
    operation.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    operation.set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(gemm));
    if (gemm.bias) {
      const void* bias = gemm.bias->data();
      operation.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
  }

  const Gemm gemm;
  Operation operation;
  Layout a, b, d;
};

class GemmCall final : public MatrixCall {
 public:
  GemmCall(const Gemm& gemm, const cublasLtMatmulAlgo_t& algo, std::size_t workspace, std::string name)
      : problem_(gemm), algo_(algo), workspace_(workspace), name_(std::move(name)) {}

  void run(const MatrixOperands& o, std::byte* workspace, cudaStream_t stream) const override {
    const Gemm& gemm = problem_.gemm;
    const float one = 1, beta = gemm.residual ? 1.f : 0.f;
    lt_check(api().multiply(handle(), problem_.operation.get, &one, o.weight, problem_.a.get, o.x,
                            problem_.b.get, &beta, gemm.residual ? o.residual : o.y, problem_.d.get, o.y,
                            problem_.d.get, &algo_, workspace, workspace_, stream),
             name_);
    if (gemm.activation != Activation::kNone && gemm.activation != Activation::kRelu)
      launch_epilogue({.rows = gemm.rows, .channels = gemm.outputs, .activation = gemm.activation},
                      gemm.out_type, o.y, nullptr, nullptr, stream);
  }
  std::size_t workspace() const override { return workspace_; }
  std::string name() const override { return name_; }

  // Null where the algorithm takes one product alone.
  std::unique_ptr<GemmCall> repeated(std::int64_t products, bool own_weights) const {
    Gemm gemm = problem_.gemm;
    gemm.own_weights = own_weights;
    gemm.rows *= products;
    gemm.products *= products;
    const Problem problem(gemm);
    cublasLtMatmulHeuristicResult_t found{};
    if (api().check_algorithm(handle(), problem.operation.get, problem.a.get, problem.b.get, problem.d.get,
                              problem.d.get, &algo_, &found) != CUBLAS_STATUS_SUCCESS)
      return nullptr;
    return std::make_unique<GemmCall>(gemm, algo_, found.workspaceSize, name_);
  }

 private:
  Problem problem_;
  cublasLtMatmulAlgo_t algo_;
  std::size_t workspace_;
  std::string name_;
};

}  // namespace

std::string Gemm::key() const {
  return fmt::format("gemm {}>{} {}x{}x{}{}{}{}{} {}", osprey::name_of(type), osprey::name_of(out_type), rows,
                     inputs, outputs, bias ? " bias" : "", residual ? " residual" : "",
                     tf32 && type == DType::kF32 ? " tf32" : "", own_weights ? " own weights" : "",
                     kActivationNames[static_cast<std::size_t>(activation)]);
}

std::vector<MatrixWay> gemm_ways(const Gemm& gemm) {
  const Problem problem(gemm);
  std::array<cublasLtMatmulHeuristicResult_t, kMostWays> found{};
  int count = 0;
  const Preference preference(gemm);
  const cublasStatus_t status =
      api().heuristic(handle(), problem.operation.get, problem.a.get, problem.b.get, problem.d.get,
                      problem.d.get, preference.get, kMostWays, found.data(), &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED)
    count = 0;
  else
    lt_check(status, "asking the heuristics");
  std::vector<MatrixWay> out;
  for (int i = 0; i < count; ++i) {
    const auto& result = found[static_cast<std::size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS) continue;
    std::string name = name_of(result.algo);
    out.push_back({name, [gemm, result, name] {
                     return std::make_unique<GemmCall>(gemm, result.algo, result.workspaceSize, name);
                   }});
  }
  return out;
}

std::unique_ptr<MatrixCall> gemm_for_photos(const MatrixCall& one, std::int64_t photos, bool own_weights) {
  const auto* const call = dynamic_cast<const GemmCall*>(&one);
  return call ? call->repeated(photos, own_weights) : nullptr;
}

std::unique_ptr<MatrixCall> fastest_gemm(CudaPrepare& p, const Gemm& gemm, const void* weight) {
  const std::int64_t photos = gemm.own_weights ? gemm.products : photos_of(p);
  const auto search = [&](const Gemm& g, const void* weights) {
    return MatrixSearch{.key = g.key(),
                        .ways = [g] { return gemm_ways(g); },
                        .type = g.type,
                        .out_type = g.out_type,
                        .x_count = g.rows * g.inputs,
                        .y_count = g.rows * g.outputs,
                        .constants = {.weight = weights},
                        .residual = g.residual};
  };
  DeviceBuffer own;  // to measure with
  if (gemm.own_weights && photos > 1) {
    const std::int64_t count = photos * gemm.inputs * gemm.outputs;
    own = DeviceBuffer(static_cast<std::size_t>(count) * size_of(gemm.type));
    fill_random(own.data(), gemm.type, count, p.stream());
  }
  MatrixSearch all = search(gemm, own.size() > 0 ? own.data() : weight);
  all.photos = photos;
  all.weight_step = own.size() / static_cast<std::size_t>(std::max<std::int64_t>(photos, 1));
  all.alone = [&] {
    Gemm alone = gemm;
    alone.rows /= photos;
    alone.products = 1;
    alone.own_weights = false;
    return search(alone, weight);
  };
  all.together = [&gemm, photos](const MatrixCall& one) {
    return gemm_for_photos(one, photos, gemm.own_weights);
  };
  if (photos > 1) all.key += fmt::format(" for {} photos", photos);
  auto call = fastest_call(p, all);
  if (!call) fail(ErrorCode::kDevice, "{}: cuBLASLt has nothing for {}", p.node().name, gemm.key());
  return call;
}

std::size_t cublaslt_version() {
  try {
    return api().version();
  } catch (const Error&) {
    return 0;
  }
}

}  // namespace osprey

#include "cuda/libraries.h"

#include <cstddef>

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fmt/format.h>

namespace osprey {
namespace {

std::string cuda_version(int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); }

// What `function` of a shared library returns; 0 when there is no such library. It stays loaded: the executor
// needs it anyway.
std::size_t version_from(const std::string& library, const char* function) {
  void* const handle = dlopen(library.c_str(), RTLD_LAZY | RTLD_LOCAL);
  auto* const version = handle ? reinterpret_cast<std::size_t (*)()>(dlsym(handle, function)) : nullptr;
  return version ? version() : 0;
}

// 91900 is 9.19.0.
std::string library_version(std::size_t number) {
  if (number == 0) return "";
  return fmt::format("{}.{}.{}", number / 10000, number % 10000 / 100, number % 100);
}

}  // namespace

CudaLibraries cuda_libraries() {
  CudaLibraries out{.runtime = cuda_version(CUDART_VERSION)};
  int driver = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0) out.driver = cuda_version(driver);
  cudaGetLastError();
  out.cudnn = library_version(version_from("libcudnn.so.9", "cudnnGetVersion"));
  out.cublaslt = library_version(
      version_from(fmt::format("libcublasLt.so.{}", CUDART_VERSION / 1000), "cublasLtGetVersion"));
  return out;
}

}  // namespace osprey

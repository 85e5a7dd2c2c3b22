#include "cuda/runtime_library.h"

#include <dlfcn.h>

#include "core/error.h"

namespace osprey {

RuntimeLibrary::RuntimeLibrary(std::string what, std::string file)
    : what_(std::move(what)), file_(std::move(file)), handle_(dlopen(file_.c_str(), RTLD_NOW)) {
  if (handle_) return;
  const char* why = dlerror();
  fail(ErrorCode::kDevice, "{} cannot be loaded ({}); install it, or add its folder to LD_LIBRARY_PATH",
       what_, why ? why : file_);
}

void* RuntimeLibrary::symbol(const char* name) const {
  void* found = dlsym(handle_, name);
  if (!found) fail(ErrorCode::kDevice, "{}: {} lacks {}; its version does not fit", what_, file_, name);
  return found;
}

}  // namespace osprey

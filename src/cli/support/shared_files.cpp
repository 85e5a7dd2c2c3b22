#include "cli/support/shared_files.h"

#include "core/error.h"

namespace osprey {

namespace fs = std::filesystem;

fs::path shared_folder(const std::string& name, const std::string& source, const std::string& file) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  for (const fs::path& folder :
       {self.parent_path() / "../share/osprey" / name, fs::path(OSPREY_SOURCE_DIR) / source})
    if (fs::exists(folder / file)) return folder.lexically_normal();
  fail(ErrorCode::kInternal,
       "{} is neither in share/osprey/{} beside the command nor in its source tree's {}", file, name, source);
}

}  // namespace osprey

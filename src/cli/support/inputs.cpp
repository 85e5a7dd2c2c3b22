#include "cli/support/inputs.h"

#include <algorithm>

#include <glob.h>

#include "core/error.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;

bool is_image_name(const fs::path& file) {
  std::string extension = file.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".bmp";
}

void add_folder(const fs::path& folder, std::vector<fs::path>& out) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && is_image_name(entry.path())) found.push_back(entry.path());
  require(!found.empty(), "{}: has no image in it (jpg, png or bmp)", folder.string());
  std::sort(found.begin(), found.end());
  out.insert(out.end(), found.begin(), found.end());
}

void add_glob(const std::string& pattern, std::vector<fs::path>& out) {
  glob_t matches{};
  const int status = ::glob(pattern.c_str(), 0, nullptr, &matches);
  const std::vector<fs::path> found(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  ::globfree(&matches);
  require(status == 0 && !found.empty(), "{}: no such file or folder, and no file matches it", pattern);
  out.insert(out.end(), found.begin(), found.end());
}

}  // namespace

std::vector<fs::path> find_images(const std::vector<std::string>& inputs) {
  std::vector<fs::path> out;
  for (const std::string& input : inputs) {
    if (fs::is_directory(input))
      add_folder(input, out);
    else if (fs::exists(input))
      out.emplace_back(input);
    else
      add_glob(input, out);
  }
  return out;
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder))
    fail(ErrorCode::kInternal, "{}: cannot make this folder: {}", folder.string(), error.message());
}

}  // namespace osprey

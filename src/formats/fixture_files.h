// Where the real files of the frameworks are, and how their cases are unpacked, for tests.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include <unistd.h>

namespace osprey {

namespace fs = std::filesystem;

inline fs::path fixtures() {
  if (const char* root = std::getenv("OSPREY_FIXTURES")) return root;
  return fs::path(OSPREY_SOURCE_DIR) / ".." / "shared" / "fixtures";
}

// Whether an archive of .tar.xz could be unpacked.
inline bool unpack(const fs::path& archive, const fs::path& folder) {
  const std::string command = "tar -xJf '" + archive.string() + "' -C '" + folder.string() + "'";
  return std::system(command.c_str()) == 0;
}

// A case's unpacked checkpoint.tar.xz, removed with this object.
class Unpacked {
 public:
  explicit Unpacked(const std::string& name) {
    const fs::path archive = fixtures() / name / "checkpoint.tar.xz";
    if (!fs::exists(archive)) return;
    std::string folder = (fs::temp_directory_path() / "osprey_fixture_XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) return;
    path_ = folder;
    ok_ = unpack(archive, folder);
  }
  ~Unpacked() {
    if (!path_.empty()) fs::remove_all(path_);
  }
  Unpacked(const Unpacked&) = delete;
  Unpacked& operator=(const Unpacked&) = delete;

  bool ok() const { return ok_; }
  fs::path file(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
  bool ok_ = false;
};

}  // namespace osprey

#include "core/file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace osprey {
namespace {

std::string reason() { return std::strerror(errno); }

// A file descriptor that closes itself.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

void write_all(int fd, Bytes bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(ErrorCode::kInternal, "{}: cannot write: {}", path.string(), reason());
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& file) {
  const Descriptor d{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  require(d.fd >= 0, "{}: cannot open: {}", file.string(), reason());
  struct stat info {};
  require(::fstat(d.fd, &info) == 0, "{}: cannot stat: {}", file.string(), reason());
  require(S_ISREG(info.st_mode), "{}: is not a regular file", file.string());

  std::shared_ptr<MappedFile> out(new MappedFile);
  out->path_ = file;
  out->size_ = static_cast<std::size_t>(info.st_size);
  if (out->size_ == 0) return out;
  void* map = ::mmap(nullptr, out->size_, PROT_READ, MAP_PRIVATE, d.fd, 0);
  require(map != MAP_FAILED, "{}: cannot map {} bytes: {}", file.string(), out->size_, reason());
  out->data_ = static_cast<const std::byte*>(map);
  return out;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_text(const std::filesystem::path& file, std::size_t limit) {
  const auto map = MappedFile::open(file);
  require(map->bytes().size() <= limit, "{}: {} bytes are more than the {} that are read here", file.string(),
          map->bytes().size(), limit);
  return std::string(as_text(map->bytes()));
}

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
  std::string name = target_.string() + ".XXXXXX";
  fd_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) fail(ErrorCode::kInternal, "{}: cannot create a file there: {}", target_.string(), reason());
  temporary_ = name;
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(Bytes bytes) {
  write_all(fd_, bytes, target_);
  offset_ += bytes.size();
}

void AtomicFile::write_at(std::uint64_t offset, Bytes bytes) {
  const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (n != static_cast<ssize_t>(bytes.size()))
    fail(ErrorCode::kInternal, "{}: cannot write: {}", target_.string(), reason());
}

void AtomicFile::commit() {
  // mkstemp makes files private; what a user writes gets the permissions of any other new file.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  const bool ok = ::fchmod(fd_, 0666 & ~mask) == 0 && ::fsync(fd_) == 0 &&
                  ::rename(temporary_.c_str(), target_.c_str()) == 0;
  if (!ok) fail(ErrorCode::kInternal, "{}: cannot write: {}", target_.string(), reason());
  ::close(fd_);
  fd_ = -1;
}

void write_file(const std::filesystem::path& file, std::string_view text) {
  AtomicFile out(file);
  out.write(text);
  out.commit();
}

}  // namespace osprey

// Memory on large pages where the system gives them (transparent huge pages): an arena of hundreds of
// megabytes otherwise spends a tenth of a second in page faults, and weights that are read once a run miss
// the translation buffers at every small page.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace osprey {

// One piece of memory.
class PageBuffer {
 public:
  // Holds at least that many bytes; what was there is lost when it has to grow. An Error where there are not
  // so many: it then holds none.
  void reserve(std::size_t bytes);
  std::byte* data() const { return memory_.get(); }
  std::size_t size() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t bytes_ = 0;
};

// Many pieces side by side, given back all at once. Threads may take at the same time.
class PagePool {
 public:
  // 64-byte aligned.
  std::byte* take(std::size_t bytes);

 private:
  std::mutex mutex_;
  std::vector<PageBuffer> chunks_;
  std::size_t used_ = 0;  // of the last chunk
};

}  // namespace osprey

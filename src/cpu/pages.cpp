#include "cpu/pages.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <sys/mman.h>

#include "core/error.h"

namespace osprey {
namespace {

constexpr std::size_t kLargePage = std::size_t{2} << 20;
// Addresses, not memory: pages of a chunk that nobody has written to are not there.
constexpr std::size_t kChunk = std::size_t{64} << 20;

std::size_t rounded_up(std::size_t bytes, std::size_t multiple) {
  return (bytes + multiple - 1) / multiple * multiple;
}

}  // namespace

void PageBuffer::Free::operator()(std::byte* p) const { std::free(p); }

void PageBuffer::reserve(std::size_t bytes) {
  if (bytes <= bytes_) return;
  memory_.reset();
  bytes_ = 0;
  bytes = rounded_up(bytes, kLargePage);
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kLargePage, bytes));
  if (!memory)
    fail(ErrorCode::kDevice, "the CPU executor needs {} MiB of memory, which are not there", bytes >> 20);
  memory_.reset(memory);
  bytes_ = bytes;
  madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: small pages do as well
}

std::byte* PagePool::take(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes = rounded_up(bytes, 64);
  if (chunks_.empty() || chunks_.back().size() - used_ < bytes) {
    PageBuffer chunk;
    chunk.reserve(std::max(bytes, kChunk));
    chunks_.push_back(std::move(chunk));
    used_ = 0;
  }
  std::byte* out = chunks_.back().data() + used_;
  used_ += bytes;
  return out;
}

}  // namespace osprey

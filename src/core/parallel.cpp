#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace osprey {

namespace {

std::atomic<int> chosen_count{0};

}  // namespace

int thread_count() {
  const int chosen = chosen_count.load();
  return chosen > 0 ? chosen : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void set_thread_count(int count) { chosen_count.store(std::max(0, count)); }

void parallel_for(std::int64_t count, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t pieces = (count + grain - 1) / grain;
  if (pieces <= 0) return;

  std::atomic<std::int64_t> next{0};
  std::mutex mutex;
  std::int64_t failed_piece = pieces;
  std::exception_ptr failure;
  const auto work = [&] {
    for (std::int64_t piece; (piece = next.fetch_add(1)) < pieces;) {
      try {
        body(piece * grain, std::min(count, (piece + 1) * grain));
      } catch (...) {
        next.store(pieces);  // every lower piece has been handed out already
        const std::lock_guard lock(mutex);
        if (piece < failed_piece) {
          failed_piece = piece;
          failure = std::current_exception();
        }
      }
    }
  };

  std::vector<std::jthread> helpers;
  const auto threads = std::min<std::int64_t>(thread_count(), pieces);
  for (std::int64_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  helpers.clear();  // joins
  if (failure) std::rethrow_exception(failure);
}

}  // namespace osprey

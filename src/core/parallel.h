// Loops over independent work on plain threads, for the code that must run without OpenMP (the evaluator, the
// readers of large files).
#pragma once

#include <cstdint>
#include <functional>

namespace osprey {

// How many threads parallel_for uses: what set_thread_count said, else what the machine offers. 0 resets.
int thread_count();
void set_thread_count(int count);

// Calls body(begin, end) for consecutive pieces of [0, count), each of at most `grain`, on several threads.
// Pieces are handed out in ascending order. Where pieces throw, the exception of the lowest one leaves,
// whatever the number of threads: an error message does not depend on timing.
void parallel_for(std::int64_t count, std::int64_t grain,
                  const std::function<void(std::int64_t begin, std::int64_t end)>& body);

}  // namespace osprey

// A progress bar on stderr: shown once a job has taken half a second, with the time that is left.
#pragma once

#include <chrono>
#include <string>

namespace osprey {

class ProgressBar {
 public:
  // `shown` false: nothing is printed (--quiet). On a terminal the bar redraws in place; elsewhere a line
  // appears every ten seconds.
  explicit ProgressBar(bool shown);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // A fraction that falls begins another job, whose time is told from there.
  void update(double fraction, const std::string& what);

 private:
  using Clock = std::chrono::steady_clock;
  bool shown_, terminal_, drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_ = start_;  // of the job; of what was drawn
  double fraction_ = 0;
};

}  // namespace osprey

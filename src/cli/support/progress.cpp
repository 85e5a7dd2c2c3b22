#include "cli/support/progress.h"

#include <algorithm>
#include <cstdio>

#include <fmt/core.h>
#include <unistd.h>

namespace osprey {
namespace {

constexpr double kSilent = 0.5, kRedraw = 0.1, kLine = 10;  // seconds
constexpr int kWidth = 28;

std::string duration_text(double seconds) {
  const auto s = static_cast<long>(seconds + 0.5);
  return s < 60 ? fmt::format("{} s", s) : fmt::format("{} min {:02} s", s / 60, s % 60);
}

}  // namespace

ProgressBar::ProgressBar(bool shown) : shown_(shown), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (drawn_ && terminal_) fmt::print(stderr, "\r\033[K");
}

void ProgressBar::update(double fraction, const std::string& what) {
  if (!shown_) return;
  const auto now = Clock::now();
  fraction = std::clamp(fraction, 0.0, 1.0);
  if (fraction < fraction_) start_ = now;
  fraction_ = fraction;
  const double passed = std::chrono::duration<double>(now - start_).count();
  const double since = std::chrono::duration<double>(now - last_).count();
  if (passed < kSilent || since < (terminal_ ? kRedraw : kLine)) return;
  last_ = now;
  drawn_ = true;
  const std::string left = fraction > 0.01 ? ", " + duration_text(passed / fraction - passed) + " left" : "";
  if (!terminal_) {
    fmt::print(stderr, "{}: {:.0f} %{}\n", what, fraction * 100, left);
    return;
  }
  const int filled = static_cast<int>(fraction * kWidth);
  fmt::print(stderr, "\r\033[K{} [{:#<{}}{:.<{}}] {:.0f} %{}", what, "", filled, "", kWidth - filled,
             fraction * 100, left);
  std::fflush(stderr);
}

}  // namespace osprey

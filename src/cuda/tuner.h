// Chooses among implementations by measuring them, within a budget of seconds, and remembers what it chose in
// a file of the user's cache. The file's name holds the GPU and the libraries' versions, so that choices made
// elsewhere are simply not found. It only ever says which of several equivalent programs runs: losing it, or
// damage to it, costs another measurement.
//
// Thread-safe; processes that share the file add to each other's choices.
#pragma once

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cuda/kernel.h"

namespace osprey {

struct TunedChoice {
  std::string name;   // of the implementation
  std::string saved;  // what it is restored from sooner than from its name; may be empty
};

class CudaTuner {
 public:
  using Progress = std::function<void(double done, const std::string& what)>;

  // `folder` empty: $XDG_CACHE_HOME/osprey or ~/.cache/osprey.
  CudaTuner(const CudaDevice& device, double budget, std::filesystem::path folder, Progress progress);
  // For `machine`, which names a device and its libraries.
  CudaTuner(std::string machine, double budget, std::filesystem::path folder, Progress progress);

  // What is being made ready, and how much of all of it is done, for the reports of progress.
  void announce(double done, std::string layer);

  std::optional<TunedChoice> find(const std::string& key);

  // Seconds that implementation `i` takes, or none when it does not work.
  using Measure = std::function<std::optional<double>(std::size_t i)>;
  // The index of the fastest of `names`, which is remembered, or of what another process remembered
  // meanwhile; 0, and nothing is remembered, when the budget is spent before all were measured, unless those
  // that were allow a better guess, or when none works. A guess stays the same as long as this tuner has
  // nothing better.
  std::size_t choose(const std::string& key, const std::vector<std::string>& names, const Measure& measure);
  bool has_guess(const std::string& key);  // which wants to be among the names again

  void remember(const std::string& key, const std::string& name);
  void forget(const std::string& key);                           // a choice that turned out not to work
  void save(const std::string& key, const TunedChoice& choice);  // beside a choice that is remembered

  const std::filesystem::path& file() const { return file_; }
  double seconds_left() const { return paused_ == this ? 0 : std::max(budget_.load(), 0.0); }

  // What is measured outside of choose() is charged to the budget: the time that it lives.
  class Spending {
   public:
    explicit Spending(CudaTuner& tuner);
    Spending(const Spending&) = delete;
    Spending& operator=(const Spending&) = delete;
    ~Spending();

   private:
    CudaTuner& tuner_;
    double began_;
  };

  // While it lives choose() guesses on this thread, as if the budget were spent, and keeps no guess: the
  // layers are chosen for again.
  class Pause {
   public:
    explicit Pause(const CudaTuner& tuner) : before_(std::exchange(paused_, &tuner)) {}
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
    ~Pause() { paused_ = before_; }

   private:
    const CudaTuner* before_;
  };

 private:
  struct Entry {
    std::string name;
    double seconds = 0;  // 0: not measured
  };
  using Entries = std::map<std::string, Entry>;

  Entries read();
  void write(const std::string& key, const Entry* entry);
  std::filesystem::path saved_file(const std::string& key) const;
  void report(const std::string& what) const;
  std::size_t guess(const std::string& key, const std::vector<std::string>& names, std::size_t best);

  static inline thread_local const CudaTuner* paused_ = nullptr;  // since others may measure meanwhile

  std::string machine_;
  std::atomic<double> budget_;
  std::filesystem::path file_;
  Progress progress_;
  std::mutex mutex_;
  Entries entries_;
  std::map<std::string, std::string> settled_;  // guesses, by key
  double done_ = 0;
  std::string layer_;
  bool writable_ = true;
};

}  // namespace osprey

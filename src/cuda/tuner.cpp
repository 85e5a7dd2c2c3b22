#include "cuda/tuner.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <unistd.h>

#include "core/file.h"
#include "cuda/cudnn.h"
#include "cuda/gemm.h"

namespace osprey {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormat = 1;

fs::path default_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return fs::path(cache) / "osprey";
  if (const char* home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache" / "osprey";
  return {};
}

std::string file_stem(std::string machine) {
  for (char& c : machine)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.') c = '-';
  return "tuning-" + machine;
}

// FNV-1a: names of files that hold what was saved under a key, which they repeat inside.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// Held while the file is read, added to and replaced.
class FileLock {
 public:
  explicit FileLock(const fs::path& file) : fd_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (fd_ >= 0 && ::flock(fd_, LOCK_EX) != 0) {
      ::close(fd_);
      fd_ = -1;
    }
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  bool held() const { return fd_ >= 0; }

 private:
  int fd_;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string machine_of(const CudaDevice& device) {
  return fmt::format("{} driver {} cudnn {} cublaslt {}", device.name, device.driver, cudnn_version(),
                     cublaslt_version());
}

}  // namespace

CudaTuner::CudaTuner(const CudaDevice& device, double budget, fs::path folder, Progress progress)
    : CudaTuner(machine_of(device), budget, std::move(folder), std::move(progress)) {}

CudaTuner::CudaTuner(std::string machine, double budget, fs::path folder, Progress progress)
    : machine_(std::move(machine)), budget_(budget), progress_(std::move(progress)) {
  if (folder.empty()) folder = default_folder();
  writable_ = !folder.empty();
  if (!writable_) return;
  file_ = folder / (file_stem(machine_) + ".json");
  entries_ = read();
}

CudaTuner::Spending::Spending(CudaTuner& tuner) : tuner_(tuner), began_(now()) {}

CudaTuner::Spending::~Spending() { tuner_.budget_ -= now() - began_; }

void CudaTuner::report(const std::string& what) const {
  if (progress_) progress_(done_, what);
}

void CudaTuner::announce(double done, std::string layer) {
  const std::lock_guard lock(mutex_);
  done_ = done;
  layer_ = std::move(layer);
}

CudaTuner::Entries CudaTuner::read() {
  Entries out;
  if (!fs::exists(file_)) return out;
  try {
    const json root = json::parse(read_text(file_));
    if (root.at("format") != kFormat || root.at("machine") != machine_) return out;
    for (const auto& [key, value] : root.at("choices").items())
      out[key] = {value.at("name").get<std::string>(), value.at("seconds").get<double>()};
  } catch (const std::exception& e) {
    report(fmt::format("warning: {} is damaged and begun anew ({})", file_.string(), e.what()));
    out.clear();
  }
  return out;
}

// Adds to what other processes wrote meanwhile. Where they chose for the same key, theirs stays, so that a
// choice once written does not change.
void CudaTuner::write(const std::string& key, const Entry* entry) {
  if (!writable_) return;
  try {
    fs::create_directories(file_.parent_path());
    const FileLock lock(fs::path(file_) += ".lock");
    if (!lock.held()) fail(ErrorCode::kBadInput, "{}.lock cannot be locked", file_.string());
    Entries all = read();
    if (entry)
      all.emplace(key, *entry);
    else
      all.erase(key);
    json choices = json::object();
    for (const auto& [k, v] : all) choices[k] = {{"name", v.name}, {"seconds", v.seconds}};
    const json root{{"format", kFormat}, {"machine", machine_}, {"choices", std::move(choices)}};
    write_file(file_, root.dump(1) + "\n");
    entries_ = std::move(all);
  } catch (const std::exception& e) {
    writable_ = false;  // said once
    report(fmt::format("warning: tuning is not remembered: {}", e.what()));
  }
}

fs::path CudaTuner::saved_file(const std::string& key) const {
  return file_.parent_path() / file_.stem() / fmt::format("{:016x}.plan", hash_of(key));
}

std::optional<TunedChoice> CudaTuner::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto it = entries_.find(key);
  if (it == entries_.end()) return std::nullopt;
  TunedChoice out{it->second.name, ""};
  const fs::path saved = saved_file(key);
  const std::string head = fmt::format("{}\n{}\n", key, out.name);
  try {
    std::error_code none;
    if (!fs::exists(saved, none)) return out;
    std::string text = read_text(saved);
    if (text.starts_with(head)) out.saved = text.substr(head.size());
  } catch (const Error&) {  // unreadable: it is made again from its name
  }
  return out;
}

std::size_t CudaTuner::choose(const std::string& key, const std::vector<std::string>& names,
                              const Measure& measure) {
  const std::lock_guard lock(mutex_);
  std::size_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  const double began = now();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (seconds_left() - (now() - began) <= 0) return guess(key, names, best);
    report(fmt::format("{}: {}", layer_.empty() ? key : layer_, names[i]));
    const std::optional<double> seconds = measure(i);
    if (!seconds || *seconds >= least) continue;
    least = *seconds;
    best = i;
  }
  budget_ -= now() - began;
  if (!std::isfinite(least)) return best;
  const Entry entry{names[best], least};
  entries_[key] = entry;
  write(key, &entry);
  // From now on find() gives what the file has.
  const auto kept = std::find(names.begin(), names.end(), entries_[key].name);
  if (kept != names.end()) return static_cast<std::size_t>(kept - names.begin());
  entries_[key] = entry;
  return best;
}

// What was guessed once, where that is among them; else the best so far.
std::size_t CudaTuner::guess(const std::string& key, const std::vector<std::string>& names,
                             std::size_t best) {
  if (paused_ != this) {
    budget_ = 0;
    settled_.emplace(key, names[best]);
  }
  const auto known = settled_.find(key);
  if (known == settled_.end()) return best;
  const auto it = std::find(names.begin(), names.end(), known->second);
  return it == names.end() ? best : static_cast<std::size_t>(it - names.begin());
}

bool CudaTuner::has_guess(const std::string& key) {
  const std::lock_guard lock(mutex_);
  return settled_.contains(key);
}

void CudaTuner::remember(const std::string& key, const std::string& name) {
  const std::lock_guard lock(mutex_);
  const Entry entry{name, 0};
  entries_[key] = entry;
  write(key, &entry);
}

void CudaTuner::forget(const std::string& key) {
  const std::lock_guard lock(mutex_);
  entries_.erase(key);
  write(key, nullptr);
}

void CudaTuner::save(const std::string& key, const TunedChoice& choice) {
  const std::lock_guard lock(mutex_);
  const auto it = entries_.find(key);
  if (choice.saved.empty() || !writable_ || it == entries_.end() || it->second.name != choice.name) return;
  try {
    const fs::path file = saved_file(key);
    fs::create_directories(file.parent_path());
    const FileLock lock_file(fs::path(file_) += ".lock");
    write_file(file, fmt::format("{}\n{}\n", key, choice.name) + choice.saved);
  } catch (const std::exception& e) {
    writable_ = false;
    report(fmt::format("warning: tuning is not remembered: {}", e.what()));
  }
}

}  // namespace osprey

#include "cli/support/original.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/support/shared_files.h"
#include "core/error.h"
#include "core/file.h"

extern char** environ;  // NOLINT: POSIX's name

namespace osprey {
namespace {

namespace fs = std::filesystem;

// Of detect.py.
constexpr int kNotInstalled = 3;

// A folder of our own that is gone afterwards.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (fs::temp_directory_path() / "osprey_XXXXXX").string();
    if (!::mkdtemp(pattern.data())) fail(ErrorCode::kInternal, "cannot make a temporary folder {}", pattern);
    path_ = pattern;
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

struct Child {
  pid_t pid = -1;
  int out = -1;  // its standard output
};

// Starts a program with standard output to a pipe and standard error to a file.
Child start(std::vector<std::string> command, const fs::path& errors) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail(ErrorCode::kInternal, "cannot make a pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                                   0600);
  std::vector<char*> arguments;
  for (std::string& argument : command) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  Child child{.out = ends[0]};
  const int status = ::posix_spawnp(&child.pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (status == 0) return child;
  ::close(ends[0]);
  fail(ErrorCode::kUsage, "cannot run {}: name the Python that has the framework with --python", command[0]);
}

// Shows "progress DONE ALL" lines until the program ends; its exit status, or -1 where a signal ended it.
int wait_for(const Child& child, ProgressBar& bar) {
  FILE* lines = ::fdopen(child.out, "r");
  char line[256];
  while (lines && std::fgets(line, sizeof line, lines)) {
    double done = 0, all = 0;
    if (std::sscanf(line, "progress %lf %lf", &done, &all) == 2 && all > 0)
      bar.update(done / all, "running the original");
  }
  if (lines) std::fclose(lines);
  int status = 0;
  while (::waitpid(child.pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The end of what a program complained about.
std::string last_lines(const fs::path& file) {
  constexpr std::size_t kMost = 2000;
  std::ifstream in(file);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.size() > kMost ? "..." + text.substr(text.size() - kMost) : text;
}

std::string python_of(const OriginalFlags& flags) {
  if (!flags.python.empty()) return flags.python;
  const char* named = std::getenv("OSPREY_PYTHON");
  return named && *named ? named : "python3";
}

std::string photo_list(const std::vector<fs::path>& photos) {
  nlohmann::json out = nlohmann::json::array();
  for (const fs::path& photo : photos) out.push_back(photo.string());
  return out.dump();
}

}  // namespace

void OriginalFlags::declare(CLI::App& app) {
  app.add_option(
         "--framework", framework,
         "Of an original model: tensorflow, detectron2, maskrcnn-benchmark or paddle; default: told from "
         "its files")
      ->check(CLI::IsMember({"tensorflow", "detectron2", "maskrcnn-benchmark", "paddle"}));
  app.add_option("--framework-config", config,
                 "Of an original model: its config, where the framework takes one");
  app.add_option("--python", python,
                 "The Python that has the framework; default: OSPREY_PYTHON of the environment, or python3");
}

std::string framework_of(const fs::path& model) {
  std::error_code ignored;
  if (fs::exists(model / "saved_model.pb", ignored)) return "tensorflow";
  for (const char* program : {"inference.json", "inference.pdmodel", "model.pdmodel"})
    if (fs::exists(model / program, ignored)) return "paddle";
  return "";
}

DetectionsFile detect_with_original(const fs::path& model, const OriginalFlags& flags,
                                    const std::vector<fs::path>& photos, ProgressBar& bar) {
  const std::string framework = flags.framework.empty() ? framework_of(model) : flags.framework;
  if (framework.empty())
    fail(ErrorCode::kUsage,
         "{}: is no engine, no detections.json and no SavedModel; say what it is with --framework",
         model.string());
  const fs::path script = shared_folder("originals", "python/originals", "detect.py") / "detect.py";
  const ScratchFolder scratch;
  write_file(scratch / "photos.json", photo_list(photos));
  std::vector<std::string> command{python_of(flags), script.string(),
                                   "--framework",    framework,
                                   "--model",        model.string(),
                                   "--photos",       (scratch / "photos.json").string(),
                                   "--output",       (scratch / "detections.json").string()};
  if (!flags.config.empty()) command.insert(command.end(), {"--config", flags.config});
  bar.update(0, "running the original");
  const int status = wait_for(start(command, scratch / "errors"), bar);
  const std::string errors = last_lines(scratch / "errors");
  if (status == kNotInstalled)
    fail(ErrorCode::kUsage, "{}: {} (--python names another Python)", model.string(), errors);
  require(status == 0, "{}: {} could not run it (exit status {}): {}", model.string(), framework, status,
          errors);
  return load_detections_json(scratch / "detections.json");
}

}  // namespace osprey

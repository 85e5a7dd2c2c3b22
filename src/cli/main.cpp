// The command: looks the verb up, runs it, and turns what it throws into one line and an exit status.
#include <algorithm>
#include <cstdio>

#include <fmt/core.h>

#include "cli/support/arguments.h"
#include "cli/support/help.h"
#include "cli/support/verb.h"
#include "osprey/error.h"
#include "osprey/version.h"

namespace osprey {
namespace {

void add_common(CLI::App& verb, CommonOptions& common) {
  verb.add_flag("--json", common.json, "Print figures as JSON");
  verb.add_flag("--quiet", common.quiet, "No progress and no remarks on stderr");
  verb.add_flag("--verbose", common.verbose, "More remarks on stderr");
  verb.add_option("--threads", common.threads, "Threads to use; default: one for each core")
      ->check(CLI::NonNegativeNumber);
}

int run(int argc, char** argv) {
  CLI::App app{"Osprey: detection models, from their own checkpoints to one exact, fast engine", "osprey"};
  app.set_version_flag("--version", std::string("osprey ") + kVersion);
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  app.footer("A first try: `osprey demo`. Help on a verb: `osprey infer --help`.");
  CommonOptions common;
  std::function<int()> action;
  for (const Verb& verb : verbs()) {
    CLI::App* sub = app.add_subcommand(verb.name, verb.summary);
    sub->footer("Examples:\n" + verb.examples);
    add_common(*sub, common);
    sub->callback([&action, run_verb = verb.define(*sub, common)] { action = run_verb; });
  }
  // CLI11 takes arguments from the last to the first.
  std::vector<std::string> arguments = normal_arguments({argv + 1, argv + argc});
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    std::string message = e.what();
    for (char& c : message)
      if (c == '\n') c = ' ';
    fmt::print(stderr, "osprey: {} (see `osprey --help`)\n", message);
    return static_cast<int>(ErrorCode::kUsage);
  }
  return action();
}

}  // namespace
}  // namespace osprey

int main(int argc, char** argv) {
  using osprey::ErrorCode;
  try {
    return osprey::run(argc, argv);
  } catch (const osprey::Error& e) {
    fmt::print(stderr, "osprey: {}\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "osprey: out of memory\n");
    return static_cast<int>(ErrorCode::kDevice);
  } catch (const std::exception& e) {
    fmt::print(stderr, "osprey: {}\n", e.what());
    return static_cast<int>(ErrorCode::kInternal);
  }
}

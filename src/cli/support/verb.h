// A verb of the command: one file in src/cli, defining `Verb <name>_verb()`; the table is generated.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace osprey {

// What every verb takes.
struct CommonOptions {
  bool json = false;     // figures as JSON on stdout
  bool quiet = false;    // no progress, no remarks
  bool verbose = false;  // more remarks
  int threads = 0;       // 0: one for each core
};

struct Verb {
  std::string name;      // "infer"
  std::string summary;   // one line for `osprey --help`
  std::string examples;  // printed below the options by `osprey infer --help`
  // Declares the verb's options on its subcommand; the result, called once they are parsed, gives the exit
  // status.
  std::function<std::function<int()>(CLI::App& app, const CommonOptions& common)> define;
};

const std::vector<Verb>& verbs();

}  // namespace osprey

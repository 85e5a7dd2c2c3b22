// The flags of verbs that open engines: --device, --num-queries, and how a GPU's implementations are chosen.
#pragma once

#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/support/progress.h"
#include "cli/support/verb.h"
#include "osprey/engine.h"

namespace osprey {

// --tuning-budget, --tuning-cache
struct TuningFlags {
  TuningOptions values;

  void declare(CLI::App& app);
};

// --device, --num-queries, and the above.
struct DeviceFlags {
  std::string device;
  std::optional<int> num_queries;
  TuningFlags tuning;

  void declare(CLI::App& app);
  // Tuning shows on `bar`, which must live as long as the engine.
  EngineOptions options(const CommonOptions& common, ProgressBar& bar) const;
};

}  // namespace osprey

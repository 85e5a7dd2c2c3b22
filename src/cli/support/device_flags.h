// The flags of verbs that open engines: --device, and how a GPU's implementations are chosen.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "cli/support/verb.h"
#include "osprey/engine.h"

namespace osprey {

// --tuning-budget, --tuning-cache
struct TuningFlags {
  TuningOptions values;

  void declare(CLI::App& app);
};

// --device, and the above.
struct DeviceFlags {
  std::string device;
  TuningFlags tuning;

  void declare(CLI::App& app);
  EngineOptions options(const CommonOptions& common) const;
};

}  // namespace osprey

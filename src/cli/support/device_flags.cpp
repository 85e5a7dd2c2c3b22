#include "cli/support/device_flags.h"

namespace osprey {

void TuningFlags::declare(CLI::App& app) {
  app.add_option("--tuning-budget", values.budget,
                 "Seconds at most to choose implementations on a GPU by measuring them; 0: none")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 86400.0));
  app.add_option("--tuning-cache", values.cache,
                 "File for what was measured; default: in $XDG_CACHE_HOME/osprey or ~/.cache/osprey");
}

void DeviceFlags::declare(CLI::App& app) {
  app.add_option("--device", device, "cpu | cuda | cuda:N; default: what the engine was built for");
  app.add_option("--num-queries", num_queries,
                 "DETRs: queries that are selected and decoded; default, and most: those of the build");
  tuning.declare(app);
}

EngineOptions DeviceFlags::options(const CommonOptions& common, ProgressBar& bar) const {
  return {.threads = common.threads,
          .device = device,
          .tuning = tuning.values,
          .num_queries = num_queries,
          .progress = [&bar](double done, const std::string& what) { bar.update(done, what); }};
}

}  // namespace osprey

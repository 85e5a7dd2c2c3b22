// Choosing implementations right after a build, so that the first run of the engine finds them measured.
#pragma once

#include <filesystem>

#include "osprey/engine.h"

namespace osprey {

// Runs the engine once on synthetic photos, on the GPU that the build was for, which measures and stores what
// suits it. Without a GPU, or when the run fails, the engine is as good: a remark in the report says when the
// choice is made instead.
void tune_engine(const std::filesystem::path& engine, const BuildOptions& options, ImportReport& report);

}  // namespace osprey

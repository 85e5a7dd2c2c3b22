// One of the reference frameworks' cases: its checkpoint unpacked, an engine built of it, one run on its
// photo with every stage that has a golden array.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/runtime.h"
#include "osprey/osprey.h"
#include "parity/fixtures.h"
#include "parity/golden_arrays.h"

namespace osprey {

// A folder of its own that is gone at the end.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct ModelCase {
  std::string name;                            // folder below the family's
  std::string photo;                           // file below fixtures/images
  std::string checkpoint = "model_final.pkl";  // within the archive
  std::string weights_of = {};                 // the case whose archive it is; empty: its own
  int canvas = 0;                              // side of a fixed square input; 0: as the config says
  std::string config = {};                     // an official name instead of the case's own config
  std::vector<std::pair<std::string, std::string>> overrides = {};  // keys changed, as --set does
  std::string family = "detectron2";                                // folder below fixtures
};

// On a GPU implementations are measured a little, into a cache that all tests share, so that those under test
// are what users run.
TuningOptions quick_tuning();

// The case's engine, in a scratch folder that lives as long as this.
class CaseEngine {
 public:
  explicit CaseEngine(const ModelCase& c, const BuildOptions& options = {});

  const std::filesystem::path& file() const { return file_; }
  // The folder that holds the unpacked checkpoint.
  const std::filesystem::path& folder() const { return scratch_.path(); }

 private:
  ScratchFolder scratch_;
  std::filesystem::path file_;
};

// A golden array: whole, or every stride-th element of it in C order.
struct GoldenStage {
  Shape shape;
  std::int64_t stride = 1;
  std::vector<double> values;

  double magnitude() const;
};

GoldenStage golden_stage(const GoldenArrays& golden, const std::string& name);

// A run on one photo: what was detected, and copies of the stages asked for.
struct CaseRun {
  Detections detections;
  std::map<std::string, Tensor> stages;
};

CaseRun run_with_stages(const std::filesystem::path& engine, const Image& photo,
                        const std::vector<std::string>& stages);

// Why tests on this device cannot run here; empty: they can.
std::string why_no_device(const std::string& device);

}  // namespace osprey

// A run that must not skip for want of a GPU (scripts/gpu.sh) sets OSPREY_REQUIRE_GPU.
#define OSPREY_NEEDS_DEVICE(device)                                                             \
  if (const std::string why_ = osprey::why_no_device(device); !why_.empty()) {                  \
    if (std::getenv("OSPREY_REQUIRE_GPU")) FAIL() << "OSPREY_REQUIRE_GPU is set, but " << why_; \
    GTEST_SKIP() << why_;                                                                       \
  }

// What a calibration found, as a readable file (JSON), and what it belongs to.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/magnitudes.h"
#include "graph/graph.h"

namespace osprey {

// What limits depend on. Two calibrations of one key give the same numbers.
struct CalibrationKey {
  std::string model;          // a hash of the network and its weights
  std::string preprocessing;  // the steps before it, as text
  std::string method;
  std::vector<std::string> photos;  // a hash of each file, in their order
};

CalibrationKey calibration_key(const Graph& graph, CalibrationMethod method,
                               const std::vector<std::filesystem::path>& photos);

// Why what was found for `cached` is not for `wanted`; empty where it is. Without photos in `wanted` any will
// do.
std::string mismatch(const CalibrationKey& cached, const CalibrationKey& wanted);

struct CalibratedValue {
  float least = 0, largest = 0;
  float limit = 0;       // 0: the value never came
  double saturated = 0;  // the share of its values beyond the limit
  double sqnr = 0;       // signal to noise of rounding and saturating, in decibels
};

// Which layers stay in floats, and what int8 then costs.
struct Int8Decision {
  std::string bound;  // that it was made for; empty: none
  struct Kept {
    std::string block;
    double change = 0;  // of the detections, with this block alone in int8
    bool operator==(const Kept&) const = default;
  };
  std::vector<Kept> kept;
  std::optional<std::size_t> searched;  // layers that were in int8 when the bound held; unset in older caches
  std::size_t photos = 0;               // that int8 was compared with fp32 on
  std::optional<std::size_t> layers;    // that were in int8 then: a GPU leaves others in floats than a CPU
  double change = 0;                    // of the detections on them
  std::optional<double> ap_drop;
  double ap_error = 0;        // its standard error
  std::size_t annotated = 0;  // the photos that AP was measured on
  std::string annotations;    // a hash of their file
  struct Tried {
    std::size_t blocks = 0;  // in integers
    double drop = 0, error = 0;
    bool holds = false;
    bool operator==(const Tried&) const = default;
  };
  std::vector<Tried> tried;  // for the bound of AP, in this order
  bool operator==(const Int8Decision&) const = default;
};

struct CalibrationCache {
  CalibrationKey key;
  std::map<std::string, CalibratedValue> values;
  std::optional<Int8Decision> decision;
};

void write_cache(const std::filesystem::path& file, const CalibrationCache& cache);
CalibrationCache read_cache(const std::filesystem::path& file);

// An interrupted calibration: what the first `photos` of the key's gave.
struct PartialCalibration {
  CalibrationKey key;
  std::size_t photos = 0;
  std::vector<std::string> unreadable;  // of these
  std::map<std::string, Magnitudes> values;
};

void write_partial(const std::filesystem::path& file, const PartialCalibration& partial);
PartialCalibration read_partial(const std::filesystem::path& file);

std::string_view name_of(CalibrationMethod method);

std::string hash_of_file(const std::filesystem::path& file);

}  // namespace osprey

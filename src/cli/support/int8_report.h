// The report of an int8 build as files.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "osprey/engine.h"

namespace osprey {

// FOLDER/layers.tsv: for each layer its precision, the range of its values, the limit of its integers, what
// share of the values lies beyond, and the signal-to-noise ratio of rounding them, in decibels.
// FOLDER/choices.tsv, with a bound of AP: each choice that was tried, how many blocks it leaves in integers,
// how far AP falls, the standard error of that, and whether the bound held.
// FOLDER/<photo>.jpg for up to eight of the photos that int8 was checked on: fp32 and int8 side by side.
void write_int8_report(const std::filesystem::path& folder, const Int8Report& report,
                       const std::vector<std::string>& labels);

}  // namespace osprey

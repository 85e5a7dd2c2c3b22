// The table-driven way in: which family a checkpoint is of, and its model.
#pragma once

#include <string_view>

#include "arch/family.h"

namespace osprey {

// The metadata of a model begin so for what was put up with in its config: "config warning 1", ...
inline constexpr std::string_view kConfigWarning = "config warning ";

// The surest family. Bad input, saying what was seen, when none or several are equally sure.
const Family& select_family(const ImportRequest& request);

Model import_model(const ImportRequest& request);

}  // namespace osprey

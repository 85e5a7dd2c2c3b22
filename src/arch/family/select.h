// The table-driven way in: which family a checkpoint is of, and its model.
#pragma once

#include "arch/family.h"

namespace osprey {

// The surest family. Bad input, saying what was seen, when none or several are equally sure.
const Family& select_family(const ImportRequest& request);

Model import_model(const ImportRequest& request);

}  // namespace osprey

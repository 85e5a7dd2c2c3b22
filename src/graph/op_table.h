// Every op there is, generated from the file names of src/ops (cmake/registry.cmake).
#pragma once

#include <string_view>
#include <vector>

#include "graph/op.h"

namespace osprey {

const std::vector<const OpInfo*>& op_table();
const OpInfo& find_op(std::string_view name);  // throws on an unknown name

}  // namespace osprey

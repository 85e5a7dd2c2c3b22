#include "graph/op.h"

#include <algorithm>

#include "graph/op_table.h"

namespace osprey {

const TensorType& OpInputs::operator[](std::size_t i) const {
  require(has(i), "{}: input {} is missing", op_, i);
  return *types_[i];
}

void OpInputs::expect(std::size_t i, std::string_view what, std::initializer_list<DType> types,
                      std::initializer_list<Extent> dims) const {
  require(has(i), "{}: input {} ({}) is missing", op_, i, what);
  const TensorType& type = *types_[i];
  require(std::find(types.begin(), types.end(), type.dtype) != types.end(), "{}: {} has element type {}", op_,
          what, name_of(type.dtype));
  require(type.rank() == dims.size(), "{}: {} is {}, but needs {} dimensions", op_, what, to_string(type),
          dims.size());
  std::size_t axis = 0;
  for (const Extent& extent : dims) {
    const Dim& got = type.dims[axis++];
    if (extent.name.empty()) {
      require(got == Dim(extent.value), "{}: dimension {} of {} is {}, not {}", op_, axis - 1, what,
              to_string(got), extent.value);
    } else if (extent.name != "_") {
      const auto [it, fresh] = bound_.emplace(extent.name, got);
      require(fresh || it->second == got, "{}: {} of {} is {}, but {} elsewhere", op_, extent.name, what,
              to_string(got), to_string(it->second));
    }
  }
}

const Dim& OpInputs::dim(std::string_view name) const {
  const auto it = bound_.find(name);
  check(it != bound_.end(), "{}: no input bound '{}'", op_, name);
  return it->second;
}

void OpInputs::expect_count(std::size_t least, std::size_t most) const {
  require(count() >= least && count() <= most, "{}: takes {} to {} inputs, not {}", op_, least, most,
          count());
}

const OpInfo& find_op(std::string_view name) {
  for (const OpInfo* info : op_table())
    if (info->name == name) return *info;
  bad_input("there is no op '{}' in this version of Osprey", name);
}

}  // namespace osprey

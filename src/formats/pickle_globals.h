// The names a pickle may refer to: what tensors need, and plain containers. Any other is refused. Being on
// the list gives a name a meaning to our readers; none of them is ever imported or called.
#pragma once

#include <optional>
#include <string_view>

#include "formats/pickle_value.h"

namespace osprey::pickle {

enum class Global : std::uint8_t {
  kOpaque,  // kept as an object that nothing reads: devices, namespaces, dates
  kDict,
  kDefaultDict,
  kList,
  kTuple,
  kSet,
  kBytes,
  kEncode,  // _codecs.encode, how Python 3 writes bytes in protocols 0 to 2
  kNumpyReconstruct,
  kNumpyArray,
  kNumpyDtype,
  kNumpyScalar,
  kNumpyFromBuffer,
  kTorchTensor,
  kTorchTensorV2,
  kTorchTensorV3,
  kTorchParameter,
  kTorchFromType,
  kTorchStorage,
  kTorchDtype,
};

struct GlobalEntry {
  std::string_view name;  // "collections.OrderedDict"
  Global global;
  std::optional<DType> dtype;
};

// None when the name is not on the list.
const GlobalEntry* find_global(std::string_view module, std::string_view name);

}  // namespace osprey::pickle

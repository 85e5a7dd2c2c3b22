#include "formats/pickle_globals.h"

#include <array>

namespace osprey::pickle {
namespace {

using enum Global;

constexpr std::array kGlobals{
    GlobalEntry{"collections.OrderedDict", kDict, {}},
    GlobalEntry{"collections.Counter", kDict, {}},
    GlobalEntry{"collections.defaultdict", kDefaultDict, {}},
    GlobalEntry{"collections.deque", kList, {}},
    GlobalEntry{"builtins.dict", kDict, {}},
    GlobalEntry{"builtins.list", kList, {}},
    GlobalEntry{"builtins.tuple", kTuple, {}},
    GlobalEntry{"builtins.set", kSet, {}},
    GlobalEntry{"builtins.frozenset", kSet, {}},
    GlobalEntry{"builtins.bytes", kBytes, {}},
    GlobalEntry{"builtins.bytearray", kBytes, {}},
    GlobalEntry{"builtins.int", kOpaque, {}},
    GlobalEntry{"builtins.float", kOpaque, {}},
    GlobalEntry{"builtins.complex", kOpaque, {}},
    GlobalEntry{"builtins.str", kOpaque, {}},
    GlobalEntry{"builtins.bool", kOpaque, {}},
    GlobalEntry{"builtins.object", kOpaque, {}},
    GlobalEntry{"builtins.slice", kOpaque, {}},
    GlobalEntry{"builtins.range", kOpaque, {}},
    GlobalEntry{"copyreg._reconstructor", kOpaque, {}},
    GlobalEntry{"_codecs.encode", kEncode, {}},
    GlobalEntry{"argparse.Namespace", kOpaque, {}},
    GlobalEntry{"types.SimpleNamespace", kOpaque, {}},
    GlobalEntry{"pathlib.PosixPath", kOpaque, {}},
    GlobalEntry{"pathlib.PurePosixPath", kOpaque, {}},
    GlobalEntry{"pathlib.WindowsPath", kOpaque, {}},
    GlobalEntry{"datetime.datetime", kOpaque, {}},
    GlobalEntry{"datetime.timedelta", kOpaque, {}},
    GlobalEntry{"yacs.config.CfgNode", kDict, {}},
    GlobalEntry{"fvcore.common.config.CfgNode", kDict, {}},
    GlobalEntry{"detectron2.config.config.CfgNode", kDict, {}},

    GlobalEntry{"numpy.ndarray", kNumpyArray, {}},
    GlobalEntry{"numpy.dtype", kNumpyDtype, {}},
    GlobalEntry{"numpy.core.multiarray._reconstruct", kNumpyReconstruct, {}},
    GlobalEntry{"numpy._core.multiarray._reconstruct", kNumpyReconstruct, {}},
    GlobalEntry{"numpy.core.multiarray.scalar", kNumpyScalar, {}},
    GlobalEntry{"numpy._core.multiarray.scalar", kNumpyScalar, {}},
    GlobalEntry{"numpy.core.numeric._frombuffer", kNumpyFromBuffer, {}},
    GlobalEntry{"numpy._core.numeric._frombuffer", kNumpyFromBuffer, {}},

    GlobalEntry{"torch._utils._rebuild_tensor", kTorchTensor, {}},
    GlobalEntry{"torch._utils._rebuild_tensor_v2", kTorchTensorV2, {}},
    GlobalEntry{"torch._utils._rebuild_tensor_v3", kTorchTensorV3, {}},
    GlobalEntry{"torch._utils._rebuild_parameter", kTorchParameter, {}},
    GlobalEntry{"torch._utils._rebuild_parameter_with_state", kTorchParameter, {}},
    GlobalEntry{"torch._tensor._rebuild_from_type_v2", kTorchFromType, {}},
    GlobalEntry{"torch.Size", kTuple, {}},
    GlobalEntry{"torch.device", kOpaque, {}},
    GlobalEntry{"torch.Tensor", kOpaque, {}},
    GlobalEntry{"torch.nn.parameter.Parameter", kOpaque, {}},
    GlobalEntry{"torch.nn.parameter.Buffer", kOpaque, {}},
    GlobalEntry{"torch.FloatStorage", kTorchStorage, DType::kF32},
    GlobalEntry{"torch.HalfStorage", kTorchStorage, DType::kF16},
    GlobalEntry{"torch.BFloat16Storage", kTorchStorage, DType::kBF16},
    GlobalEntry{"torch.DoubleStorage", kTorchStorage, DType::kF64},
    GlobalEntry{"torch.LongStorage", kTorchStorage, DType::kI64},
    GlobalEntry{"torch.IntStorage", kTorchStorage, DType::kI32},
    GlobalEntry{"torch.ShortStorage", kTorchStorage, DType::kI16},
    GlobalEntry{"torch.CharStorage", kTorchStorage, DType::kI8},
    GlobalEntry{"torch.ByteStorage", kTorchStorage, DType::kU8},
    GlobalEntry{"torch.BoolStorage", kTorchStorage, DType::kBool},
    GlobalEntry{"torch.storage.UntypedStorage", kTorchStorage, DType::kU8},
    GlobalEntry{"torch.UntypedStorage", kTorchStorage, DType::kU8},
    GlobalEntry{"torch.float32", kTorchDtype, DType::kF32},
    GlobalEntry{"torch.float16", kTorchDtype, DType::kF16},
    GlobalEntry{"torch.bfloat16", kTorchDtype, DType::kBF16},
    GlobalEntry{"torch.float64", kTorchDtype, DType::kF64},
    GlobalEntry{"torch.int64", kTorchDtype, DType::kI64},
    GlobalEntry{"torch.int32", kTorchDtype, DType::kI32},
    GlobalEntry{"torch.int16", kTorchDtype, DType::kI16},
    GlobalEntry{"torch.int8", kTorchDtype, DType::kI8},
    GlobalEntry{"torch.uint8", kTorchDtype, DType::kU8},
    GlobalEntry{"torch.bool", kTorchDtype, DType::kBool},
    GlobalEntry{"torch.uint16", kTorchDtype, {}},
    GlobalEntry{"torch.uint32", kTorchDtype, {}},
    GlobalEntry{"torch.uint64", kTorchDtype, {}},
    GlobalEntry{"torch.complex64", kTorchDtype, {}},
    GlobalEntry{"torch.complex128", kTorchDtype, {}},
    GlobalEntry{"torch.float8_e4m3fn", kTorchDtype, {}},
    GlobalEntry{"torch.float8_e5m2", kTorchDtype, {}},
};

// Python 2's names of the same modules.
std::string_view current_module(std::string_view module) {
  if (module == "__builtin__") return "builtins";
  if (module == "copy_reg") return "copyreg";
  return module;
}

}  // namespace

const GlobalEntry* find_global(std::string_view module, std::string_view name) {
  module = current_module(module);
  for (const auto& entry : kGlobals) {
    if (entry.name.size() == module.size() + 1 + name.size() && entry.name.starts_with(module) &&
        entry.name[module.size()] == '.' && entry.name.ends_with(name))
      return &entry;
  }
  return nullptr;
}

}  // namespace osprey::pickle

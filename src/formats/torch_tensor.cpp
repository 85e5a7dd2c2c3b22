#include "formats/torch_tensor.h"

#include "formats/pickle_globals.h"

namespace osprey {
namespace {

using pickle::Global;
using pickle::Kind;
using pickle::Value;

constexpr int kMaxWrappers = 8;  // a parameter of a subclass of a parameter ...

const Value& item(const Value& tuple, std::size_t i, std::string_view what) {
  require(tuple.kind == Kind::kTuple && i < tuple.items.size(), "torch: {} is cut short", what);
  return *tuple.items[i];
}

std::uint64_t size_at(const Value& tuple, std::size_t i, std::string_view what) {
  const auto number = pickle::int_of(item(tuple, i, what));
  require(number && *number >= 0, "torch: {} has {} where a size belongs", what,
          describe(item(tuple, i, what)));
  return static_cast<std::uint64_t>(*number);
}

Shape extents(const Value& value) {
  require(value.kind == Kind::kTuple || value.kind == Kind::kList, "torch: the size of a tensor is {}",
          describe(value));
  Shape out;
  for (const Value* extent : value.items) {
    const auto number = pickle::int_of(*extent);
    require(number.has_value(), "torch: an extent of a tensor is {}", describe(*extent));
    out.push_back(*number);
  }
  return out;
}

// (storage, offset, size, stride, ...). _v3 stores bytes and names the element type at args[6].
TorchTensor rebuild(const Value& args, bool typed) {
  TorchTensor out{.storage = torch_storage(item(args, 0, "a tensor"))};
  if (typed) {
    const Value& type = item(args, 6, "a tensor");
    require(type.kind == Kind::kGlobal && type.global == Global::kTorchDtype,
            "torch: the type of a tensor is {}", describe(type));
    out.storage.type = as_text(type.text.data);
    if (out.storage.dtype && type.dtype) out.storage.elements /= size_of(*type.dtype);
    out.storage.dtype = type.dtype;
  }
  if (!out.storage.dtype) {
    out.unread = out.storage.type;
    return out;
  }
  out.layout = {.dtype = *out.storage.dtype,
                .shape = extents(item(args, 2, "a tensor")),
                .strides = extents(item(args, 3, "a tensor")),
                .offset = size_at(args, 1, "a tensor")};
  validate(out.layout, out.storage.elements, "tensor");
  return out;
}

}  // namespace

TorchStorage torch_storage(const Value& persistent) {
  require(persistent.kind == Kind::kPersistent, "torch: the storage of a tensor is {}", describe(persistent));
  const Value& id = *persistent.items.at(0);
  require(id.kind == Kind::kTuple && id.items.size() >= 5 && pickle::text_of(*id.items[0]) == "storage",
          "torch: a persistent id that names no storage");
  const Value& type = *id.items[1];
  require(type.kind == Kind::kGlobal && type.global == Global::kTorchStorage, "torch: a storage's type is {}",
          describe(type));
  const auto key = pickle::text_of(*id.items[2]);
  require(key.has_value(), "torch: a storage's key is {}", describe(*id.items[2]));
  TorchStorage out{.key = *key,
                   .dtype = type.dtype,
                   .type = std::string(as_text(type.text.data)),
                   .elements = size_at(id, 4, "a storage")};
  if (id.items.size() > 5 && id.items[5]->kind == Kind::kTuple) {  // (key of the view, offset, elements)
    out.view_offset = size_at(*id.items[5], 1, "a view of a storage");
    const std::uint64_t viewed = size_at(*id.items[5], 2, "a view of a storage");
    require(out.view_offset <= out.elements && viewed <= out.elements - out.view_offset,
            "torch: a view of {} elements at {} of a storage of {}", viewed, out.view_offset, out.elements);
    out.elements = viewed;
  }
  return out;
}

std::optional<TorchTensor> torch_tensor(const Value& value) {
  const Value* at = &value;
  for (int i = 0; i < kMaxWrappers; ++i) {
    if (at->kind != Kind::kObject) return std::nullopt;
    switch (at->global) {
      case Global::kTorchTensor:
      case Global::kTorchTensorV2:
        return rebuild(*at->args, false);
      case Global::kTorchTensorV3:
        return rebuild(*at->args, true);
      case Global::kTorchParameter:
        at = &item(*at->args, 0, "a parameter");
        break;
      case Global::kTorchFromType: {  // (function, type, its arguments, state)
        const Value& function = item(*at->args, 0, "a tensor");
        const Value& args = item(*at->args, 2, "a tensor");
        const bool v3 = function.global == Global::kTorchTensorV3;
        require(function.kind == Kind::kGlobal && (v3 || function.global == Global::kTorchTensorV2),
                "torch: a tensor rebuilt by {}", as_text(function.text.data));
        return rebuild(args, v3);
      }
      default:
        return std::nullopt;
    }
  }
  bad_input("torch: a parameter within a parameter, {} times", kMaxWrappers);
}

}  // namespace osprey

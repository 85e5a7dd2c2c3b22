// Opcodes that name Python objects and call them: here they only make values.
#include <array>

#include "formats/pickle_globals.h"
#include "formats/pickle_machine.h"
#include "formats/source.h"

namespace osprey::pickle {

bool Machine::object_step(Op op) {
  switch (op) {
    case Op::kProto: {
      const auto version = in_.read<std::uint8_t>();
      require(version <= 5, "pickle: protocol {} is newer than 5, the last one that is read", version);
      return true;
    }
    case Op::kFrame: {
      const auto size = in_.read<std::uint64_t>();
      require(size <= in_.remaining(),
              "pickle: a frame of {} bytes, but only {} are left (is the file truncated?)", size,
              in_.remaining());
      return true;
    }
    case Op::kGlobal: {
      const std::string_view module = in_.line();
      push_global(module, in_.line());
      return true;
    }
    case Op::kStackGlobal: {
      const auto name = text_of(*pop());
      const auto module = text_of(*pop());
      require(name && module, "pickle: a Python name that is not text");
      push_global(*module, *name);
      return true;
    }
    case Op::kInst: {
      const std::string_view module = in_.line();
      push_global(module, in_.line());
      const Value* callee = pop();
      const auto items = pop_to_mark();
      append_all(push(Kind::kTuple), items);
      call(callee, pop());
      return true;
    }
    case Op::kObj: {
      const auto items = pop_to_mark();
      require(!items.empty(), "pickle: an object without a class");
      append_all(push(Kind::kTuple), std::span(items).subspan(1));
      call(items[0], pop());
      return true;
    }
    case Op::kReduce:
    case Op::kNewObj: {
      const Value* args = pop();
      call(pop(), args);
      return true;
    }
    case Op::kNewObjEx: {
      pop();  // keyword arguments: no constructor on the list takes any
      const Value* args = pop();
      call(pop(), args);
      return true;
    }
    case Op::kBuild: {
      const Value* state = pop();
      Value& object = mutable_top();
      if (object.kind == Kind::kObject)
        object.state = state;  // a dict's state is attributes, such as _metadata
      return true;
    }
    case Op::kPersId: {
      Value& id = push(Kind::kText);
      id.text = {as_bytes(in_.line()), Spelling::kRaw};
      push_persistent(pop());
      return true;
    }
    case Op::kBinPersId:
      push_persistent(pop());
      return true;
    case Op::kExt1:
    case Op::kExt2:
    case Op::kExt4:
      bad_input(
          "pickle: refers to Python's extension registry, which only the program that wrote the file knows");
    case Op::kNextBuffer:
    case Op::kReadOnlyBuffer:
      bad_input("pickle: keeps its buffers outside the file");
    default:
      return false;
  }
}
void Machine::push_global(std::string_view module, std::string_view name) {
  const GlobalEntry* entry = find_global(module, name);
  require(entry != nullptr,
          "refers to \"{}.{}\", which is not one of the names that weights need. Osprey never runs code from "
          "a file; "
          "if you trust this one, save its weights alone (a state_dict of tensors) where it was made",
          printable(module), printable(name));
  Value& value = push(Kind::kGlobal);
  value.global = entry->global;
  value.dtype = entry->dtype;
  value.text.data = as_bytes(entry->name);
}

void Machine::push_persistent(const Value* id) {
  require(persistent_ == Persistent::kAllowed, "pickle: refers to data outside itself at byte {}",
          in_.offset());
  Value& value = push(Kind::kPersistent);
  append_all(value, std::array{id});
  out_.persistent.push_back(&value);
}

// [(key, value), ...] or a dict, added to a dict.
void Machine::append_pairs(Value& to, const Value& pairs) {
  if (pairs.kind == Kind::kDict) {
    append_all(to, std::vector<const Value*>(pairs.items));
    return;
  }
  require(pairs.kind == Kind::kList || pairs.kind == Kind::kTuple, "pickle: a dict made from {}",
          describe(pairs));
  for (const Value* pair : std::vector<const Value*>(pairs.items)) {
    require((pair->kind == Kind::kList || pair->kind == Kind::kTuple) && pair->items.size() == 2,
            "pickle: a dict made from pairs, of which one is {}", describe(*pair));
    append_all(to, std::vector<const Value*>(pair->items));
  }
}

// A container called with args: its contents are args[first], if there.
void Machine::fill(Value& container, Kind kind, const Value* args, std::size_t first) {
  if (args->items.size() <= first) return;
  const Value& from = *args->items[first];
  if (kind == Kind::kDict) {
    append_pairs(container, from);
    return;
  }
  require(from.kind == Kind::kList || from.kind == Kind::kTuple || from.kind == Kind::kSet,
          "pickle: a container made from {}", describe(from));
  append_all(container, std::vector<const Value*>(from.items));
}

void Machine::call(const Value* callee, const Value* args) {
  require(callee->kind == Kind::kGlobal, "pickle: calls {}, which is no Python name", describe(*callee));
  require(args->kind == Kind::kTuple, "pickle: calls {} with {} for its arguments",
          as_text(callee->text.data), describe(*args));
  switch (callee->global) {
    case Global::kDict:
      fill(push(Kind::kDict), Kind::kDict, args, 0);
      return;
    case Global::kDefaultDict:
      fill(push(Kind::kDict), Kind::kDict, args, 1);
      return;
    case Global::kList:
      fill(push(Kind::kList), Kind::kList, args, 0);
      return;
    case Global::kTuple:
      fill(push(Kind::kTuple), Kind::kTuple, args, 0);
      return;
    case Global::kSet:
      fill(push(Kind::kSet), Kind::kSet, args, 0);
      return;
    case Global::kEncode:
    case Global::kBytes:
      encode(*args);
      return;
    default:
      break;
  }
  Value& object = push(Kind::kObject);
  object.global = callee->global;
  object.text = callee->text;
  object.args = args;
}

// encode(text, "latin1"), bytearray(text, "latin-1"), bytearray(bytes), bytes(): the text stays as it is
// spelled.
void Machine::encode(const Value& args) {
  if (args.items.empty()) {
    push(Kind::kBytes);
    return;
  }
  const Value& from = *args.items[0];
  require(from.kind == Kind::kText || from.kind == Kind::kBytes, "pickle: bytes made from {}",
          describe(from));
  if (from.kind == Kind::kText && args.items.size() > 1) {
    const auto codec = text_of(*args.items[1]);
    require(codec == "latin1" || codec == "latin-1",
            "pickle: bytes made from text in another way than latin1");
  }
  push(Kind::kBytes).text = from.text;
}

}  // namespace osprey::pickle

#include "formats/pickle.h"

#include <charconv>
#include <unordered_map>

#include "formats/pickle_globals.h"
#include "formats/source.h"

namespace osprey::pickle {
namespace {

constexpr std::size_t kMaxValues = 2'000'000;
constexpr std::size_t kMaxReferences = 8'000'000;
constexpr std::size_t kMaxStack = 1'000'000;

// Names as in CPython's pickle.py.
enum class Op : unsigned char {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kFloat = 'F',
  kInt = 'I',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kLong = 'L',
  kBinInt2 = 'M',
  kNone = 'N',
  kPersId = 'P',
  kBinPersId = 'Q',
  kReduce = 'R',
  kString = 'S',
  kBinString = 'T',
  kShortBinString = 'U',
  kUnicode = 'V',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kEmptyDict = '}',
  kAppends = 'e',
  kGet = 'g',
  kBinGet = 'h',
  kInst = 'i',
  kLongBinGet = 'j',
  kList = 'l',
  kEmptyList = ']',
  kObj = 'o',
  kPut = 'p',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kBinFloat = 'G',
  kProto = 0x80,
  kNewObj = 0x81,
  kExt1 = 0x82,
  kExt2 = 0x83,
  kExt4 = 0x84,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96,
  kNextBuffer = 0x97,
  kReadOnlyBuffer = 0x98,
};

class Machine {
 public:
  Machine(Bytes bytes, Persistent persistent) : in_(bytes, "pickle"), persistent_(persistent) {}

  Parsed run() {
    while (true) {
      const auto op = static_cast<Op>(in_.read<unsigned char>());
      if (op == Op::kStop) break;
      step(op);
    }
    out_.root = pop();
    out_.size = in_.offset();
    return std::move(out_);
  }

 private:
  void step(Op op);
  bool scalar_step(Op op);
  bool text_step(Op op);
  bool memo_step(Op op);
  bool container_step(Op op);
  bool object_step(Op op);

  // The stack. A mark fences what lies below it from pop().
  Value& push(Kind kind);
  void push(const Value* value);
  std::size_t fence() const { return marks_.empty() ? 0 : marks_.back(); }
  const Value* top() const {
    require(stack_.size() > fence(), "pickle: takes a value from an empty stack at byte {}", in_.offset());
    return stack_.back();
  }
  const Value* pop() {
    const Value* value = top();
    stack_.pop_back();
    return value;
  }
  std::vector<const Value*> pop_to_mark();
  Value& mutable_top();

  void push_int(std::int64_t value) { push(Kind::kInt).integer = value; }
  void push_text(Kind kind, Spelling spelling, std::uint64_t size) {
    push(kind).text = {in_.take(size), spelling};
  }
  void push_long(std::uint64_t size);
  void push_decimal(std::string_view text);
  void push_quoted();
  void push_tuple(std::size_t size);
  void push_global(std::string_view module, std::string_view name);
  void push_persistent(const Value* id);

  void append(Value& to, const Value* item);
  void append_all(Value& to, std::span<const Value* const> items);
  void append_pairs(Value& to, const Value& pairs);
  void fill(Value& container, Kind kind, const Value* args, std::size_t first);
  void call(const Value* callee, const Value* args);
  void encode(const Value& args);
  void memoize(std::uint64_t index);
  void recall(std::uint64_t index);
  std::uint64_t decimal_index();

  ByteReader in_;
  Persistent persistent_;
  Parsed out_;
  std::vector<const Value*> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint64_t, const Value*> memo_;
  std::size_t references_ = 0;
};

void Machine::step(Op op) {
  if (memo_step(op) || scalar_step(op) || text_step(op) || container_step(op) || object_step(op)) return;
  bad_input("pickle: byte {} is the opcode 0x{:02x}, which is not one that stores data (is this a pickle?)",
            in_.offset() - 1, static_cast<unsigned>(op));
}

Value& Machine::push(Kind kind) {
  require(out_.values.size() < kMaxValues, "pickle: more than {} values", kMaxValues);
  Value& value = out_.values.emplace_back();
  value.kind = kind;
  push(&value);
  return value;
}

void Machine::push(const Value* value) {
  require(stack_.size() < kMaxStack, "pickle: more than {} values on the stack", kMaxStack);
  stack_.push_back(value);
}

std::vector<const Value*> Machine::pop_to_mark() {
  require(!marks_.empty(), "pickle: no mark on the stack at byte {}", in_.offset());
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<const Value*> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

// Every value was made by push(), so the arena owns it and may change it.
Value& Machine::mutable_top() { return const_cast<Value&>(*top()); }

bool Machine::scalar_step(Op op) {
  switch (op) {
    case Op::kNone:
      push(Kind::kNone);
      return true;
    case Op::kNewTrue:
      push(Kind::kBool).integer = 1;
      return true;
    case Op::kNewFalse:
      push(Kind::kBool).integer = 0;
      return true;
    case Op::kBinInt:
      push_int(in_.read<std::int32_t>());
      return true;
    case Op::kBinInt1:
      push_int(in_.read<std::uint8_t>());
      return true;
    case Op::kBinInt2:
      push_int(in_.read<std::uint16_t>());
      return true;
    case Op::kLong1:
      push_long(in_.read<std::uint8_t>());
      return true;
    case Op::kLong4:
      push_long(in_.read<std::uint32_t>());
      return true;
    case Op::kInt:
    case Op::kLong:
      push_decimal(in_.line());
      return true;
    case Op::kBinFloat:
      push(Kind::kFloat).real = std::bit_cast<double>(__builtin_bswap64(in_.read<std::uint64_t>()));
      return true;
    case Op::kFloat: {
      const std::string_view text = in_.line();
      double value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      require(error != std::errc::invalid_argument && end == text.data() + text.size(),
              "pickle: \"{}\" is no number", printable(text));
      push(Kind::kFloat).real = value;
      return true;
    }
    default:
      return false;
  }
}

void Machine::push_long(std::uint64_t size) {
  const Bytes data = in_.take(size);
  if (size > 8) {
    push(Kind::kLong).text.data = data;
    return;
  }
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value |= static_cast<std::uint64_t>(data[i]) << (8 * i);
  const bool negative = size > 0 && (data[size - 1] & std::byte{0x80}) != std::byte{0};
  if (negative && size < 8) value |= ~std::uint64_t{0} << (8 * size);
  push_int(static_cast<std::int64_t>(value));
}

void Machine::push_decimal(std::string_view text) {
  if (text == "00" || text == "01") {  // how protocol 1 spelled False and True
    push(Kind::kBool).integer = text == "01";
    return;
  }
  if (text.ends_with('L')) text.remove_suffix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc{} && end == text.data() + text.size(), "pickle: \"{}\" is no integer of 64 bits",
          printable(text));
  push_int(value);
}

bool Machine::text_step(Op op) {
  switch (op) {
    case Op::kString:
      push_quoted();
      return true;
    case Op::kBinString:
      push_text(Kind::kText, Spelling::kRaw, in_.read<std::uint32_t>());
      return true;
    case Op::kShortBinString:
      push_text(Kind::kText, Spelling::kRaw, in_.read<std::uint8_t>());
      return true;
    case Op::kUnicode:
      push(Kind::kText).text = {as_bytes(in_.line()), Spelling::kUnicodeEscapes};
      return true;
    case Op::kBinUnicode:
      push_text(Kind::kText, Spelling::kUtf8, in_.read<std::uint32_t>());
      return true;
    case Op::kShortBinUnicode:
      push_text(Kind::kText, Spelling::kUtf8, in_.read<std::uint8_t>());
      return true;
    case Op::kBinUnicode8:
      push_text(Kind::kText, Spelling::kUtf8, in_.read<std::uint64_t>());
      return true;
    case Op::kBinBytes:
      push_text(Kind::kBytes, Spelling::kRaw, in_.read<std::uint32_t>());
      return true;
    case Op::kShortBinBytes:
      push_text(Kind::kBytes, Spelling::kRaw, in_.read<std::uint8_t>());
      return true;
    case Op::kBinBytes8:
    case Op::kByteArray8:
      push_text(Kind::kBytes, Spelling::kRaw, in_.read<std::uint64_t>());
      return true;
    default:
      return false;
  }
}

void Machine::push_quoted() {
  const std::string_view line = in_.line();
  require(line.size() >= 2 && (line.front() == '\'' || line.front() == '"') && line.back() == line.front(),
          "pickle: a string without quotes before byte {}", in_.offset());
  push(Kind::kText).text = {as_bytes(line.substr(1, line.size() - 2)), Spelling::kStringEscapes};
}

bool Machine::memo_step(Op op) {
  switch (op) {
    case Op::kPut:
      memoize(decimal_index());
      return true;
    case Op::kBinPut:
      memoize(in_.read<std::uint8_t>());
      return true;
    case Op::kLongBinPut:
      memoize(in_.read<std::uint32_t>());
      return true;
    case Op::kMemoize:
      memoize(memo_.size());
      return true;
    case Op::kGet:
      recall(decimal_index());
      return true;
    case Op::kBinGet:
      recall(in_.read<std::uint8_t>());
      return true;
    case Op::kLongBinGet:
      recall(in_.read<std::uint32_t>());
      return true;
    default:
      return false;
  }
}

std::uint64_t Machine::decimal_index() {
  const std::string_view text = in_.line();
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc{} && end == text.data() + text.size(), "pickle: \"{}\" is no memo index",
          printable(text));
  return value;
}

void Machine::memoize(std::uint64_t index) {
  memo_[index] = top();
  require(memo_.size() <= kMaxValues, "pickle: more than {} values in the memo", kMaxValues);
}

void Machine::recall(std::uint64_t index) {
  const auto found = memo_.find(index);
  require(found != memo_.end(), "pickle: value {} of the memo is used at byte {} before it is made", index,
          in_.offset());
  push(found->second);
}

bool Machine::container_step(Op op) {
  switch (op) {
    case Op::kMark:
      require(marks_.size() < kMaxStack, "pickle: more than {} marks", kMaxStack);
      marks_.push_back(stack_.size());
      return true;
    case Op::kPop:
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case Op::kPopMark:
      pop_to_mark();
      return true;
    case Op::kDup:
      push(top());
      return true;
    case Op::kEmptyDict:
      push(Kind::kDict);
      return true;
    case Op::kEmptyList:
      push(Kind::kList);
      return true;
    case Op::kEmptySet:
      push(Kind::kSet);
      return true;
    case Op::kEmptyTuple:
      push(Kind::kTuple);
      return true;
    case Op::kTuple1:
      push_tuple(1);
      return true;
    case Op::kTuple2:
      push_tuple(2);
      return true;
    case Op::kTuple3:
      push_tuple(3);
      return true;
    case Op::kDict:
    case Op::kList:
    case Op::kFrozenSet:
    case Op::kTuple: {
      const auto items = pop_to_mark();
      require(op != Op::kDict || items.size() % 2 == 0, "pickle: a dict with a key that has no value");
      append_all(push(op == Op::kDict    ? Kind::kDict
                      : op == Op::kList  ? Kind::kList
                      : op == Op::kTuple ? Kind::kTuple
                                         : Kind::kSet),
                 items);
      return true;
    }
    case Op::kAppend: {
      const Value* item = pop();
      append(mutable_top(), item);
      return true;
    }
    case Op::kSetItem: {
      const Value* value = pop();
      const Value* key = pop();
      append_all(mutable_top(), std::array{key, value});
      return true;
    }
    case Op::kAppends:
    case Op::kAddItems:
    case Op::kSetItems: {
      const auto items = pop_to_mark();
      require(op != Op::kSetItems || items.size() % 2 == 0, "pickle: a dict with a key that has no value");
      append_all(mutable_top(), items);
      return true;
    }
    default:
      return false;
  }
}

void Machine::append(Value& to, const Value* item) { append_all(to, std::array{item}); }

void Machine::append_all(Value& to, std::span<const Value* const> items) {
  references_ += items.size();
  require(references_ <= kMaxReferences, "pickle: more than {} references between values", kMaxReferences);
  // Text, numbers and names hold nothing; objects may (a subclass of dict), and nobody reads it.
  to.items.insert(to.items.end(), items.begin(), items.end());
}

void Machine::push_tuple(std::size_t size) {
  std::array<const Value*, 3> items{};
  for (std::size_t i = size; i-- > 0;) items[i] = pop();
  append_all(push(Kind::kTuple), std::span(items).first(size));
}

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
  append(value, id);
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

}  // namespace

Parsed parse(Bytes bytes, Persistent persistent) { return Machine(bytes, persistent).run(); }

}  // namespace osprey::pickle

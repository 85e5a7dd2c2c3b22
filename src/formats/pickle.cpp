#include "formats/pickle.h"

#include <array>
#include <charconv>

#include "formats/pickle_machine.h"
#include "formats/source.h"

namespace osprey::pickle {
namespace {

constexpr std::size_t kMaxValues = 2'000'000;
constexpr std::size_t kMaxReferences = 8'000'000;
constexpr std::size_t kMaxStack = 1'000'000;

}  // namespace

Parsed parse(Bytes bytes, Persistent persistent) { return Machine(bytes, persistent).run(); }

Parsed Machine::run() {
  while (true) {
    const auto op = static_cast<Op>(in_.read<unsigned char>());
    if (op == Op::kStop) break;
    step(op);
  }
  out_.root = pop();
  out_.size = in_.offset();
  return std::move(out_);
}

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
      append_all(container(Kind::kList), std::array{item});
      return true;
    }
    case Op::kSetItem: {
      const Value* value = pop();
      const Value* key = pop();
      append_all(container(Kind::kDict), std::array{key, value});
      return true;
    }
    case Op::kAppends:
    case Op::kAddItems: {
      const auto items = pop_to_mark();
      append_all(container(op == Op::kAppends ? Kind::kList : Kind::kSet), items);
      return true;
    }
    case Op::kSetItems: {
      const auto items = pop_to_mark();
      require(items.size() % 2 == 0, "pickle: a dict with a key that has no value");
      append_all(container(Kind::kDict), items);
      return true;
    }
    default:
      return false;
  }
}

Value& Machine::container(Kind kind) {
  Value& value = mutable_top();
  require(value.kind == kind || value.kind == Kind::kObject, "pickle: adds an item to {} at byte {}",
          describe(value), in_.offset());
  return value;
}

void Machine::append_all(Value& to, std::span<const Value* const> items) {
  references_ += items.size();
  require(references_ <= kMaxReferences, "pickle: more than {} references between values", kMaxReferences);
  to.items.insert(to.items.end(), items.begin(), items.end());
}

void Machine::push_tuple(std::size_t size) {
  std::array<const Value*, 3> items{};
  for (std::size_t i = size; i-- > 0;) items[i] = pop();
  append_all(push(Kind::kTuple), std::span(items).first(size));
}

}  // namespace osprey::pickle

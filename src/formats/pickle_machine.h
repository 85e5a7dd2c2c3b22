// The stack machine behind pickle::parse(): one value stack with marks, a memo, and an arena of values. Each
// opcode belongs to one of the *_step functions, which says whether it took it.
#pragma once

#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/bytes.h"
#include "formats/pickle.h"
#include "formats/pickle_ops.h"

namespace osprey::pickle {

class Machine {
 public:
  Machine(Bytes bytes, Persistent persistent) : in_(bytes, "pickle"), persistent_(persistent) {}

  Parsed run();

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
  // The top, which must be of the kind, or an object, whose items nobody reads.
  Value& container(Kind kind);

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

}  // namespace osprey::pickle

// An op, declared once: attributes, contract and shape rule. Everything that handles ops without knowing
// them (files, printing, the verifier, executors) goes through OpInfo and Op.
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graph/attributes.h"
#include "graph/dim.h"

namespace osprey {

// What an op's shape rule sees: the types of its inputs, absent ones included, and a place to bind extents by
// name, so that "C of the features" and "C of the weights" are checked against each other.
class OpInputs {
 public:
  OpInputs(std::string_view op, std::vector<const TensorType*> types) : op_(op), types_(std::move(types)) {}

  std::size_t count() const { return types_.size(); }
  bool has(std::size_t i) const { return i < types_.size() && types_[i] != nullptr; }
  const TensorType& operator[](std::size_t i) const;

  struct Extent {
    Extent(const char* n) : name(n) {}    // NOLINT: specs read as {"N", 3, "H"}
    Extent(std::int64_t v) : value(v) {}  // NOLINT
    Extent(int v) : value(v) {}           // NOLINT
    std::string name;
    std::int64_t value = 0;
  };
  // Input i is there, has one of the element types, and these extents. A name that was bound before must
  // match, "_" matches anything. An at-most extent matches one with the same bound.
  void expect(std::size_t i, std::string_view what, std::initializer_list<DType> types,
              std::initializer_list<Extent> dims) const;
  // The extent bound to a name.
  const Dim& dim(std::string_view name) const;
  // Exactly this many inputs (absent trailing ones may be left out).
  void expect_count(std::size_t least, std::size_t most) const;

  std::string_view op() const { return op_; }

 private:
  std::string_view op_;
  std::vector<const TensorType*> types_;
  mutable std::map<std::string, Dim, std::less<>> bound_;
};

struct OpInfo {
  std::string_view name;
  std::shared_ptr<const void> (*make)(const Attributes&);
  Attributes (*attributes)(const void*);
  std::vector<TensorType> (*infer)(const void*, const OpInputs&);
};

// One op's attributes with its type erased. Immutable and cheap to copy.
class Op {
 public:
  Op(const OpInfo* info, std::shared_ptr<const void> op) : info_(info), op_(std::move(op)) {}
  template <class T>
  requires requires { T::kName; }
  Op(T op);  // NOLINT: an op struct is an op

  const OpInfo& info() const { return *info_; }
  std::string_view name() const { return info_->name; }
  Attributes attributes() const { return info_->attributes(op_.get()); }
  std::vector<TensorType> infer(const OpInputs& in) const { return info_->infer(op_.get(), in); }
  // The typed attributes, or null when this is another op.
  template <class T>
  const T* as() const;

  bool operator==(const Op& other) const {
    return info_ == other.info_ && attributes() == other.attributes();
  }

 private:
  const OpInfo* info_;
  std::shared_ptr<const void> op_;
};

// The fields of a const op; fields() itself is not const so that the same visitor can read a file into it.
template <class T, class F>
void visit_fields(const T& op, F& f) {
  const_cast<T&>(op).fields(f);
}

template <class T>
Attributes attributes_of(const T& op) {
  AttributeWriter writer;
  visit_fields(op, writer);
  return writer.take();
}

template <class T>
std::vector<TensorType> infer_types(const T& op, const OpInputs& in) {
  if constexpr (std::is_same_v<decltype(op.infer(in)), TensorType>) {
    return {op.infer(in)};
  } else {
    return op.infer(in);
  }
}

template <class T>
inline const OpInfo kOpInfo{
    T::kName,
    [](const Attributes& in) -> std::shared_ptr<const void> {
      auto op = std::make_shared<T>();
      AttributeReader reader(T::kName, in);
      op->fields(reader);
      reader.finish();
      return op;
    },
    [](const void* op) { return attributes_of(*static_cast<const T*>(op)); },
    [](const void* op, const OpInputs& in) { return infer_types(*static_cast<const T*>(op), in); }};

template <class T>
requires requires { T::kName; }
Op::Op(T op) : info_(&kOpInfo<T>), op_(std::make_shared<const T>(std::move(op))) {}

template <class T>
const T* Op::as() const {
  return info_ == &kOpInfo<T> ? static_cast<const T*>(op_.get()) : nullptr;
}

}  // namespace osprey

#include "formats/collect.h"

#include <unordered_set>

namespace osprey {
namespace {

using pickle::Kind;
using pickle::Value;

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxTensors = 200'000;
constexpr std::size_t kMaxKey = 4096;
constexpr std::size_t kMaxNames = std::size_t{64} << 20;
constexpr std::size_t kMaxSteps = 1'000'000;

class Collector {
 public:
  Collector(Checkpoint& out, const Source& source, const ReadLeaf& read)
      : out_(out), source_(source), read_(read) {}

  void visit(const Value& value, bool in_list) {
    require(++steps_ <= kMaxSteps, "more than {} values (do some contain themselves?)", kMaxSteps);
    if (take_leaf(value)) return;
    switch (value.kind) {
      case Kind::kDict:
        visit_dict(value, in_list);
        return;
      case Kind::kList:
      case Kind::kTuple:
        visit_list(value);
        return;
      default:
        if (!in_list) take_scalar(value);
    }
  }

 private:
  void visit_dict(const Value& dict, bool in_list) {
    for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      enter(key_name(*dict.items[i], i / 2));
      visit(*dict.items[i + 1], in_list);
      path_.pop_back();
    }
  }

  void visit_list(const Value& list) {
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      enter(std::to_string(i));
      visit(*list.items[i], true);
      path_.pop_back();
    }
  }

  void enter(std::string key) {
    require(path_.size() < kMaxDepth, "more than {} levels of dicts and lists (do some contain themselves?)",
            kMaxDepth);
    charge(key.size());
    path_.push_back(std::move(key));
  }

  void charge(std::size_t bytes) {
    names_ += bytes;
    require(names_ <= kMaxNames, "more than {} bytes of names", kMaxNames);
  }

  static std::string key_name(const Value& key, std::size_t index) {
    if (const auto text = pickle::text_of(key, kMaxKey)) return *text;
    if (const auto number = pickle::int_of(key)) return std::to_string(*number);
    return fmt::format("#{}", index);
  }

  bool take_leaf(const Value& value) {
    auto leaf = read_named(value);
    if (!leaf) return false;
    const std::string name = path_.empty() ? "" : path_.back();
    const std::string section = path(path_.empty() ? 0 : path_.size() - 1);
    charge(section.size() + name.size());
    if (!leaf->load) {
      out_.scalars[path(path_.size())] = leaf->note;
      return true;
    }
    require(out_.tensors.size() < kMaxTensors, "more than {} tensors", kMaxTensors);
    require(seen_.insert(section + '\0' + name).second, "two tensors are named \"{}\"", printable(name));
    add_tensor(out_, source_, {section, name, leaf->dtype, std::move(leaf->shape), std::move(leaf->load)});
    return true;
  }

  // Not in_context(): the path is only worth building for a message.
  std::optional<Leaf> read_named(const Value& value) const {
    try {
      return read_(value);
    } catch (const Error& e) {
      throw Error(e.code(), fmt::format("\"{}\": {}", printable(path(path_.size())), e.what()));
    }
  }

  void take_scalar(const Value& value) {
    std::string text;
    switch (value.kind) {
      case Kind::kBool:
        text = value.integer ? "True" : "False";
        break;
      case Kind::kInt:
        text = std::to_string(value.integer);
        break;
      case Kind::kFloat:
        text = fmt::format("{}", value.real);
        break;
      case Kind::kText:
        if (value.text.data.size() > kMaxKey) return;  // a log or a source file: nothing that is looked up
        text = pickle::decode_text(value.text, kMaxKey);
        break;
      default:
        return;
    }
    charge(text.size());
    std::string name = path(path_.size());
    charge(name.size());
    out_.scalars[std::move(name)] = std::move(text);
  }

  std::string path(std::size_t parts) const {
    std::string out;
    for (std::size_t i = 0; i < parts; ++i) out.append(i ? "/" : "").append(path_[i]);
    return out;
  }

  Checkpoint& out_;
  const Source& source_;
  const ReadLeaf& read_;
  std::vector<std::string> path_;
  std::unordered_set<std::string> seen_;
  std::size_t steps_ = 0, names_ = 0;
};

}  // namespace

void add_tensor(Checkpoint& to, const Source& source, NamedTensor tensor) {
  tensor.load = [where = fmt::format("{}: tensor \"{}\"", source.name, printable(tensor.name)),
                 load = std::move(tensor.load)] { return in_context(where, load); };
  to.tensors.push_back(std::move(tensor));
}

Checkpoint collect(std::string format, const Value& root, const Source& source, const ReadLeaf& read) {
  Checkpoint out;
  out.format = std::move(format);
  Collector(out, source, read).visit(root, false);
  return out;
}

}  // namespace osprey

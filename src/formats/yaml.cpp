#include "formats/yaml.h"

#include <map>
#include <sstream>
#include <unordered_map>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "core/error.h"
#include "core/file.h"
#include "formats/python_literal.h"
#include "formats/source.h"

namespace osprey {
namespace {

using Kind = ConfigTree::Kind;

constexpr std::size_t kMaxText = std::size_t{1} << 20;
constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxNodes = 200'000;
constexpr std::size_t kMaxKey = 256;
constexpr std::size_t kMaxBases = 16;

// "tag:yaml.org,2002:python/tuple" as it is written: "!!python/tuple". yaml-cpp reports "?" for plain nodes
// and "!" for quoted ones.
std::string short_tag(const std::string& tag) {
  constexpr std::string_view kPrefix = "tag:yaml.org,2002:";
  if (tag == "?" || tag == "!") return {};
  if (tag.starts_with(kPrefix)) return "!!" + tag.substr(kPrefix.size());
  return tag;
}

// A finished node with what copying it will cost.
struct Sized {
  ConfigTree node;
  std::size_t nodes = 1, depth = 1;
};

// Builds the tree from the parser's events.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(const std::string& name) : file_(std::make_shared<std::string>(name)) {
    root_.node.file = file_;  // of a file without a document
  }

  ConfigTree take() { return std::move(root_.node); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    count(1, mark);
    finish({at(mark)}, anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    require(found != anchors_.end(), "{}: an alias of a node that contains it", at(mark).where());
    count(found->second.nodes, mark);
    Sized copy = found->second;
    finish(std::move(copy), 0);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    ConfigTree node = at(mark);
    const bool plain = tag == "?";
    if (!plain || !is_yaml_null(value)) {
      node.kind = Kind::kScalar;
      node.text = value;
      node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
      node.tag = short_tag(tag);
    }
    count(1, mark);
    finish({std::move(node)}, anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Kind::kList, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Sized sized;
    YAML::anchor_t anchor = 0;
    // Of a map: the key whose value comes next.
    bool has_key = false, merges = false;
    std::string key;
    std::unordered_map<std::string, int> lines;  // of the keys so far
    std::vector<ConfigTree> merged;              // what `<<` names
  };

  ConfigTree at(const YAML::Mark& mark) const {
    ConfigTree node;
    node.file = file_;
    node.line = mark.line + 1;
    return node;
  }

  void count(std::size_t nodes, const YAML::Mark& mark) {
    nodes_ += nodes;
    require(nodes_ <= kMaxNodes, "{}: more than {} values (aliases of aliases?)", at(mark).where(),
            kMaxNodes);
  }

  void open(Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    count(1, mark);
    require(stack_.size() < kMaxDepth, "{}: more than {} levels", at(mark).where(), kMaxDepth);
    Frame frame{.sized = {at(mark)}, .anchor = anchor};
    frame.sized.node.kind = kind;
    frame.sized.node.tag = short_tag(tag);
    stack_.push_back(std::move(frame));
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    for (const auto& from : frame.merged) add_missing(frame, from);
    finish(std::move(frame.sized), frame.anchor);
  }

  void finish(Sized sized, YAML::anchor_t anchor) {
    require(stack_.size() + sized.depth <= kMaxDepth, "{}: more than {} levels", sized.node.where(),
            kMaxDepth);
    if (anchor != 0) {
      count(sized.nodes, YAML::Mark::null_mark());
      anchors_[anchor] = sized;
    }
    if (stack_.empty()) {
      root_ = std::move(sized);
      return;
    }
    Frame& parent = stack_.back();
    if (parent.sized.node.kind == Kind::kList) {
      adopt(parent, std::move(sized));
    } else if (!parent.has_key) {
      take_key(parent, sized.node);
    } else {
      parent.has_key = false;
      take_value(parent, std::move(sized));
    }
  }

  static void adopt(Frame& parent, Sized sized) {
    parent.sized.nodes += sized.nodes;
    parent.sized.depth = std::max(parent.sized.depth, sized.depth + 1);
    parent.sized.node.items.push_back(std::move(sized.node));
  }

  static void take_key(Frame& map, const ConfigTree& key) {
    require(key.is_scalar() || key.is_null(), "{}: a key that is no text", key.where());
    const std::string text = key.is_null() ? "null" : key.text;
    require(text.size() <= kMaxKey, "{}: a key of {} bytes", key.where(), text.size());
    map.has_key = true;
    map.key = text;
    map.merges = text == "<<" && !key.quoted;
    if (map.merges) return;
    const auto [row, added] = map.lines.emplace(text, key.line);
    require(added, "{}: the key \"{}\" is there twice, first in line {}", key.where(), printable(text),
            row->second);
  }

  static void take_value(Frame& map, Sized sized) {
    if (!map.merges) {
      sized.node.key = map.key;
      adopt(map, std::move(sized));
      return;
    }
    const ConfigTree& from = sized.node;
    if (from.is_map()) {
      map.merged.push_back(from);
    } else {
      if (!from.is_list()) from.refuse("a map, or a list of maps, to merge");
      map.merged.insert(map.merged.end(), from.items.begin(), from.items.end());
    }
    map.sized.nodes += sized.nodes;
    map.sized.depth = std::max(map.sized.depth, sized.depth);
  }

  // The map's own keys win over merged ones, and earlier merged maps over later ones.
  static void add_missing(Frame& map, const ConfigTree& from) {
    if (!from.is_map()) from.refuse("a map to merge");
    for (const auto& item : from.items)
      if (map.lines.emplace(item.key, item.line).second) map.sized.node.items.push_back(item);
  }

  std::shared_ptr<const std::string> file_;
  std::vector<Frame> stack_;
  std::unordered_map<YAML::anchor_t, Sized> anchors_;
  Sized root_;
  std::size_t nodes_ = 0;
};

void locate(ConfigTree& node, const ConfigTree& written) {
  node.file = written.file;
  node.line = written.line;
  for (auto& item : node.items) locate(item, written);
}

// What yacs does to every value that is text; tags keep theirs for whoever understands them.
void decode_literals(ConfigTree& node) {
  for (auto& item : node.items) decode_literals(item);
  if (!node.is_scalar() || !node.tag.empty()) return;
  auto literal = parse_python_literal(node.text);
  if (!literal) return;
  locate(*literal, node);
  literal->key = node.key;
  node = std::move(*literal);
}

// A config that is being loaded: for cycles, and to find its bases.
struct Origin {
  std::string name;              // for messages
  std::filesystem::path folder;  // on disk, or within what find_base knows
  bool on_disk = true;
};

class Loader {
 public:
  explicit Loader(const FindBase& find_base) : find_base_(find_base) {}

  ConfigTree load_file(const std::filesystem::path& file) {
    return load(read_text(file, kMaxText), {file.string(), file.parent_path(), true},
                std::filesystem::weakly_canonical(file).string());
  }

 private:
  ConfigTree load(const std::string& text, const Origin& origin, const std::string& identity) {
    for (const auto& open : open_)
      require(open != identity, "{}: is its own base, through `_BASE_`", origin.name);
    require(++loaded_ <= kMaxBases + 1, "{}: more than {} bases", origin.name, kMaxBases);
    open_.push_back(identity);
    ConfigTree own = parse_yaml(text, origin.name);
    ConfigTree out = own;
    if (const ConfigTree* base = own.child("_BASE_")) {
      out = load_bases(*base, origin);
      std::erase_if(own.items, [](const ConfigTree& item) { return item.key == "_BASE_"; });
      merge(out, own);
    }
    open_.pop_back();
    return out;
  }

  ConfigTree load_bases(const ConfigTree& base, const Origin& origin) {
    const auto paths = base.is_list() ? base.as_strings() : std::vector{base.as_string()};
    ConfigTree out;
    out.kind = Kind::kMap;
    for (const auto& path : paths) merge(out, load_base(path, base, origin));
    return out;
  }

  ConfigTree load_base(const std::string& path, const ConfigTree& node, const Origin& origin) {
    require(!path.empty() && std::filesystem::path(path).is_relative() &&
                path.find("://") == std::string::npos && path[0] != '~' &&
                path.find('\0') == std::string::npos,
            "{}: \"{}\" is no path relative to this file", node.where(), printable(path));
    const auto joined = (origin.folder / path).lexically_normal();
    std::error_code ignored;
    if (origin.on_disk && std::filesystem::is_regular_file(joined, ignored)) return load_file(joined);
    const std::string asked = origin.on_disk ? path : joined.string();
    const auto text = find_base_ ? find_base_(asked) : std::nullopt;
    require(text.has_value(), "{}: its base {} does not exist", node.where(),
            printable(joined.string(), 200));
    return load(*text, {asked, std::filesystem::path(asked).parent_path(), false}, "built in: " + asked);
  }

  const FindBase& find_base_;
  std::vector<std::string> open_;
  std::size_t loaded_ = 0;
};

}  // namespace

ConfigTree parse_yaml(std::string_view text, const std::string& name) {
  require(text.size() <= kMaxText, "{}: {} bytes of YAML are more than the {} that are read", name,
          text.size(), kMaxText);
  std::istringstream stream{std::string(text)};
  Builder builder(name);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
  } catch (const YAML::Exception& e) {
    bad_input("{}:{}: {}", name, e.mark.line + 1, e.msg);
  }
  ConfigTree out = builder.take();
  decode_literals(out);
  in_context(name, [&] { assign_paths(out, ""); });
  return out;
}

ConfigTree load_config(const std::filesystem::path& file, const FindBase& find_base) {
  ConfigTree out = Loader(find_base).load_file(file);
  if (!out.is_map()) out.refuse("a map of options");
  return out;
}

}  // namespace osprey

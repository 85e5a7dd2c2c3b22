#include "arch/maskrcnn_benchmark/fbnet_arch.h"

#include <algorithm>
#include <array>

#include <fmt/ranges.h>

#include "core/error.h"
#include "formats/python_literal.h"

namespace osprey::maskrcnn_benchmark {
namespace {

constexpr std::string_view kArch = "MODEL.FBNET.ARCH", kArchDef = "MODEL.FBNET.ARCH_DEF";
constexpr int kMaxBlocks = 256, kMaxWidth = 1 << 16, kMaxExpansion = 64;

constexpr FbnetOp kOps[]{
    {.name = "ir_k1", .kernel = 1},
    {.name = "ir_k3", .kernel = 3},
    {.name = "ir_k5", .kernel = 5},
    {.name = "ir_k7", .kernel = 7},
    {.name = "ir_k3_e1", .kernel = 3, .expansion = 1},
    {.name = "ir_k3_e3", .kernel = 3, .expansion = 3},
    {.name = "ir_k3_e6", .kernel = 3, .expansion = 6},
    {.name = "ir_k5_e1", .kernel = 5, .expansion = 1},
    {.name = "ir_k5_e3", .kernel = 5, .expansion = 3},
    {.name = "ir_k5_e6", .kernel = 5, .expansion = 6},
    {.name = "ir_k7_e1", .kernel = 7, .expansion = 1},
    {.name = "ir_k7_e3", .kernel = 7, .expansion = 3},
    {.name = "ir_k7_e6", .kernel = 7, .expansion = 6},
    {.name = "ir_k3_e1_se", .kernel = 3, .expansion = 1, .gated = true},
    {.name = "ir_k3_e3_se", .kernel = 3, .expansion = 3, .gated = true},
    {.name = "ir_k3_e6_se", .kernel = 3, .expansion = 6, .gated = true},
    {.name = "ir_k5_e1_se", .kernel = 5, .expansion = 1, .gated = true},
    {.name = "ir_k5_e3_se", .kernel = 5, .expansion = 3, .gated = true},
    {.name = "ir_k5_e6_se", .kernel = 5, .expansion = 6, .gated = true},
    {.name = "ir_k3_sep", .kernel = 3, .twice = true},
    {.name = "ir_k33_e1", .kernel = 3, .expansion = 1, .twice = true},
    {.name = "ir_k33_e3", .kernel = 3, .expansion = 3, .twice = true},
    {.name = "ir_k33_e6", .kernel = 3, .expansion = 6, .twice = true},
    {.name = "ir_k7_sep", .kernel = 7, .twice = true},
    {.name = "ir_k7_sep_e1", .kernel = 7, .expansion = 1, .twice = true},
    {.name = "ir_k7_sep_e3", .kernel = 7, .expansion = 3, .twice = true},
    {.name = "ir_k7_sep_e6", .kernel = 7, .expansion = 6, .twice = true},
};

// "skip", "basic_block" and "shift_5x5" are in the framework's list, but it cannot build them.
FbnetOp op_named(const Config& config, const std::string& name) {
  const auto* op =
      std::find_if(std::begin(kOps), std::end(kOps), [&](const FbnetOp& o) { return o.name == name; });
  if (op == std::end(kOps))
    config.refuse(kArchDef,
                  fmt::format("block type '{}' is not (nor are shuffled channels, such as "
                              "'ir_k3_s4'); ir_k3, ir_k5_e6, ir_k3_e6_se, ir_k33_e3 and the like are",
                              name));
  return *op;
}

// Blocks one after the other that differ in their stride alone: the others have 1.
struct Run {
  std::vector<std::string> ops;  // as many as blocks
  double expansion = 1;
  int width = 0, stride = 1;
};

void append(const Config& config, std::vector<FbnetBlock>& blocks, int stage, const Run& run) {
  int index = !blocks.empty() && blocks.back().stage == stage ? blocks.back().index + 1 : 0;
  int stride = run.stride;
  for (const std::string& name : run.ops) {
    const FbnetOp op = op_named(config, name);
    blocks.push_back({.op = op,
                      .stage = stage,
                      .index = index++,
                      .expansion = op.expansion > 0 ? op.expansion : run.expansion,
                      .width = run.width,
                      .stride = stride});
    stride = 1;
  }
}

struct OfficialRun {
  int kernel, expansion, width, count, stride;
};
struct OfficialArch {
  std::string_view name;
  int first_width;  // of stride 2
  std::vector<std::vector<OfficialRun>> stages;
  std::map<std::string, std::vector<int>, std::less<>> parts;
};

// modeling/backbone/fbnet_modeldef.py. No head has a convolution after its blocks, but for a width of its own
// (MODEL.FBNET.DET_HEAD_LAST_SCALE below 0).
const std::vector<OfficialArch>& official_archs() {
  static const std::vector<int> kTrunk{0, 1, 2, 3};
  static const std::vector<OfficialArch> kTable{
      {"default",
       32,
       {{{3, 1, 16, 1, 1}},
        {{3, 6, 24, 2, 2}},
        {{3, 6, 32, 3, 2}},
        {{3, 6, 64, 4, 2}, {3, 6, 96, 3, 1}},
        {{3, 4, 160, 1, 2}, {3, 6, 160, 2, 1}, {3, 6, 240, 1, 1}},
        {{3, 6, 96, 3, 1}},
        {{3, 4, 160, 1, 1}, {3, 6, 160, 3, 1}, {3, 3, 80, 1, -2}}},
       {{"backbone", kTrunk}, {"bbox", {4}}, {"rpn", {5}}, {"mask", {6}}}},
      {"xirb16d_dsmask",
       16,
       {{{3, 1, 16, 1, 1}},
        {{3, 6, 32, 2, 2}},
        {{3, 6, 48, 3, 2}},
        {{3, 6, 96, 4, 2}, {3, 6, 128, 3, 1}},
        {{3, 4, 128, 1, 2}, {3, 6, 128, 2, 1}, {3, 6, 160, 1, 1}},
        {{3, 4, 128, 1, 2}, {3, 6, 128, 2, 1}, {3, 6, 128, 1, -2}, {3, 3, 64, 1, -2}},
        {{3, 6, 128, 3, 1}}},
       {{"backbone", kTrunk}, {"bbox", {4}}, {"mask", {5}}, {"rpn", {6}}}},
      {"mobilenet_v2",
       32,
       {{{3, 1, 16, 1, 1}},
        {{3, 6, 24, 2, 2}},
        {{3, 6, 32, 3, 2}},
        {{3, 6, 64, 4, 2}, {3, 6, 96, 3, 1}},
        {{3, 6, 160, 3, 1}, {3, 6, 320, 1, 1}}},
       {{"backbone", kTrunk}, {"bbox", {4}}}},
      {"cham_v1a",
       32,
       {{{3, 1, 24, 1, 1}},
        {{7, 4, 48, 2, 2}},
        {{3, 7, 64, 5, 2}},
        {{5, 12, 56, 7, 2}, {3, 8, 88, 5, 1}},
        {{3, 7, 152, 4, 2}, {3, 10, 104, 1, 1}},
        {{3, 8, 88, 3, 1}}},
       {{"backbone", kTrunk}, {"bbox", {4}}, {"rpn", {5}}}},
      {"cham_v2",
       32,
       {{{3, 1, 24, 1, 1}},
        {{5, 8, 32, 4, 2}},
        {{7, 5, 48, 6, 2}},
        {{5, 9, 56, 3, 2}, {3, 6, 56, 6, 1}},
        {{3, 2, 160, 6, 2}, {3, 6, 112, 1, 1}},
        {{3, 6, 56, 1, 1}}},
       {{"backbone", kTrunk}, {"bbox", {4}}, {"rpn", {5}}}},
  };
  return kTable;
}

FbnetArch official(const Config& config, const OfficialArch& arch) {
  FbnetArch out{.first = {arch.first_width, 2, 3}, .blocks = {}, .stages = arch.parts};
  for (std::size_t s = 0; s < arch.stages.size(); ++s)
    for (const OfficialRun& run : arch.stages[s]) {
      const std::vector<std::string> ops(static_cast<std::size_t>(run.count),
                                         fmt::format("ir_k{}", run.kernel));
      append(config, out.blocks, static_cast<int>(s),
             {.ops = ops, .expansion = double(run.expansion), .width = run.width, .stride = run.stride});
    }
  return out;
}

// The text of MODEL.FBNET.ARCH_DEF, every key of it read or refused.
class Definition {
 public:
  Definition(const Config& config, ConfigTree tree) : config_(config), tree_(std::move(tree)) {
    check_keys();
  }

  FbnetArch arch() const {
    FbnetArch out{.first = first(), .blocks = blocks(), .stages = {}};
    for (const std::string_view part : kParts)
      if (const ConfigTree* stages = entry(part)) out.stages.emplace(part, whole(*stages, 0, kMaxBlocks));
    if (!out.stages.contains("backbone")) {
      auto& trunk = out.stages["backbone"];
      for (int s = 0; s < out.blocks.back().stage; ++s) trunk.push_back(s);
    }
    if (const ConfigTree* last = entry("last"); last && last->is_list() && !last->items.empty())
      out.last_width = whole_number(last->items[0], 0, kMaxWidth);
    if (const ConfigTree* stride = entry("rpn_stride")) out.rpn_stride = whole_number(*stride, 1, kMaxWidth);
    return out;
  }

 private:
  static constexpr std::array<std::string_view, 6> kParts{"backbone", "rpn", "bbox", "mask", "kpts", "head"};

  [[noreturn]] void refuse(const std::string& why) const { config_.refuse(kArchDef, why); }

  void check_keys() const {
    const auto known = [](const ConfigTree& item) {
      constexpr std::array<std::string_view, 6> kOthers{"block_op_type", "block_cfg", "first",
                                                        "stages",        "last",      "rpn_stride"};
      return std::find(kOthers.begin(), kOthers.end(), item.key) != kOthers.end() ||
             std::find(kParts.begin(), kParts.end(), item.key) != kParts.end();
    };
    const ConfigTree* cfg = tree_.child("block_cfg");
    if (!cfg || !cfg->is_map()) refuse("a definition has a map \"block_cfg\"; this one");
    for (const ConfigTree* map : {&tree_, cfg})
      for (const ConfigTree& item : map->items)
        if (!known(item)) refuse(fmt::format("key \"{}\" of a definition is not", item.key));
  }

  // Those of "block_cfg" win.
  const ConfigTree* entry(std::string_view key) const {
    const ConfigTree* inner = tree_.at("block_cfg").child(key);
    return inner ? inner : tree_.child(key);
  }
  const ConfigTree& list(std::string_view key) const {
    const ConfigTree* out = entry(key);
    if (!out || !out->is_list()) refuse(fmt::format("a definition has a list \"{}\"; this one", key));
    return *out;
  }
  int whole_number(const ConfigTree& node, int least, int most) const {
    const std::int64_t value = node.as_int();
    if (value < least || value > most)
      refuse(fmt::format("numbers from {} to {} are in its place, {}", least, most, value));
    return static_cast<int>(value);
  }
  std::vector<int> whole(const ConfigTree& node, int least, int most) const {
    std::vector<int> out;
    if (node.is_null()) return out;
    if (!node.is_list()) refuse("lists of stages are, not " + node.text);
    for (const ConfigTree& item : node.items) out.push_back(whole_number(item, least, most));
    return out;
  }

  std::vector<int> first() const {
    auto out = whole(list("first"), 1, kMaxWidth);
    if (out.size() < 2) refuse("\"first\" is [width, stride], and a kernel where it is not 3; a shorter one");
    out.resize(std::max<std::size_t>(out.size(), 3), 3);
    if (out[1] == 3 || out[1] > 4 || out[2] % 2 == 0)
      refuse("\"first\" with a stride of 1, 2 or 4 and an odd kernel is; another one");
    return out;
  }

  Run run_of(const ConfigTree& node) const {
    if (!node.is_list() || node.items.size() != 4)
      refuse("a stage is a list of [expansion, width, count, stride]; another one");
    Run out{.ops = {},
            .expansion = node.items[0].as_double(),
            .width = whole_number(node.items[1], 1, kMaxWidth),
            .stride = whole_number(node.items[3], -4, 4)};
    if (!(out.expansion > 0 && out.expansion <= kMaxExpansion))
      refuse(fmt::format("expansions above 0, to {}, are", kMaxExpansion));
    if (out.stride == 0 || std::abs(out.stride) == 3) refuse("strides of 1, 2, 4, -1, -2 and -4 are");
    out.ops.resize(static_cast<std::size_t>(whole_number(node.items[2], 0, kMaxBlocks)));
    return out;
  }

  std::vector<FbnetBlock> blocks() const {
    const ConfigTree &stages = list("stages"), &types = list("block_op_type");
    if (stages.items.size() != types.items.size() || stages.items.size() > kMaxBlocks)
      refuse("\"block_op_type\" has an entry for each stage; one of another length");
    std::vector<FbnetBlock> out;
    for (std::size_t s = 0; s < stages.items.size(); ++s) {
      const auto ops = types.items[s].as_strings();
      if (!stages.items[s].is_list()) refuse("a stage is a list; another one");
      std::size_t used = 0;
      for (const ConfigTree& item : stages.items[s].items) {
        Run run = run_of(item);
        if (run.ops.size() > ops.size() - used)
          refuse(fmt::format("stage {} has too few block types: it", s));
        for (std::string& op : run.ops) op = ops[used++];
        append(config_, out, static_cast<int>(s), run);
      }
      if (used != ops.size()) refuse(fmt::format("stage {} has too many block types: it", s));
    }
    if (out.empty() || out.size() > kMaxBlocks) refuse(fmt::format("1 to {} blocks are", kMaxBlocks));
    return out;
  }

  const Config& config_;
  ConfigTree tree_;
};

FbnetArch defined(const Config& config, const std::string& text) {
  auto tree = parse_python_literal(text);
  if (!tree || !tree->is_map()) config.refuse(kArchDef, "only a map in JSON, as a text, is");
  return Definition(config, std::move(*tree)).arch();
}

// What of the two must be equal, as text.
std::string written(const FbnetArch& arch) {
  std::string out =
      fmt::format("{} {} {}", fmt::join(arch.first, ","), arch.last_width, arch.rpn_stride.value_or(0));
  for (const FbnetBlock& b : arch.blocks)
    out += fmt::format(" {}:{}:{}:{}:{}", b.stage, b.op.name, b.expansion, b.width, b.stride);
  for (const auto& [part, stages] : arch.stages) out += fmt::format(" {}={}", part, fmt::join(stages, ","));
  return out;
}

}  // namespace

std::vector<FbnetBlock> FbnetArch::blocks_of(std::string_view part) const {
  const auto it = stages.find(part);
  if (it == stages.end() || it->second.empty()) return blocks;
  std::vector<FbnetBlock> out;
  for (const FbnetBlock& block : blocks)
    if (std::find(it->second.begin(), it->second.end(), block.stage) != it->second.end())
      out.push_back(block);
  return out;
}

FbnetArch fbnet_arch(const Config& config) {
  const std::string name = config.text(kArch), definition = config.text(kArchDef);
  const auto& table = official_archs();
  const auto known =
      std::find_if(table.begin(), table.end(), [&](const OfficialArch& a) { return a.name == name; });
  if (known == table.end()) {
    std::vector<std::string_view> names;
    for (const OfficialArch& a : table) names.push_back(a.name);
    if (definition.empty())
      config.refuse(kArch,
                    fmt::format("without a definition in {} only {} are", kArchDef, fmt::join(names, ", ")));
    return defined(config, definition);
  }
  FbnetArch out = official(config, *known);
  if (!definition.empty() && written(defined(config, definition)) != written(out))
    config.refuse(kArchDef, fmt::format("'{}' is the name of another architecture: it", name));
  return out;
}

}  // namespace osprey::maskrcnn_benchmark

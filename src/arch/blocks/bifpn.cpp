#include "arch/blocks/bifpn.h"

#include "ops/max_pool.h"
#include "ops/upsample.h"
#include "ops/weighted_sum.h"

namespace osprey {
namespace {

struct Extents {
  std::int64_t height = 0, width = 0;
  bool operator==(const Extents&) const = default;
};

Extents extents_of(Net& net, ValueId x) {
  const auto& dims = net.type(x).dims;
  return {dims.at(2).constant(), dims.at(3).constant()};
}

// What a map passes before it is fused; the weights of a convolution and its norm.
struct ResampleNames {
  std::string at, conv, norm;
};

// Of a node: the `input`-th of those in front of it.
ResampleNames tf_models_resample(const BiFpn& m, std::size_t node, std::size_t input) {
  const std::string at = fmt::format("{}node_input_blocks/{}/{}/", m.prefix, node, input);
  return {at, at + "1/0", at + "1/1"};
}

ResampleNames automl_resample(const std::string& at) { return {at, at + "conv2d", at + "bn"}; }

// 1x1 to the pyramid's width, where the map has another, or where the layer is there all the same.
ValueId to_width(Net& net, const BiFpn& m, const ResampleNames& names, bool always, ValueId x) {
  if (!always && net.channels(x) == m.width) return x;
  const ValueId y = tf_conv(net, names.conv, x, {.out = m.width, .bias = m.bias});
  return m.batch_norm ? tf_batch_norm(net, names.norm, y, m.norm) : y;
}

// Strided so that the result has at least the target's extents in pixels, each from one pixel more.
ValueId pooled(Net& net, const std::string& prefix, ValueId x, const Extents& target) {
  const Extents from = extents_of(net, x);
  const int down = static_cast<int>((from.height - 1) / target.height + 1);
  const int right = static_cast<int>((from.width - 1) / target.width + 1);
  const MaxPool pool{.kernel = {down + 1, right + 1}, .stride = {down, right}, .padding = Padding::kSame};
  return net.add(pool, {x}, prefix + "max_pool");
}

// A map of the pyramid's width as a node fuses it: one whose pixels are repeated is read at its own size.
struct Fused {
  ValueId value = kNoValue;
  int scale = 1;
};

// A map that is to be fused with others of the target's extents.
struct Source {
  ValueId value = kNoValue;
  bool of_trunk = false;
};

Fused resampled(Net& net, const BiFpn& m, const ResampleNames& names, const Source& x,
                const Extents& target) {
  const auto projected = [&](ValueId value) {
    return to_width(net, m, names, m.project_trunk && x.of_trunk, value);
  };
  const Extents from = extents_of(net, x.value);
  if (from.height > target.height && from.width > target.width)
    return {m.conv_after_downsample ? projected(pooled(net, names.at, x.value, target))
                                    : pooled(net, names.at, projected(x.value), target)};
  require(from.height <= target.height && from.width <= target.width,
          "{}: a map of {} x {} cannot be fused with one of {} x {}; choose another image_size", names.at,
          from.height, from.width, target.height, target.width);
  const ValueId y = projected(x.value);
  if (from == target) return {y};
  const std::int64_t scale = target.height / from.height;
  if (from.height * scale == target.height && from.width * scale == target.width)
    return {y, static_cast<int>(scale)};
  const Upsample up{.height = static_cast<int>(target.height), .width = static_cast<int>(target.width)};
  return {net.add(up, {y}, names.at + "upsample")};
}

// Levels that the trunk does not reach, each half as large as the one before. Returns how many it has.
std::size_t add_levels(Net& net, const BiFpn& m, Features& levels) {
  const std::size_t trunk = levels.size();
  for (std::size_t added = 0; levels.size() < m.levels(); ++added) {
    const Feature last = levels.back();
    const Extents from = extents_of(net, last.value);
    const std::string name = fmt::format("resample_p{}", m.min_level + static_cast<int>(levels.size()));
    const Extents half{(from.height + 1) / 2, (from.width + 1) / 2};
    const ResampleNames names = m.tf_models ? tf_models_resample(m, added, 0) : automl_resample(name + "/");
    const Fused next = resampled(net, m, names, {last.value, added == 0}, half);
    levels.push_back({name, net.stage(name, next.value), last.stride * 2});
  }
  return trunk;
}

// A node's place in the network.
struct NodePlace {
  int cell = 0;
  std::size_t n = 0;     // in the cell
  std::size_t id = 0;    // from the cell's inputs up
  std::size_t node = 0;  // counted through
};

struct NodeNames {
  std::string fuse;  // of the sum, which has no weights of its own name
  std::vector<ResampleNames> inputs;
  std::vector<std::string> weights;  // of the inputs
  std::string conv, norm;
};

NodeNames automl_names(const BiFpnNode& node, const NodePlace& place) {
  const std::string at = fmt::format("fpn_cells/cell_{}/fnode{}/", place.cell, place.n);
  NodeNames out{.fuse = at + "fuse"};
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    out.inputs.push_back(
        automl_resample(fmt::format("{}resample_{}_{}_{}/", at, k, node.inputs[k], place.id)));
    out.weights.push_back(k == 0 ? at + "WSM" : fmt::format("{}WSM_{}", at, k));
  }
  const std::string after = fmt::format("{}op_after_combine{}/", at, place.id);
  out.conv = after + "conv";
  out.norm = after + "bn";
  return out;
}

NodeNames tf_models_names(const BiFpn& m, const BiFpnNode& node, const NodePlace& place) {
  const std::string combine = fmt::format("{}node_combine_op/{}/", m.prefix, place.node);
  NodeNames out{.fuse = combine + "fuse"};
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    out.inputs.push_back(tf_models_resample(m, place.node, k));
    out.weights.push_back(fmt::format("{}bifpn_combine_weights/{}", combine, k));
  }
  // Behind the activation, which has no weights.
  const std::string after = fmt::format("{}node_post_combine_block/{}/", m.prefix, place.node);
  out.conv = after + "1";
  out.norm = after + "2";
  return out;
}

ValueId fuse(Net& net, const BiFpn& m, const NodeNames& names, const std::vector<Fused>& maps) {
  WeightedSum sum{.normalize = m.weighted,
                  .activation = m.activation_last ? Activation::kNone : m.activation};
  std::vector<ValueId> inputs;
  for (const Fused& map : maps) {
    inputs.push_back(map.value);
    sum.scales.push_back(map.scale);
  }
  if (m.weighted)
    for (const std::string& weight : names.weights) inputs.push_back(net.weight(weight, {}));
  return net.add(std::move(sum), std::move(inputs), names.fuse);
}

ValueId after_sum(Net& net, const BiFpn& m, const NodeNames& names, ValueId x) {
  const TfConv layer{.out = m.width, .kernel = 3, .bias = m.bias && !m.activation_last};
  const ValueId y =
      m.separable ? tf_separable_conv(net, names.conv, x, layer) : tf_conv(net, names.conv, x, layer);
  const ValueId normed = tf_batch_norm(net, names.norm, y, m.norm);
  return m.activation_last ? tf_activate(net, names.norm, normed, m.activation) : normed;
}

// The cell's results: the last map made of each level. `trunk`: how many of its inputs are the trunk's maps.
std::vector<ValueId> cell(Net& net, const BiFpn& m, int index, std::size_t trunk, std::vector<ValueId> maps) {
  std::vector<ValueId> last = maps;
  const std::vector<ValueId> inputs = maps;
  const auto nodes = bifpn_nodes(m.min_level, m.max_level);
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const NodePlace place{.cell = index,
                          .n = n,
                          .id = maps.size(),
                          .node = m.levels() - trunk + static_cast<std::size_t>(index) * nodes.size() + n};
    const NodeNames names = m.tf_models ? tf_models_names(m, nodes[n], place) : automl_names(nodes[n], place);
    const auto level = static_cast<std::size_t>(nodes[n].level - m.min_level);
    const Extents target = extents_of(net, inputs[level]);
    std::vector<Fused> fused;
    for (std::size_t k = 0; k < nodes[n].inputs.size(); ++k) {
      const auto from = static_cast<std::size_t>(nodes[n].inputs[k]);
      fused.push_back(resampled(net, m, names.inputs[k], {maps[from], index == 0 && from < trunk}, target));
    }
    last[level] = after_sum(net, m, names, fuse(net, m, names, fused));
    maps.push_back(last[level]);
  }
  return last;
}

}  // namespace

std::vector<BiFpnNode> bifpn_nodes(int min_level, int max_level) {
  std::vector<std::vector<int>> made;  // of each level
  for (int level = min_level; level <= max_level; ++level) made.push_back({level - min_level});
  const auto at = [&](int level) -> std::vector<int>& {
    return made[static_cast<std::size_t>(level - min_level)];
  };
  std::vector<BiFpnNode> nodes;
  int next = max_level - min_level + 1;
  const auto add = [&](int level, std::vector<int> inputs) {
    nodes.push_back({level, std::move(inputs)});
    at(level).push_back(next++);
  };
  for (int level = max_level - 1; level >= min_level; --level)
    add(level, {at(level).back(), at(level + 1).back()});
  for (int level = min_level + 1; level <= max_level; ++level) {
    std::vector<int> inputs = at(level);
    inputs.push_back(at(level - 1).back());
    add(level, std::move(inputs));
  }
  return nodes;
}

Features bifpn(Net& net, const BiFpn& m, const Features& trunk) {
  Features levels;
  for (const Feature& f : trunk)
    if (f.stride >= 1 << m.min_level && f.stride <= 1 << m.max_level) levels.push_back(f);
  require(!levels.empty(), "min_level {}: the trunk has no level from there up", m.min_level);
  const std::size_t from_trunk = add_levels(net, m, levels);
  std::vector<ValueId> maps;
  for (const Feature& f : levels) maps.push_back(f.value);
  for (int c = 0; c < m.cells; ++c) maps = cell(net, m, c, from_trunk, std::move(maps));
  for (std::size_t i = 0; i < levels.size(); ++i) {
    levels[i].name = fmt::format("p{}", m.min_level + static_cast<int>(i));
    levels[i].value = net.stage("bifpn_" + levels[i].name, maps[i]);
  }
  return levels;
}

}  // namespace osprey

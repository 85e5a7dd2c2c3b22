#include "arch/blocks/bifpn.h"

#include "arch/blocks/tf_layers.h"
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

// 1x1 to the pyramid's width, where the map has another.
ValueId to_width(Net& net, const BiFpn& m, const std::string& prefix, ValueId x) {
  if (net.channels(x) == m.width) return x;
  const ValueId y = tf_conv(net, prefix + "conv2d", x, {.out = m.width, .bias = true});
  return m.batch_norm ? tf_batch_norm(net, prefix + "bn", y, {.exact_factor = true}) : y;
}

// Strided so that the result has at least the target's extents in pixels, each from one pixel more.
ValueId pooled(Net& net, const std::string& prefix, ValueId x, const Extents& target) {
  const Extents from = extents_of(net, x);
  const int down = static_cast<int>((from.height - 1) / target.height + 1);
  const int right = static_cast<int>((from.width - 1) / target.width + 1);
  const MaxPool pool{.kernel = {down + 1, right + 1}, .stride = {down, right}, .padding = Padding::kSame};
  return net.add(pool, {x}, prefix + "max_pool");
}

ValueId downsampled(Net& net, const BiFpn& m, const std::string& prefix, ValueId x, const Extents& target) {
  if (m.conv_after_downsample) return to_width(net, m, prefix, pooled(net, prefix, x, target));
  return pooled(net, prefix, to_width(net, m, prefix, x), target);
}

// A map of the pyramid's width as a node fuses it: one whose pixels are repeated is read at its own size.
struct Fused {
  ValueId value = kNoValue;
  int scale = 1;
};

Fused resampled(Net& net, const BiFpn& m, const std::string& prefix, ValueId x, const Extents& target) {
  const Extents from = extents_of(net, x);
  if (from.height > target.height && from.width > target.width)
    return {downsampled(net, m, prefix, x, target)};
  require(from.height <= target.height && from.width <= target.width,
          "{}: a map of {} x {} cannot be fused with one of {} x {}; choose another image_size", prefix,
          from.height, from.width, target.height, target.width);
  const ValueId y = to_width(net, m, prefix, x);
  if (from == target) return {y};
  const std::int64_t scale = target.height / from.height;
  if (from.height * scale == target.height && from.width * scale == target.width)
    return {y, static_cast<int>(scale)};
  const Upsample up{.height = static_cast<int>(target.height), .width = static_cast<int>(target.width)};
  return {net.add(up, {y}, prefix + "upsample")};
}

// Levels that the trunk does not reach, each half as large as the one before.
void add_levels(Net& net, const BiFpn& m, Features& levels) {
  for (int level = m.min_level + static_cast<int>(levels.size()); level <= m.max_level; ++level) {
    const Feature last = levels.back();
    const Extents from = extents_of(net, last.value);
    const std::string name = fmt::format("resample_p{}", level);
    const Extents half{(from.height + 1) / 2, (from.width + 1) / 2};
    const Fused next = resampled(net, m, name + "/", last.value, half);
    levels.push_back({name, net.stage(name, next.value), last.stride * 2});
  }
}

ValueId fuse(Net& net, const BiFpn& m, const std::string& prefix, const std::vector<Fused>& maps) {
  WeightedSum sum{.normalize = m.weighted,
                  .activation = m.activation_last ? Activation::kNone : m.activation};
  std::vector<ValueId> inputs;
  for (const Fused& map : maps) {
    inputs.push_back(map.value);
    sum.scales.push_back(map.scale);
  }
  for (std::size_t i = 0; m.weighted && i < maps.size(); ++i)
    inputs.push_back(net.weight(i == 0 ? prefix + "WSM" : fmt::format("{}WSM_{}", prefix, i), {}));
  return net.add(std::move(sum), std::move(inputs), prefix + "fuse");
}

ValueId after_sum(Net& net, const BiFpn& m, const std::string& prefix, ValueId x) {
  const TfConv layer{.out = m.width, .kernel = 3, .bias = !m.activation_last};
  const std::string name = prefix + "conv";
  const ValueId y = m.separable ? tf_separable_conv(net, name, x, layer) : tf_conv(net, name, x, layer);
  const ValueId normed = tf_batch_norm(net, prefix + "bn", y, {.exact_factor = true});
  return m.activation_last ? tf_activate(net, prefix + "bn", normed, m.activation) : normed;
}

// The cell's results: the last map made of each level.
std::vector<ValueId> cell(Net& net, const BiFpn& m, const std::string& prefix, std::vector<ValueId> maps) {
  std::vector<ValueId> last = maps;
  const std::vector<ValueId> inputs = maps;
  const auto nodes = bifpn_nodes(m.min_level, m.max_level);
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    const std::string node = fmt::format("{}fnode{}/", prefix, n);
    const auto level = static_cast<std::size_t>(nodes[n].level - m.min_level);
    const Extents target = extents_of(net, inputs[level]);
    std::vector<Fused> fused;
    for (std::size_t k = 0; k < nodes[n].inputs.size(); ++k) {
      const int from = nodes[n].inputs[k];
      fused.push_back(resampled(net, m, fmt::format("{}resample_{}_{}_{}/", node, k, from, maps.size()),
                                maps[static_cast<std::size_t>(from)], target));
    }
    const ValueId sum = fuse(net, m, node, fused);
    last[level] = after_sum(net, m, fmt::format("{}op_after_combine{}/", node, maps.size()), sum);
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
  add_levels(net, m, levels);
  std::vector<ValueId> maps;
  for (const Feature& f : levels) maps.push_back(f.value);
  for (int c = 0; c < m.cells; ++c)
    maps = cell(net, m, fmt::format("fpn_cells/cell_{}/", c), std::move(maps));
  for (std::size_t i = 0; i < levels.size(); ++i) {
    levels[i].name = fmt::format("p{}", m.min_level + static_cast<int>(i));
    levels[i].value = net.stage("bifpn_" + levels[i].name, maps[i]);
  }
  return levels;
}

}  // namespace osprey

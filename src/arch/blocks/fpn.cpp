#include "arch/blocks/fpn.h"

#include <bit>

#include "arch/blocks/layers.h"
#include "ops/add.h"
#include "ops/max_pool.h"
#include "ops/upsample.h"

namespace osprey {
namespace {

int level_of(const Feature& f) { return std::countr_zero(static_cast<unsigned>(f.stride)); }

Feature stage_level(Net& net, int level, ValueId value) {
  const std::string name = fmt::format("p{}", level);
  return {name, net.stage(name, value), 1 << level};
}

void add_top(Net& net, const std::string& prefix, const Fpn& m, ValueId res5, Features& levels) {
  const int next = level_of(levels.back()) + 1;
  if (m.top == Fpn::Top::kMaxPool) {
    const ValueId p =
        net.add(MaxPool{.kernel = {1, 1}, .stride = {2, 2}}, {levels.back().value}, prefix + m.names.top);
    levels.push_back(stage_level(net, next, p));
    return;
  }
  const ConvLayer half{.out = m.width, .kernel = 3, .stride = 2};
  const std::string name = prefix + m.names.top;
  const ValueId from = m.top == Fpn::Top::kConvs ? res5 : levels.back().value;
  const ValueId p6 = conv(net, name + ".p6", from, half);
  const ValueId p7 = conv(net, name + ".p7", relu(net, name, p6), half);
  levels.push_back(stage_level(net, next, p6));
  levels.push_back(stage_level(net, next + 1, p7));
}

}  // namespace

Features fpn(Net& net, const std::string& prefix, const Fpn& m, const Features& bottom_up, ValueId res5) {
  Features levels(bottom_up.size());
  ValueId sum = kNoValue;
  for (std::size_t i = bottom_up.size(); i-- > 0;) {
    const int level = level_of(bottom_up[i]), number = level - 2 + m.names.first;
    const std::string lateral = fmt::format("{}{}{}", prefix, m.names.lateral, number);
    const ValueId side = conv(net, lateral, bottom_up[i].value,
                              {.out = m.width, .batch_norm = m.batch_norm, .group_norm = m.group_norm});
    if (sum == kNoValue) {
      sum = side;
    } else {
      const ValueId above = net.add(Upsample{.scale = 2}, {sum}, lateral + ".upsample");
      sum = net.add(Add{}, {side, above}, lateral + ".add");
    }
    const ConvLayer last{.out = m.width, .kernel = 3, .batch_norm = m.batch_norm, .group_norm = m.group_norm};
    const ValueId out = conv(net, fmt::format("{}{}{}", prefix, m.names.output, number), sum, last);
    levels[i] = stage_level(net, level, out);
  }
  add_top(net, prefix, m, res5, levels);
  return levels;
}

}  // namespace osprey

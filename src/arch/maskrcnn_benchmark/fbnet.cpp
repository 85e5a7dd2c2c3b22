#include "arch/maskrcnn_benchmark/fbnet.h"

#include <algorithm>
#include <cmath>

#include "arch/blocks/layers.h"
#include "arch/maskrcnn_benchmark/fbnet_arch.h"
#include "ops/activate.h"
#include "ops/add.h"
#include "ops/global_average_pool.h"
#include "ops/scale_channels.h"
#include "ops/upsample.h"

namespace osprey::maskrcnn_benchmark {
namespace {

constexpr int kMaxWidth = 1 << 16, kMaxDivisor = 1 << 8;

// The nearest multiple of `divisor`, halves upwards; where that is none, the framework takes the divisor's
// square.
int rounded(int width, int divisor) {
  if (width % divisor == 0) return width;
  const int multiples = static_cast<int>(std::floor(width / static_cast<double>(divisor) + 0.5));
  return (multiples > 0 ? multiples : divisor) * divisor;
}

// Of the batch norms: PyTorch's, or none where they are frozen ("af").
float norm_epsilon(const Config& config, const char* key) {
  const std::string type = config.text(key);
  if (type == "bn") return 1e-5f;
  if (type != "af") config.refuse(key, "only bn and af are (the framework cannot build FBNets with gn)");
  return 0;
}

// The layers of one part of a network, from one config.
class Layers {
 public:
  Layers(Net& net, const Config& config, float epsilon)
      : net_(net),
        epsilon_(epsilon),
        scale_(config.node("MODEL.FBNET.SCALE_FACTOR").as_double()),
        divisor_(std::max(config.at_least(0, "MODEL.FBNET.WIDTH_DIVISOR", kMaxDivisor), 1)),
        plain_depthwise_(config.flag("MODEL.FBNET.DW_CONV_SKIP_BN")),
        linear_depthwise_(config.flag("MODEL.FBNET.DW_CONV_SKIP_RELU")) {
    if (!(scale_ > 0 && scale_ <= 64))
      config.node("MODEL.FBNET.SCALE_FACTOR").refuse("a number above 0, to 64");
  }

  // A width as the architecture has it, as the network has it.
  int scaled(double width) const { return rounded_width(std::trunc(width * scale_)); }
  // Of a head's last convolution, which is only ever widened, before it is rounded.
  double last_width(int width, double own_scale) const {
    const double scaled = scale_ > 1 ? std::trunc(width * scale_) : width;
    return std::trunc(scaled * own_scale);
  }
  int rounded_width(double width) const {
    require(width >= 1 && width <= kMaxWidth, "MODEL.FBNET: {} channels, where 1 to {} are supported", width,
            kMaxWidth);
    return rounded(static_cast<int>(width), divisor_);
  }

  // "<name>.conv", then "<name>.bn".
  ValueId conv_norm(const std::string& name, ValueId x, ConvLayer layer) const {
    layer.bias = false;
    layer.norm = name + ".bn";
    layer.epsilon = epsilon_;
    return conv(net_, name + ".conv", x, layer);
  }

  ValueId block(const std::string& name, const FbnetBlock& b, ValueId input) const {
    const std::int64_t in = net_.channels(input);
    const int middle = rounded_width(std::trunc(static_cast<double>(in) * b.expansion)),
              out = scaled(b.width);
    ValueId x = conv_norm(name + ".pw", input, {.out = middle, .batch_norm = true, .relu = true});
    if (b.stride < -1) x = net_.add(Upsample{.scale = -b.stride}, {x}, name + ".upscale");
    x = depthwise(name + ".dw", b, x);
    x = conv_norm(name + ".pwl", x, {.out = out, .batch_norm = true});
    if (b.stride == 1 && in == out) x = net_.add(Add{}, {x, input}, name + ".add");
    return b.op.gated ? gated(name + ".se4.op", x) : x;
  }

  ValueId blocks(const std::string& prefix, const std::vector<FbnetBlock>& all, ValueId x) const {
    for (const FbnetBlock& b : all) x = block(fmt::format("{}xif{}_{}", prefix, b.stage, b.index), b, x);
    return x;
  }

 private:
  ValueId depthwise(const std::string& name, const FbnetBlock& b, ValueId x) const {
    if (b.op.kernel == 1) return x;  // whatever the stride
    const auto channels = static_cast<int>(net_.channels(x));
    ConvLayer layer{.out = channels,
                    .kernel = b.op.kernel,
                    .stride = std::max(b.stride, 1),
                    .groups = channels,
                    .batch_norm = true,
                    .relu = true};
    if (b.op.twice) {
      x = conv_norm(name + ".dw1", x, layer);
      layer.stride = 1;
    }
    layer.batch_norm = !plain_depthwise_;
    layer.relu = !linear_depthwise_;
    return conv_norm(b.op.twice ? name + ".dw2" : name, x, layer);
  }

  ValueId gated(const std::string& name, ValueId x) const {
    const auto channels = static_cast<int>(net_.channels(x));
    const ValueId mean = net_.add(GlobalAveragePool{}, {x}, name + ".0");
    const ValueId narrow = linear(net_, name + ".1", mean, {.out = std::max(channels / 4, 8), .relu = true});
    const ValueId wide = linear(net_, name + ".3", narrow, {.out = channels});
    const ValueId gates = net_.add(Activate{.kind = Activation::kSigmoid}, {wide}, name + ".4");
    return net_.add(ScaleChannels{}, {x, gates}, name + ".scale");
  }

  Net& net_;
  float epsilon_;
  double scale_;
  int divisor_;
  bool plain_depthwise_, linear_depthwise_;
};

Layers layers_of(Net& net, const Config& config, const char* norm_key = "MODEL.FBNET.BN_TYPE") {
  return {net, config, norm_epsilon(config, norm_key)};
}

}  // namespace

bool has_fbnet_trunk(const Config& config) { return config.text("MODEL.BACKBONE.CONV_BODY") == "FBNet"; }

ValueId fbnet_trunk(Net& net, const Config& config, ValueId image) {
  const FbnetArch arch = fbnet_arch(config);
  const Layers layers = layers_of(net, config);
  const ConvLayer first{.out = layers.scaled(arch.first[0]),
                        .kernel = arch.first[2],
                        .stride = arch.first[1],
                        .batch_norm = true,
                        .relu = true};
  ValueId x = net.stage("body.first", layers.conv_norm("backbone.body.first", image, first));
  const auto blocks = arch.blocks_of("backbone");
  for (auto begin = blocks.begin(); begin != blocks.end();) {
    const auto end =
        std::find_if(begin, blocks.end(), [&](const auto& b) { return b.stage != begin->stage; });
    x = net.stage(fmt::format("body.stage{}", begin->stage),
                  layers.blocks("backbone.body.stages.", {begin, end}, x));
    begin = end;
  }
  return x;
}

ValueId fbnet_rpn_features(Net& net, const Config& config, ValueId level) {
  constexpr const char *kStride = "MODEL.RPN.ANCHOR_STRIDE", *kNorm = "MODEL.FBNET.RPN_BN_TYPE";
  constexpr const char* kBlocks = "MODEL.FBNET.RPN_HEAD_BLOCKS";
  const FbnetArch arch = fbnet_arch(config);
  if (arch.rpn_stride && config.integers(kStride).at(0) != *arch.rpn_stride)
    config.refuse(kStride, fmt::format("this architecture is for a stride of {}", *arch.rpn_stride));
  auto blocks = arch.blocks_of("rpn");
  // The last so many, as the framework counts: those whose number within their stage is among the last of
  // all.
  if (const int last = config.integer(kBlocks); last > 0) {
    const int count = static_cast<int>(blocks.size());
    if (last > count) config.refuse(kBlocks, fmt::format("the head has {} blocks", count));
    std::erase_if(blocks, [&](const FbnetBlock& b) { return b.index < count - last; });
  }
  const bool own_norm = !config.text(kNorm).empty();
  const Layers layers = own_norm ? layers_of(net, config, kNorm) : layers_of(net, config);
  const ValueId out = layers.blocks("rpn.head.0.head.", blocks, level);
  for (const std::size_t axis : {2, 3})
    if (!(net.type(out).dims[axis] == net.type(level).dims[axis]))
      config.refuse("MODEL.FBNET.ARCH", "an RPN head that changes a map's extents, as this one's,");
  return out;
}

ValueId fbnet_head_features(Net& net, const Config& config, const FbnetHead& head, const std::string& prefix,
                            ValueId crops) {
  const std::string keys = head.keys, wanted_blocks = keys + "_BLOCKS", stride = keys + "_STRIDE";
  const FbnetArch arch = fbnet_arch(config);
  auto blocks = arch.blocks_of(arch.stages.contains(head.part) ? head.part : "head");
  if (const auto wanted = config.integers(wanted_blocks); !wanted.empty())
    std::erase_if(blocks, [&](const FbnetBlock& b) {
      return std::find(wanted.begin(), wanted.end(), b.index) == wanted.end();
    });
  if (blocks.empty()) config.refuse(wanted_blocks, "a head without blocks");
  if (const int first = config.at_least(0, stride, 2); first > 0) blocks.front().stride = first;
  const Layers layers = layers_of(net, config);
  const ValueId x = layers.blocks(prefix + "head.blocks.", blocks, crops);

  // A scale below 0 is of the width that the blocks give.
  const double scale = config.node(keys + "_LAST_SCALE").as_double();
  const double width = static_cast<double>(net.channels(x));
  const double last = scale > 0 ? layers.last_width(arch.last_width, scale) : std::trunc(width * -scale);
  if (last == 0) return x;
  return layers.conv_norm(prefix + "head.last", x,
                          {.out = layers.rounded_width(last), .batch_norm = true, .relu = true});
}

std::vector<NamedTensor> with_gate_matrices(std::vector<NamedTensor> tensors) {
  for (NamedTensor& t : tensors) {
    const bool gate = t.name.ends_with(".se4.op.1.weight") || t.name.ends_with(".se4.op.3.weight");
    if (!gate || t.shape.size() != 4 || t.shape[2] != 1 || t.shape[3] != 1) continue;
    t.shape.resize(2);
    t.load = [load = std::move(t.load), shape = t.shape] { return load().reshaped(shape); };
  }
  return tensors;
}

}  // namespace osprey::maskrcnn_benchmark

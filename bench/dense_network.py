"""The dense part of Faster and Mask R-CNN R50-FPN (trunk, pyramid, RPN head) as bench/dense.cpp has it: batch norm folded,
random weights. Written once, over a `net` that builds ONNX or computes with PyTorch."""
import math

import numpy as np

HEIGHT, WIDTH = 800, 1344


def network(net, image):
    x = net.conv("stem", image, 64, kernel=7, stride=2, relu=True)
    x = net.max_pool(x, kernel=3, stride=2, pad=1)
    stages = []
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            x = bottleneck(net, f"res{stage + 2}.{block}", x, stage, block == 0)
        stages.append(x)
    maps, above = [], None
    for level in reversed(range(4)):
        above = net.conv(f"lateral{level + 2}", stages[level], 256, add=None if above is None else net.upsample(above))
        maps.insert(0, net.conv(f"output{level + 2}", above, 256, kernel=3))
    maps.append(net.max_pool(maps[-1], kernel=1, stride=2, pad=0))
    outputs = []
    for features in maps:
        t = net.conv("rpn.conv", features, 256, kernel=3, relu=True)
        outputs += [net.conv("rpn.logits", t, 3), net.conv("rpn.deltas", t, 12)]
    return outputs


def bottleneck(net, name, x, stage, first):
    inner, outer, stride = 64 << stage, 256 << stage, 2 if first and stage else 1
    shortcut = net.conv(f"{name}.shortcut", x, outer, stride=stride) if first else x
    y = net.conv(f"{name}.conv1", x, inner, stride=stride, relu=True)
    y = net.conv(f"{name}.conv2", y, inner, kernel=3, relu=True)
    return net.conv(f"{name}.conv3", y, outer, relu=True, add=shortcut)


class Weights:
    def __init__(self):
        self.random, self.kept = np.random.default_rng(1), {}

    def __call__(self, name, out, inputs, kernel):
        if name not in self.kept:
            scale = math.sqrt(2 / (inputs * kernel * kernel))
            self.kept[name] = (self.random.uniform(-scale, scale, (out, inputs, kernel, kernel)).astype(np.float32),
                               self.random.uniform(-0.1, 0.1, out).astype(np.float32))
        return self.kept[name]


def random_image():
    return np.random.default_rng(2).uniform(-2, 2, (1, 3, HEIGHT, WIDTH)).astype(np.float32)


class OnnxNet:
    """Values are (name, channels, height, width)."""

    def __init__(self):
        self.weights, self.nodes, self.initializers, self.gflop = Weights(), {}, {}, 0.0

    def conv(self, name, x, out, kernel=1, stride=1, relu=False, add=None):
        source, channels, height, width = x
        weight, bias = self.weights(name, out, channels, kernel)
        self.initializers |= {f"{name}.weight": weight, f"{name}.bias": bias}
        height, width = -(-height // stride), -(-width // stride)
        self.gflop += 2e-9 * out * channels * kernel * kernel * height * width
        y = self._node("Conv", [source, f"{name}.weight", f"{name}.bias"], kernel_shape=[kernel] * 2, strides=[stride] * 2,
                       pads=[kernel // 2] * 4)
        if add is not None:
            y = self._node("Add", [y, add[0]])
        return (self._node("Relu", [y]) if relu else y), out, height, width

    def max_pool(self, x, kernel, stride, pad):
        y = self._node("MaxPool", [x[0]], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        return y, x[1], -(-x[2] // stride), -(-x[3] // stride)

    def upsample(self, x):
        self.initializers["twice"] = np.array([1, 1, 2, 2], np.float32)
        y = self._node("Resize", [x[0], "", "twice"], mode="nearest", coordinate_transformation_mode="asymmetric",
                       nearest_mode="floor")
        return y, x[1], 2 * x[2], 2 * x[3]

    def _node(self, op, inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes[name] = (op, inputs, attributes)
        return name


def write_onnx(file):
    """Returns the network's GFLOP."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    net = OnnxNet()
    outputs = network(net, ("image", 3, HEIGHT, WIDTH))
    nodes = [helper.make_node(op, inputs, [name], **attributes) for name, (op, inputs, attributes) in net.nodes.items()]
    def info(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "dense", [info("image", 1, 3, HEIGHT, WIDTH)], [info(n, 1, *shape) for n, *shape in outputs],
                              [numpy_helper.from_array(value, name) for name, value in net.initializers.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return net.gflop


class TorchNet:
    def __init__(self, dtype):
        import torch
        self.torch, self.dtype, self.weights, self.kept = torch, dtype, Weights(), {}

    def conv(self, name, x, out, kernel=1, stride=1, relu=False, add=None):
        if name not in self.kept:
            weight, bias = map(self.torch.from_numpy, self.weights(name, out, x.shape[1], kernel))
            weight = weight.to(self.dtype).to(memory_format=self.torch.channels_last)
            self.kept[name] = weight, bias.to(self.dtype)
        y = self.torch.nn.functional.conv2d(x, *self.kept[name], stride=stride, padding=kernel // 2)
        if add is not None:
            y += add
        return y.relu_() if relu else y

    def max_pool(self, x, kernel, stride, pad):
        return self.torch.nn.functional.max_pool2d(x, kernel, stride, pad)

    def upsample(self, x):
        return self.torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")

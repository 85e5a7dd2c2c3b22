"""Where the checkpoints come from that gpu.py measures: the fixtures' archives, or random weights for an official config."""
import json
import math
import re
import struct
import subprocess
import tarfile

# By these names a family's weights are recognised.
EFFICIENTDET_SEED = {"class_net/class-predict/bias": [810], "fpn_cells/cell_0/fnode0/op_after_combine5/bn/gamma": [1]}
RTDETR_SEED = {"transformer.decoder.layers.0.cross_attn.sampling_offsets.weight": [256, 192], "neck.input_proj.0.0.weight": [256, 512, 1, 1]}


def unpacked(archive, member, folder):
    """The member (a file or a folder) of the archive, and the config beside it, in `folder`; unpacked once."""
    target = folder / member
    if not target.exists():
        part = folder.with_name(folder.name + ".part")
        with tarfile.open(archive) as files:
            wanted = [f for f in files if f.name == member or f.name.startswith(member + "/") or "/" not in f.name]
            files.extractall(part, members=wanted)
        part.rename(folder)
    return target


def write_safetensors(file, tensors):
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            out.write(values.tobytes())


def paddle_shapes(shapes):
    """Of weights whose shapes are told as Osprey keeps them: outputs first, the parts of an attention's projection one by one."""
    out = {}
    for name, shape in shapes.items():
        name, _, part = name.partition(" (")
        shape = shape[::-1] if len(shape) == 2 else shape
        out[name] = [*shape[:-1], shape[-1] + out[name][-1]] if part and name in out else shape
    return out


def tensorflow_shape(name, shape):
    """Of a weight whose shape is told as Osprey keeps it, outputs first."""
    if len(shape) == 2:
        return [1, 1, shape[1], shape[0]]
    if len(shape) != 4:
        return shape
    outputs, inputs, height, width = shape
    return [height, width, outputs, inputs] if name.endswith("depthwise_kernel") else [height, width, inputs, outputs]


def fan_in(name, shape, is_rtdetr):
    if is_rtdetr:
        return shape[0] if len(shape) == 2 else math.prod(shape[1:])
    return math.prod(shape[:2]) * (1 if name.endswith("depthwise_kernel") else shape[2])


def random_values(name, shape, random, is_rtdetr):
    """Such that maps neither fade nor grow through a hundred layers."""
    import numpy
    if name.endswith(("gamma", "moving_variance", "norm.weight", "_variance")) or not shape:
        return numpy.ones(shape, "f4")
    if len(shape) == 1:
        return random.uniform(-0.1, 0.1, shape).astype("f4")
    return random.normal(0, 1 / math.sqrt(fan_in(name, shape, is_rtdetr)), shape).astype("f4")


def random_checkpoint(config, osprey, file):
    """A checkpoint for the official config: what Osprey says is missing from a file that has next to nothing."""
    import numpy
    if file.exists():
        return file
    random, is_rtdetr = numpy.random.default_rng(1), "rtdetr" in config
    seed = RTDETR_SEED if is_rtdetr else EFFICIENTDET_SEED
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    write_safetensors(part, {name: numpy.ones(shape, "f4") for name, shape in seed.items()})
    told = subprocess.run([*osprey, "import", part, "--config", config, "-o", file.with_suffix(".onnx"), "--quiet"],
                          capture_output=True, text=True).stderr
    lines = re.findall(r"^  (\S.*): (?:.*needs )?\[([\d, ]*)\]", told, re.MULTILINE)
    shapes = {name: [int(extent) for extent in extents.split(",") if extent] for name, extents in lines}
    if len(shapes) < 100:
        raise RuntimeError(f"{config}: its weights are not told: {told[-500:]}")
    if is_rtdetr:
        shapes = paddle_shapes(shapes)
    else:
        shapes = {name: tensorflow_shape(name, shape) for name, shape in shapes.items()}
    shapes = {**seed, **shapes}
    write_safetensors(part, {name: random_values(name, shape, random, is_rtdetr) for name, shape in shapes.items()})
    part.rename(file)
    return file

#!/usr/bin/env python3
"""Writes the seed corpus of the fuzz target onnx into fuzz/corpus/onnx: small models, and hostile ones.

The messages are put together by hand, in protobuf's wire format, so that nothing needs to be installed.
"""
import json
import pathlib
import struct

from protobuf_wire import field

ROOT = pathlib.Path(__file__).resolve().parent.parent / "fuzz" / "corpus" / "onnx"
FLOAT, UINT8, INT32 = 1, 2, 6


def attribute(name, value):
    body = field(1, name)
    if isinstance(value, str):
        return body + field(4, value) + field(20, 3)
    if isinstance(value, float):
        return body + field(2, value) + field(20, 1)
    if isinstance(value, int):
        return body + field(3, value) + field(20, 2)
    if value and isinstance(value[0], float):
        return body + b"".join(field(7, v) for v in value) + field(20, 6)
    return body + b"".join(field(8, v) for v in value) + field(20, 7)


def node(op, inputs, outputs, name, domain="", note="", **attributes):
    out = b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs)
    out += field(3, name) + field(4, op)
    out += b"".join(field(5, attribute(k, v)) for k, v in attributes.items())
    if note:
        out += field(6, note)
    return field(1, out + (field(7, domain) if domain else b""))


def weight(name, shape, values, data=None):
    raw = struct.pack(f"<{len(values)}f", *values) if data is None else data
    return field(5, b"".join(field(1, d) for d in shape) + field(2, FLOAT) + field(8, name) + field(9, raw))


def value(number, name, dtype, dims):
    shape = b"".join(field(1, field(1, d) if isinstance(d, int) else field(2, d)) for d in dims)
    return field(number, field(1, name) + field(2, field(1, field(1, dtype) + field(2, shape))))


def model(graph, ours=True, version="1"):
    out = field(1, 8) + field(2, "osprey" if ours else "pytorch") + field(7, field(2, "small") + graph)
    out += field(8, field(1, "") + field(2, 17)) + field(8, field(1, "osprey") + field(2, 1))
    metadata = {
        "osprey.format": version, "osprey.family": "test", "osprey.description": "small",
        "osprey.categories": json.dumps([{"id": 1, "name": "cat"}]), "osprey.metadata": "{}",
        "osprey.weights": json.dumps({"used": ["w"], "unused": [], "missing": [], "misshapen": []})}
    for key, text in (metadata if ours else {}).items():
        out += field(14, field(1, key) + field(2, text))
    return out


def dense():
    graph = node("Conv", ["x", "w", "b"], ["c"], "layer", note="osprey: f32_out", strides=[2, 2], dilations=[1, 1],
                 pads=[0, 0, 0, 0], group=1)
    graph += node("Relu", ["c"], ["r"], "layer.relu")
    graph += node("MaxPool", ["r"], ["m"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    graph += node("Resize", ["m", "", "osprey.scales.2"], ["u"], "up", mode="nearest",
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    graph += node("Add", ["u", "r"], ["y"], "sum")
    graph += weight("w", [2, 2, 1, 1], [1, 2, 3, 4]) + weight("b", [2], [0.5, -0.5])
    graph += weight("osprey.scales.2", [4], [1, 1, 2, 2])
    graph += value(11, "x", FLOAT, ["N", 2, "32*h", "32*w"]) + value(12, "y", FLOAT, ["N", 2, "16*h", "16*w"])
    return graph


def photo():
    graph = node("resize_image", ["photos", "sizes"], ["resized", "geometry"], "resize", "osprey", shortest=256,
                 longest=384, bgr=1, rule="pil_bilinear")
    graph += node("normalize_image", ["resized", "geometry"], ["image"], "normalize", "osprey", mean=[1.0, 2.0, 3.0],
                  multiple=32)
    graph += value(11, "photos", UINT8, ["N", "H", "W", 3]) + value(11, "sizes", INT32, ["N", 2])
    return graph + value(12, "image", FLOAT, ["N", 3, "32*h", "32*w"])


def main():
    simple = node("Add", ["x", "x"], ["y"], "sum") + value(11, "x", FLOAT, ["N"]) + value(12, "y", FLOAT, ["N"])
    huge = node("Conv", ["x", "w"], ["y"], "c", strides=[2**31 - 1, 1], dilations=[2**31 - 1, 1],
                pads=[2**31 - 1] * 4, group=1) + weight("w", [1, 1, 1, 1], [1])
    files = {
        "simple": model(simple), "dense": model(dense()), "photo": model(photo()),
        "foreign": model(dense(), ours=False), "newer": model(simple, version="2"),
        "truncated": model(dense())[:300],
        "lying_weight": model(simple + weight("w", [2**40, 2**40], [1])),
        "external_weight": model(simple + field(5, field(1, 1) + field(2, FLOAT) + field(8, "w") + field(14, 1))),
        "huge_extent": model(huge + value(11, "x", FLOAT, [1, 1, 2**62, 2**62])),
        "two_graphs": model(simple) + field(7, field(2, "other")),
        "nameless_output": model(node("Add", ["x", "x"], ["y"], "sum") + value(11, "x", FLOAT, ["N"])
                                 + value(12, "", FLOAT, ["N"])),
        "overlong_number": field(1, 8) + b"\x3a" + b"\xff" * 10,
    }
    ROOT.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (ROOT / f"{name}.onnx").write_bytes(data)


if __name__ == "__main__":
    main()

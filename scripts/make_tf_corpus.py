#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets tensor_bundle, snappy, saved_model and protobuf_text, which are test
files of the readers, too, into fuzz/corpus. Nothing needs to be installed.

A file of tensor_bundle is an index and its data file in one: the index's size (u32, little-endian), the index, the
data. Tensors count up from 0.
"""
import pathlib
import struct

from protobuf_wire import field, fixed32, varint

ROOT = pathlib.Path(__file__).resolve().parent.parent / "fuzz" / "corpus"
FLOAT, DOUBLE, INT32, UINT8, STRING, INT64, BOOL, BFLOAT16, COMPLEX64, HALF = 1, 2, 3, 4, 7, 9, 10, 14, 8, 19


def write(folder, name, data):
    path = ROOT / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


# ---- checksums, Snappy ---------------------------------------------------------------------------------------------

def crc_of_byte(byte):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRCS = [crc_of_byte(byte) for byte in range(256)]


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRCS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def snappy_literal(data):
    if len(data) <= 60:
        return bytes([(len(data) - 1) << 2]) + data
    assert len(data) <= 256
    return bytes([60 << 2, len(data) - 1]) + data


def snappy(data):
    """Greedy: copies of at least four bytes from up to 2047 back, literals else."""
    out, literal, i = bytearray(varint(len(data))), bytearray(), 0
    while i < len(data):
        best, where = 0, 0
        for offset in range(1, min(i, 2047) + 1):
            n = 0
            while i + n < len(data) and n < 11 and data[i + n] == data[i + n - offset]:
                n += 1
            if n > best:
                best, where = n, offset
        if best < 4:
            literal.append(data[i])
            i += 1
        if literal and (best >= 4 or i == len(data) or len(literal) == 256):
            out += snappy_literal(bytes(literal))
            literal = bytearray()
        if best >= 4:
            out += bytes([where >> 8 << 5 | (best - 4) << 2 | 1, where & 0xFF])
            i += best
    return bytes(out)


# ---- tables --------------------------------------------------------------------------------------------------------

def block(entries, interval=16):
    out, restarts, last = bytearray(), [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(last), len(key)) and last[shared] == key[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + b"".join(struct.pack("<I", r) for r in restarts) + struct.pack("<I", len(restarts))


def table(entries, per_block=8, compress=False, damage=None):
    """`damage` may replace the (stored bytes, type, checksum) of the first data block."""
    out, index = bytearray(), []

    def add(data, may_damage=False):
        kind = 1 if compress else 0
        stored = snappy(data) if compress else data
        checksum = masked(crc32c(stored + bytes([kind])))
        if may_damage and damage:
            stored, kind, checksum = damage(stored, kind, checksum)
        place = varint(len(out)) + varint(len(stored))
        out.extend(stored + bytes([kind]) + struct.pack("<I", checksum))
        return place

    for i in range(0, len(entries), per_block):
        part = entries[i:i + per_block]
        index.append((part[-1][0], add(block(part), i == 0)))
    meta = add(block([]))
    footer = meta + add(block(index, 1))
    return bytes(out) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


# ---- bundles -------------------------------------------------------------------------------------------------------

def shape_of(extents):
    return b"".join(field(2, field(1, e)) for e in extents)


def entry(dtype, extents, offset, size, crc, shard=0, more=b""):
    return (field(1, dtype) + field(2, shape_of(extents)) + (field(3, shard) if shard else b"") +
            (field(4, offset) if offset else b"") + field(5, size) + fixed32(6, masked(crc)) + more)


HEADER = field(1, 1) + field(3, field(1, 1))


def string_data(text):
    length = struct.pack("<I", len(text))
    length_checksum = struct.pack("<I", masked(crc32c(length)))
    return varint(len(text)) + length_checksum + text, crc32c(text, crc32c(length_checksum, crc32c(length)))


def numbers(code, count):
    return b"".join(struct.pack("<" + code, i) for i in range(count))


class Bundle:
    def __init__(self, header=HEADER):
        self.data, self.entries = bytearray(), [(b"", header)]

    def add(self, name, dtype, extents, data, crc=None, offset=None, size=None, shard=0, more=b""):
        crc = crc32c(data) if crc is None else crc
        offset = len(self.data) if offset is None else offset
        size = len(data) if size is None else size
        self.entries.append((name.encode(), entry(dtype, extents, offset, size, crc, shard, more)))
        self.data += data
        return self

    def file(self, **options):
        self.entries.sort()
        index = table(self.entries, **options)
        return struct.pack("<I", len(index)) + index + bytes(self.data)


def object_graph():
    def node(children=(), attributes=(), slots=()):
        return field(1, b"".join(field(1, field(1, i) + field(2, name)) for i, name in children) +
                     b"".join(field(2, field(1, "VARIABLE_VALUE") + field(2, full) + field(3, key))
                              for full, key in attributes) +
                     b"".join(field(3, field(1, a) + field(2, name) + field(3, b)) for a, name, b in slots))
    return (node([(1, "model"), (5, "optimizer"), (7, "save_counter")]) + node([(2, "backbone"), (2, "alias")]) +
            node([(3, "kernel"), (4, "a/b.c")]) + node((), [("conv/kernel", "_model/variables/0")]) +
            node((), [("conv/bias", "_model/variables/1")]) + node((), (), [(3, "momentum", 6)]) +
            node((), [("conv/kernel/momentum", "optimizer/slot")]) + node((), [("save_counter", "save_counter")]))


def bundles():
    def plain():
        return (Bundle().add("conv/kernel", FLOAT, [2, 3], numbers("f", 6))
                .add("conv/kernel/ExponentialMovingAverage", FLOAT, [2, 3], numbers("f", 6))
                .add("conv/bias", FLOAT, [3], numbers("f", 3)).add("global_step", INT64, [], numbers("q", 1)))

    write("tensor_bundle", "plain", plain().file())
    write("tensor_bundle", "snappy", plain().file(compress=True, per_block=2))
    types = Bundle()
    for name, dtype, data in (("f4", FLOAT, numbers("f", 4)), ("f8", DOUBLE, numbers("d", 4)),
                              ("f2", HALF, numbers("e", 4)), ("i4", INT32, numbers("i", 4)),
                              ("i8", INT64, numbers("q", 4)), ("u1", UINT8, numbers("B", 4)),
                              ("bf16", BFLOAT16, b"".join(struct.pack("<f", i)[2:] for i in range(4))),
                              ("b1", BOOL, bytes([0, 1, 1, 0]))):
        types.add(name, dtype, [4], data)
    types.add("complex", COMPLEX64, [2], bytes(16)).add("empty", FLOAT, [0, 4], b"")
    text, crc = string_data(b"words")
    types.add("text", STRING, [], text, crc)
    write("tensor_bundle", "types", types.file())

    def with_graph(graph):
        data, checksum = string_data(graph)
        return (Bundle().add("_CHECKPOINTABLE_OBJECT_GRAPH", STRING, [], data, checksum)
                .add("_model/variables/0", FLOAT, [2], numbers("f", 2))
                .add("_model/variables/1", FLOAT, [1], numbers("f", 1))
                .add("optimizer/slot", FLOAT, [2], numbers("f", 2)).add("save_counter", INT64, [], numbers("q", 1)))

    write("tensor_bundle", "graph", with_graph(object_graph()).file())
    write("tensor_bundle", "bad_graph_child", with_graph(field(1, field(1, field(1, 9) + field(2, "x")))).file())
    write("tensor_bundle", "bad_graph_cut", with_graph(object_graph()[:-3]).file())
    write("tensor_bundle", "bad_graph_empty", with_graph(b"").file())
    sliced = plain().add("part", FLOAT, [4], b"", more=field(7, field(1, field(1, 0) + field(2, 2))))
    sliced.entries.append((b"\0part", entry(FLOAT, [2], 0, 8, 0)))
    write("tensor_bundle", "bad_sliced", sliced.file())
    write("tensor_bundle", "bad_no_shard", plain().add("far", FLOAT, [1], b"", size=4, shard=1).file())
    two = Bundle(field(1, 2) + field(3, field(1, 1))).add("here", FLOAT, [1], numbers("f", 1))
    write("tensor_bundle", "bad_missing_shard", two.add("elsewhere", FLOAT, [1], b"", size=4, shard=1).file())
    write("tensor_bundle", "bad_checksum", plain().add("wrong", FLOAT, [1], numbers("f", 1), crc=1).file())
    write("tensor_bundle", "bad_outside", plain().add("far", FLOAT, [2], numbers("f", 2), offset=1 << 40).file())
    write("tensor_bundle", "bad_size", plain().add("small", FLOAT, [5], numbers("f", 2)).file())
    write("tensor_bundle", "bad_huge", plain().add("huge", FLOAT, [1 << 40, 1 << 40], numbers("f", 2)).file())
    write("tensor_bundle", "bad_negative", plain().add("less", FLOAT, [-3], numbers("f", 2)).file())
    write("tensor_bundle", "bad_big_endian", Bundle(HEADER + field(2, 1)).file())
    write("tensor_bundle", "bad_version", Bundle(field(1, 1) + field(3, field(1, 7) + field(2, 7))).file())
    write("tensor_bundle", "bad_v1", Bundle(field(1, b"sliced tensors of V1")).file())
    headless = table([(b"conv", b"")])
    write("tensor_bundle", "bad_no_header", struct.pack("<I", len(headless)) + headless)
    whole = plain().file()
    size = struct.unpack("<I", whole[:4])[0]
    write("tensor_bundle", "bad_index_cut", struct.pack("<I", size - 9) + whole[4:4 + size - 9])
    write("tensor_bundle", "bad_data_cut", whole[:-6])
    write("tensor_bundle", "bad_block_checksum", plain().file(damage=lambda d, k, c: (d, k, c ^ 1)))
    zlib = plain().file(damage=lambda d, k, c: (d, 2, masked(crc32c(d + b"\2"))))
    write("tensor_bundle", "bad_compression", zlib)
    bomb = varint(1 << 30) + b"\0x"
    write("tensor_bundle", "bad_bomb", plain().file(damage=lambda d, k, c: (bomb, 1, masked(crc32c(bomb + b"\1")))))
    order = Bundle()
    order.add("b", FLOAT, [1], numbers("f", 1)).add("a", FLOAT, [1], numbers("f", 1))
    index = table(order.entries)
    write("tensor_bundle", "bad_order", struct.pack("<I", len(index)) + index + bytes(order.data))


def snappy_blocks():
    text = b"the quick brown fox, the quick brown dog, the lazy fox" * 4
    write("snappy", "text", snappy(text))
    write("snappy", "run", varint(100) + b"\x00a" + bytes([(63 - 1) << 2 | 2, 1, 0]) +
          bytes([(36 - 1) << 2 | 3, 1, 0, 0, 0]))
    write("snappy", "long_literal", varint(300) + bytes([61 << 2]) + struct.pack("<H", 299) + b"y" * 300)
    write("snappy", "empty", varint(0))
    write("snappy", "bad_back", varint(8) + b"\x00a" + bytes([(4 - 1) << 2 | 2, 9, 0]))
    write("snappy", "bad_zero", varint(8) + b"\x00a" + bytes([(4 - 1) << 2 | 2, 0, 0]))
    write("snappy", "bad_more", varint(2) + snappy_literal(b"abc"))
    write("snappy", "bad_less", varint(9) + snappy_literal(b"abc"))
    write("snappy", "bad_cut", snappy(text)[:-4])
    write("snappy", "bad_size", b"\xff\xff\xff\xff\xff")
    write("snappy", "bad_bomb", varint(1 << 19) + b"\x00a")


# ---- saved_model.pb ------------------------------------------------------------------------------------------------

def tensor_info(name, dtype, extents):
    shape = field(3, 1) if extents is None else shape_of(extents)
    return field(1, name) + field(2, dtype) + field(3, shape)


def saved_model(version=1, graphs=1):
    def part(key, value):
        return field(1, key) + field(2, value)
    signature = (field(1, part("input_tensor", tensor_info("serving_default_input_tensor:0", UINT8, [1, -1, -1, 3]))) +
                 field(2, part("detection_boxes", tensor_info("StatefulPartitionedCall:0", FLOAT, [1, 100, 4]))) +
                 field(2, part("raw", tensor_info("StatefulPartitionedCall:1", FLOAT, None))) +
                 field(3, "tensorflow/serving/predict"))
    graph = field(1, field(4, "serve") + field(5, "2.15.1")) + field(2, field(1, field(1, "x") + field(2, "Const")))
    graph += field(5, part("serving_default", signature)) + field(5, part("__saved_model_init_op", field(2, part(
        "__saved_model_init_op", tensor_info("NoOp", 0, None)))))
    return field(1, version) + field(2, graph) * graphs


def saved_models():
    write("saved_model", "good", saved_model())
    write("saved_model", "two_graphs", saved_model(graphs=2))
    write("saved_model", "bad_version", saved_model(version=2))
    write("saved_model", "bad_many", saved_model(graphs=20))
    write("saved_model", "bad_cut", saved_model()[:-10])
    write("saved_model", "bad_frozen", field(1, field(1, "x") + field(2, "Const")))
    write("saved_model", "bad_empty", field(1, 1))


# ---- protobuf text -------------------------------------------------------------------------------------------------

def protobuf_texts():
    write("protobuf_text", "pipeline", """# a comment
model {
  ssd {
    num_classes: 90
    image_resizer { fixed_shape_resizer { height: 320 width: 320 } }
    feature_extractor: { type: "ssd_mobilenet_v2_fpn_keras" depth_multiplier: 1.0 }
    anchors < scales: 0.25 scales: [0.5, 1e-3f, inf, -nan] ratio: 0x1F; op: CONV, on: true >
  }
}
[object_detection.extension] { text: 'a\\n\\x41\\101\\u00e9' "b"  # joined
}
eval_input_reader { input_path: "PATH_TO_BE_CONFIGURED"s }
""")
    write("protobuf_text", "labels", "item { id: 1 name: 'cat' }\nitem { id: 2 name: \"dog\" display_name: \"Dog\" }\n")
    write("protobuf_text", "checkpoint", 'model_checkpoint_path: "ckpt-0"\nall_model_checkpoint_paths: "ckpt-0"\n')
    write("protobuf_text", "lists", "a: [] b: [1] c: [{x: 1}, <x: 2>] c { x: 3 }")
    for name, text in {"open": "a {", "value": "a:", "colon": "a 1", "string": 'a: "x\n"', "escape": 'a: "\\q"',
                       "list": "a: [1", "number": "a: 12x", "close": "}", "deep": "a{" * 70}.items():
        write("protobuf_text", "bad_" + name, text)


if __name__ == "__main__":
    bundles()
    snappy_blocks()
    saved_models()
    protobuf_texts()

#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets, which are test files of the readers, too, into fuzz/corpus.

Needs numpy; torch's files are made without torch, by pickling stand-ins under torch's names. Tensors count up from
0 (or from the number their name ends in), so that tests can tell what they read. Hostile files are made here as well.
"""
import collections
import io
import json
import pathlib
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent / "fuzz" / "corpus"


def write(folder, name, data):
    path = ROOT / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


# ---- torch without torch -------------------------------------------------------------------------------------------

def module(name):
    sys.modules[name] = types.ModuleType(name)
    return sys.modules[name]


def name_in(where, name):
    """A function that pickle takes for where.name."""
    def stand_in(*args):
        return args
    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = where, name, name
    setattr(sys.modules[where], name, stand_in)
    return stand_in


def class_in(where, name):
    made = type(name, (), {"__module__": where})
    setattr(sys.modules[where], name, made)
    return made


for m in ("torch", "torch._utils", "torch._tensor", "torch.nn", "torch.nn.parameter"):
    module(m)
REBUILD_V1 = name_in("torch._utils", "_rebuild_tensor")
REBUILD_V2 = name_in("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = name_in("torch._utils", "_rebuild_parameter")
REBUILD_FROM_TYPE = name_in("torch._tensor", "_rebuild_from_type_v2")
PARAMETER = class_in("torch.nn.parameter", "Parameter")
SIZE = name_in("torch", "Size")
STORAGES = {np.dtype(code): class_in("torch", name + "Storage") for code, name in
            {"f4": "Float", "f2": "Half", "f8": "Double", "i8": "Long", "i4": "Int", "i2": "Short", "i1": "Char",
             "u1": "Byte", "?": "Bool"}.items()}
BFLOAT16 = class_in("torch", "BFloat16Storage")


class Storage:
    def __init__(self, array, kind=None):
        self.array = array
        self.kind = kind or STORAGES[array.dtype]


class Call:
    """Pickles as function(*args)."""
    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def tensor(storage, shape=None, strides=None, offset=0, rebuild=REBUILD_V2):
    if isinstance(storage, np.ndarray):
        shape = storage.shape
        storage = Storage(storage.ravel())
    if strides is None:
        strides = tuple(int(np.prod(shape[i + 1:])) for i in range(len(shape)))
    args = (storage, offset, tuple(shape), tuple(strides))
    return Call(rebuild, *args) if rebuild is REBUILD_V1 else Call(rebuild, *args, False, collections.OrderedDict())


class TorchPickler(pickle.Pickler):
    def __init__(self, file, protocol, legacy):
        super().__init__(file, protocol)
        self.storages, self.legacy = [], legacy

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        if value not in self.storages:
            self.storages.append(value)
        key = str(self.storages.index(value))
        pid = ("storage", value.kind, key, "cpu", len(value.array))
        return pid + (None,) if self.legacy else pid


def torch_pickle(value, protocol=2, legacy=False):
    out = io.BytesIO()
    pickler = TorchPickler(out, protocol, legacy)
    pickler.dump(value)
    return out.getvalue(), pickler.storages


def zip_of(entries, compression=zipfile.ZIP_STORED, deflated=()):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED if name in deflated else compression
            archive.writestr(info, data)
    return out.getvalue()


def zip64_of(name, data):
    """One entry, with every size in zip64's fields."""
    extra = struct.pack("<HHQQ", 1, 16, len(data), len(data))
    crc = zipfile.crc32(data)
    encoded = name.encode()
    local = struct.pack("<IHHHHHIIIHH", 0x04034b50, 45, 0, 0, 0, 0, crc, 0xffffffff, 0xffffffff, len(encoded),
                        len(extra)) + encoded + extra + data
    extra = struct.pack("<HHQQQ", 1, 24, len(data), len(data), 0)
    central = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 45, 45, 0, 0, 0, 0, crc, 0xffffffff, 0xffffffff,
                          len(encoded), len(extra), 0, 0, 0, 0, 0xffffffff) + encoded + extra
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, 1, 1, len(central), len(local))
    locator = struct.pack("<IIQI", 0x07064b50, 0, len(local) + len(central), 1)
    end = struct.pack("<IHHHHIIH", 0x06054b50, 0, 0, 0xffff, 0xffff, 0xffffffff, 0xffffffff, 0)
    return local + central + end64 + locator + end


def torch_zip(value, big=False, compression=zipfile.ZIP_STORED, deflated=(), extra=()):
    data, storages = torch_pickle(value)
    entries = [("archive/data.pkl", data), ("archive/byteorder", b"big" if big else b"little")]
    for i, storage in enumerate(storages):
        entries.append((f"archive/data/{i}", (storage.array.byteswap() if big else storage.array).tobytes()))
    return zip_of(entries + [("archive/version", b"3\n"), *extra], compression, deflated)


def torch_legacy(value, little=True):
    data, storages = torch_pickle(value, legacy=True)
    out = pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(1001, 2)
    out += pickle.dumps({"protocol_version": 1001, "little_endian": little,
                         "type_sizes": {"short": 2, "int": 4, "long": 4}}, 2)
    out += data + pickle.dumps([str(i) for i in range(len(storages))], 2)
    for storage in storages:
        out += struct.pack("<q", len(storage.array)) + storage.array.tobytes()
    return out


def count(*shape, code="f4", start=0):
    return (np.arange(np.prod(shape, dtype=int)) + start).astype(code).reshape(shape)


def torch_values():
    shared = Storage(count(24))
    half = Storage((count(4).view(np.uint32) >> 16).astype("u2"), BFLOAT16)
    strided = collections.OrderedDict(
        dense=tensor(count(2, 3)), transposed=tensor(shared, (3, 2), (1, 3)), part_6=tensor(shared, (2, 3), (3, 1), 6),
        repeated=tensor(Storage(count(3)), (2, 3), (0, 1)), scalar_7=tensor(count(code="i8", start=7)),
        empty=tensor(Storage(count(0)), (0, 4), (4, 1)))
    types_ = {code: tensor(count(4, code=code)) for code in ("f4", "f2", "f8", "i8", "i4", "i2", "i1", "u1")}
    types_["b1"] = tensor(np.array([False, True, True, False]))
    types_["bf16"] = tensor(half, (4,))
    wrapped = {"parameter": Call(REBUILD_PARAMETER, tensor(count(3)), True, collections.OrderedDict()),
               "old": tensor(Storage(count(3)), (3,), rebuild=REBUILD_V1),
               "typed": Call(REBUILD_FROM_TYPE, REBUILD_V2, PARAMETER, (Storage(count(3)), 0, (3,), (1,), False,
                                                                       collections.OrderedDict()), {})}
    counter = collections.Counter({60000: 1, 80000: 1})
    state = collections.OrderedDict([("conv.weight", tensor(count(2, 1, 2, 2))), ("conv.bias", tensor(count(2)))])
    training = {"model": state,
                "optimizer": {"state": {0: {"momentum_buffer": tensor(count(2, start=5))}, 1: {"step": 10}},
                              "param_groups": [{"lr": 0.02, "betas": (0.9, 0.999), "params": [0, 1]}]},
                "scheduler": {"milestones": counter, "last_epoch": 9, "base": collections.defaultdict(list, a=[1])},
                "size": Call(SIZE, (2, 3)), "iteration": 89999, "__author__": "Someone", "groups": {1, 2}}
    return {"strided": strided, "types": types_, "wrapped": wrapped, "training": training}


def make_torch():
    values = torch_values()
    for name, value in values.items():
        write("torch_zip", name + ".pth", torch_zip(value))
        write("torch_legacy", name + ".pth", torch_legacy(value))
    write("torch_zip", "big_endian.pth", torch_zip(values["types"], big=True))
    write("torch_zip", "deflated.pth", torch_zip(values["wrapped"], compression=zipfile.ZIP_DEFLATED))
    packed = torch_zip(values["wrapped"], deflated=["archive/data.pkl"])
    write("torch_zip", "deflated_pickle.pth", packed)
    at = packed.index(b"archive/data.pkl") + len("archive/data.pkl") + 40
    write("torch_zip", "bad_deflated_pickle.pth", packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1:])
    write("torch_zip", "torchscript.pt", torch_zip({}, extra=[("archive/constants.pkl", b"\x80\x02).")]))
    past_end = {"w": tensor(Storage(count(4)), (2, 3), (3, 1))}
    missing = {"a": tensor(count(2)), "b": Call(REBUILD_V2, "no storage", 0, (2,), (1,), False, None)}
    huge = {"w": tensor(Storage(count(4)), (1 << 40, 1 << 40), (0, 0))}
    for name, value in {"past_end": past_end, "missing": missing, "huge": huge}.items():
        write("torch_zip", "bad_" + name + ".pth", torch_zip(value))
        write("torch_legacy", "bad_" + name + ".pth", torch_legacy(value))
    write("torch_legacy", "bad_big_endian.pth", torch_legacy(values["wrapped"], little=False))


# ---- pickles of numpy ----------------------------------------------------------------------------------------------

def numpy_model():
    return {"model": {"conv.weight": count(2, 3), "conv.bias": count(3, start=3)}, "__author__": "Detectron2",
            "matching_heuristics": True}


def python2_pickle(value):
    """Protocol 2 as Python 2 wrote it: every str, also the arrays' data, is a BINSTRING."""
    out = bytearray(b"\x80\x02")

    def string(data):
        out.extend(b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<I", len(data)))
        out.extend(data)

    def emit(item):
        if isinstance(item, dict):
            out.extend(b"}(")
            for key, entry in item.items():
                string(key.encode("latin1"))
                emit(entry)
            out.extend(b"u")
        elif isinstance(item, np.ndarray):
            out.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01(")
            for extent in item.shape:
                out.extend(b"M" + struct.pack("<H", extent))
            out.extend(b"tcnumpy\ndtype\n")
            string(item.dtype.str[1:].encode())
            out.extend(b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
            string(item.tobytes())
            out.extend(b"tb")
        else:
            out.extend(b"G" + struct.pack(">d", item))
    emit(value)
    return bytes(out + b".")


def make_pickles():
    for protocol in range(6):
        write("pickle", f"protocol{protocol}.pkl", pickle.dumps(numpy_model(), protocol))
    kinds = {code: count(4, code=code) for code in ("<f4", ">f4", "<f2", "<f8", ">i8", "<i4", "<i2", "i1", "u1")}
    kinds.update(bools=np.array([True, False]), fortran=np.asfortranarray(count(2, 3)), unsigned=count(2, code="u4"),
                 complex=count(2, code="c8"), objects=np.array([1, "a"], object), scalar=np.float32(2.5),
                 flag=np.bool_(True), names=np.array(["a", "bc"]), empty=count(0, 3))
    for protocol in (0, 2, 5):
        write("pickle", f"kinds{protocol}.pkl", pickle.dumps(kinds, protocol))
    old_name = pickle.dumps(numpy_model(), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    write("pickle", "numpy1.pkl", old_name)
    write("pickle", "detectron1.pkl", python2_pickle(
        {"blobs": {"conv1_w": count(2, 3), "conv1_b": count(100, start=1), "lr": 0.02}}))
    write("pickle", "paddle.pdparams", pickle.dumps(
        {"conv.weight": count(2, 3), "StructuredToParameterName@@": {"conv.weight": "conv2d_0.w_0"}}, 4))

    hostile = {
        "system": b"cposix\nsystem\n(S'touch /nonexistent/osprey'\ntR.",
        "system2": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        "eval": b"c__builtin__\neval\n(S'1'\ntR.",
        "inst": b"(S'x'\nios\nsystem\n.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\n.",
        "memo": b"\x80\x02]r\xff\xff\xff\xffj\xff\xff\xff\xff.",
        "long4": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "bytes8": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
        "self": b"\x80\x02]q\x00h\x00a.",
        "deep": b"\x80\x02" + b"]" * 1000 + b"a" * 999 + b".",
        "laughs": b"\x80\x02]q\x00" + b"".join(
            b"](" + b"h" + bytes([i]) + (b"h" + bytes([i])) * 9 + b"eq" + bytes([i + 1]) for i in range(12)) + b".",
        "underflow": b"\x80\x02a.",
        "no_stop": b"\x80\x02}",
        "ext": b"\x80\x02\x82\x01.",
        "persistent": b"\x80\x02}X\x01\x00\x00\x00aK\x01Qs.",
    }
    for name, data in hostile.items():
        write("pickle", f"bad_{name}.pkl", data)


# ---- the rest ------------------------------------------------------------------------------------------------------

def npy(array, version=(1, 0)):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


def make_numpy():
    for version in ((1, 0), (2, 0), (3, 0)):
        write("npy", f"version{version[0]}.npy", npy(count(2, 3), version))
    write("npy", "fortran.npy", npy(np.asfortranarray(count(2, 3))))
    write("npy", "big_endian.npy", npy(count(2, 3, code=">f8")))
    write("npy", "bool.npy", npy(np.array([True, False])))
    write("npy", "half.npy", npy(count(4, code="f2")))
    write("npy", "scalar.npy", npy(count(start=3)))
    write("npy", "structured.npy", npy(np.zeros(2, [("x", "f4"), ("y", "i4")])))
    huge = npy(count(4)).replace(b"(4,)", b"(9999999999,)")
    write("npy", "bad_huge.npy", huge)
    arrays = [("a.npy", npy(count(2, 3))), ("b.npy", npy(count(100, code="i8"))), ("u.npy", npy(count(3, code="u2")))]
    write("npz", "stored.npz", zip_of(arrays))
    write("npz", "deflated.npz", zip_of(arrays, zipfile.ZIP_DEFLATED))
    write("npz", "zip64.npz", zip64_of("a.npy", npy(count(2, 3))))
    bomb = zip_of([("a.npy", npy(np.zeros(1 << 16, "u1")))], zipfile.ZIP_DEFLATED)
    write("npz", "bomb.npz", bomb)


def safetensors(header, data):
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def make_safetensors():
    one = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    data = count(2, 3).tobytes()
    two = {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]}
    good = safetensors({"__metadata__": {"format": "pt"}, "b": two, "a": one}, data + count(2, code="i8").tobytes())
    write("safetensors", "good.safetensors", good)
    write("safetensors", "types.safetensors", safetensors(
        {"half": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
         "f8": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [4, 8]},
         "scalar": {"dtype": "BF16", "shape": [], "data_offsets": [8, 10]}}, bytes(10)))
    for name, other in {"overlap": dict(two, data_offsets=[20, 36]), "gap": dict(two, data_offsets=[32, 48]),
                        "past_end": dict(two, data_offsets=[24, 400]), "shape": dict(two, shape=[3]),
                        "huge": dict(two, shape=[1 << 62, 1 << 62]), "negative": dict(two, shape=[-2])}.items():
        write("safetensors", f"bad_{name}.safetensors",
              safetensors({"a": one, "b": other}, data + count(2, code="i8").tobytes()))
    write("safetensors", "bad_header.safetensors", struct.pack("<Q", 1 << 39) + b"{}")
    write("safetensors", "bad_deep.safetensors", struct.pack("<Q", 2002) + b'{"' + b"[" * 2000)


def make_yaml():
    write("yaml", "detectron2.yaml", b"""_BASE_: "../Base-RetinaNet.yaml"
MODEL:
  WEIGHTS: "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
  RESNETS: {DEPTH: 50, OUT_FEATURES: ["res3", "res4", "res5"]}
  ANCHOR_GENERATOR:
    SIZES: !!python/object/apply:eval ["[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"]
SOLVER:
  STEPS: (210000, 250000)
  BASE_LR: 1e-2
  AMP: {ENABLED: yes}
VERSION: 2
""")
    write("yaml", "paddle.yml", b"""_BASE_: [
  'coco.yml',
  '_base_/optimizer_6x.yml',
]
weights: &w output/model_final
LearningRate:
  base_lr: 0.0001
  schedulers:
  - !PiecewiseDecay
    gamma: 1.0
    milestones: [100]
  - !LinearWarmup {start_factor: 0.001, steps: 2000}
Eval: {<<: {a: 1}, path: *w, octal: 010, none: ~, text: |
    two
    lines
  }
""")
    laughs = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for i in range(1, 9):
        laughs += b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 10))
    write("yaml", "empty.yaml", b"")  # a finding: errors did not name the file
    write("yaml", "bad_laughs.yaml", laughs)
    write("yaml", "bad_twice.yaml", b"a: 1\na: 2\n")
    write("yaml", "bad_self.yaml", b"a: &a [*a]\n")
    write("yaml", "bad_deep.yaml", b"[" * 300)
    write("yaml", "bad_tab.yaml", b"a:\n\t- b\n")


# ---- Paddle's exported models: a program, and parameters without names ---------------------------------------------

def wire_number(number, value):
    out = bytes([number << 3])
    while value >= 128:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def wire_part(number, payload):
    return bytes([number << 3 | 2]) + wire_number(0, len(payload))[1:] + payload


def paddle_parameter(extents, values, element_type=5):
    description = wire_number(1, element_type) + b"".join(wire_number(2, extent) for extent in extents)
    return struct.pack("<IQIi", 0, 0, 0, len(description)) + description + struct.pack(f"<{len(values)}f", *values)


def paddle_program():
    def variable(name, persistable):
        return wire_part(3, wire_part(1, name) + wire_number(3, persistable))

    def operation(*arguments):
        inputs = b"".join(wire_part(1, wire_part(1, b"X") + wire_part(2, a)) for a in arguments)
        return wire_part(4, inputs + wire_part(3, b"op"))

    variables = [(b"conv2d_0.w_0", 1), (b"n_0.b_0", 1), (b"feed", 1), (b"x", 0)]
    return wire_part(1, b"".join(variable(*v) for v in variables) + operation(b"x", b"conv2d_0.w_0") +
                     operation(b"n_0.b_0"))


def make_paddle_inference():
    pir = json.dumps({"program": {"regions": [{"blocks": [{"ops": [
        {"#": "p", "A": [0, 1, 1, "conv2d_0.w_0"], "O": {"%": 1}},
        {"#": "p", "A": [0, 1, 1, "n_0.b_0"], "O": {"%": 2}},
        {"#": "1.conv2d", "I": [{"%": 9}, {"%": 1}]},
        {"#": "1.add", "I": [{"%": 2}]}]}]}]}}).encode()
    old = paddle_program()
    good = paddle_parameter([1, 2], [1, 2]) + paddle_parameter([1], [3])
    for name, program, parameters in (
            ("pir", pir, good), ("program_desc", old, good), ("bad_cut", pir, good[:-3]), ("bad_more", old, good + b"x"),
            ("bad_huge", pir, paddle_parameter([1 << 62, 1 << 62], [])),
            ("bad_negative", pir, paddle_parameter([(1 << 64) - 1], [])),
            ("bad_type", old, paddle_parameter([1], [3], 99)), ("bad_json", pir[:-9], good), ("bad_empty", b"", b""),
            ("bad_levels", pir, bytes(4) + b"\1" + good[5:])):
        write("paddle_inference", name, struct.pack("<I", len(program)) + program + parameters)


def make_checkpoint():
    for folder, name in (("torch_zip", "strided.pth"), ("torch_legacy", "wrapped.pth"), ("pickle", "protocol4.pkl"),
                         ("pickle", "protocol0.pkl"), ("npz", "stored.npz"), ("npy", "version1.npy"),
                         ("safetensors", "good.safetensors")):
        write("checkpoint", name, (ROOT / folder / name).read_bytes())
    write("checkpoint", "bad_lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    write("checkpoint", "bad_page.pth", b"<!DOCTYPE html><html></html>")


if __name__ == "__main__":
    make_torch()
    make_pickles()
    make_numpy()
    make_safetensors()
    make_yaml()
    make_paddle_inference()
    make_checkpoint()
    print(sum(p.stat().st_size for p in ROOT.rglob("*") if p.is_file()), "bytes in", ROOT)

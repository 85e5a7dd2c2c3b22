"""Checkpoints, pictures and damage, made of the standard library alone."""
import importlib
import io
import json
import pathlib
import pickle
import random
import struct
import sys
import types
import zipfile
import zlib


class Array:
    """A tensor of 32-bit floats: its shape and its bytes."""

    def __init__(self, shape, data=None):
        self.shape = tuple(shape)
        self.data = data if data is not None else bytes(4 * self.size)

    @property
    def size(self):
        out = 1
        for extent in self.shape:
            out *= extent
        return out


# --- numpy's and torch's pickles, written through stand-ins of the classes that they name --------------------


def _stand_in(module, name, value):
    parts = module.split(".")
    for i in range(len(parts)):
        sys.modules.setdefault(".".join(parts[: i + 1]), types.ModuleType(".".join(parts[: i + 1])))
    value.__module__, value.__qualname__, value.__name__ = module, name, name
    setattr(sys.modules[module], name, value)
    return value


class _Stub:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __setstate__(self, state):
        self.state = state


def _function():
    return lambda *arguments: _Stub(*arguments)


class _Names:
    """The stand-ins are visible to pickle only inside `with`, so that a real numpy elsewhere is left alone."""

    def __enter__(self):
        self.saved = {k: v for k, v in sys.modules.items() if k.split(".")[0] in ("numpy", "torch")}
        for name in self.saved:
            del sys.modules[name]
        self.ndarray = _stand_in("numpy", "ndarray", type("ndarray", (_Stub,), {}))
        self.dtype = _stand_in("numpy", "dtype", type("dtype", (_Stub,), {}))
        self.reconstruct = _stand_in("numpy.core.multiarray", "_reconstruct", _function())
        self.rebuild = _stand_in("torch._utils", "_rebuild_tensor_v2", _function())
        self.storage = _stand_in("torch", "FloatStorage", type("FloatStorage", (_Stub,), {}))
        return self

    def __exit__(self, *_):
        for name in [k for k in sys.modules if k.split(".")[0] in ("numpy", "torch")]:
            del sys.modules[name]
        sys.modules.update(self.saved)


class _Pickler(pickle._Pickler):
    def __init__(self, file, names, torch=False):
        super().__init__(file, protocol=2)
        self.names, self.torch, self.storages = names, torch, {}

    def save(self, value, *rest, **more):
        if isinstance(value, Array):
            return self.save_tensor(value) if self.torch else self.save_array(value)
        return super().save(value, *rest, **more)

    def save_array(self, a):
        n = self.names
        self.save_reduce(n.reconstruct, (n.ndarray, (0,), b"b"), state=(1, a.shape, _Float32(), False, a.data))

    def save_tensor(self, a):
        key = str(len(self.storages))
        self.storages[key] = a
        strides, step = [], 1
        for extent in reversed(a.shape):
            strides.insert(0, step)
            step *= extent
        self.save_reduce(self.names.rebuild, (_Storage(key, a.size), 0, a.shape, tuple(strides), False, {}))

    def persistent_id(self, value):
        return ("storage", self.names.storage, value.key, "cpu", value.size) if isinstance(value, _Storage) else None


class _Float32:
    def __reduce_ex__(self, _):
        return sys.modules["numpy"].dtype, ("f4", False, True), (3, "<", None, None, None, -1, -1, 0)


class _Storage:
    def __init__(self, key, size):
        self.key, self.size = key, size


class _Reader(pickle.Unpickler):
    """Reads the arrays of a Detectron2 pickle without numpy."""

    def find_class(self, module, name):
        if name == "_reconstruct":
            return _function()
        return type(name, (_Stub,), {})


def read_detectron2(path):
    with open(path, "rb") as file:
        model = _Reader(file).load()["model"]
    return {name: Array(stub.state[1], stub.state[4]) for name, stub in model.items()}


def detectron2_pickle(tensors):
    out = io.BytesIO()
    with _Names() as names:
        _Pickler(out, names).dump({"model": dict(tensors), "__author__": "tests"})
    return out.getvalue()


def torch_zip(value):
    """torch.save's container; tensors of `value` are Arrays."""
    text, out = io.BytesIO(), io.BytesIO()
    with _Names() as names:
        pickler = _Pickler(text, names, torch=True)
        pickler.dump(value)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", text.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, tensor in pickler.storages.items():
            archive.writestr(f"archive/data/{key}", tensor.data)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def safetensors(tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + len(t.data)]}
        at += len(t.data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(t.data for t in tensors.values())


def tensor_bundle(name):
    """The index and the data of a file of scripts/make_tf_corpus.py."""
    file = (pathlib.Path(__file__).resolve().parents[2] / "fuzz/corpus/tensor_bundle" / name).read_bytes()
    size, = struct.unpack("<I", file[:4])
    return file[4:4 + size], file[4 + size:]


def write_tensorflow(prefix, tensors):
    """A checkpoint of TensorFlow's: <prefix>.index and its data file."""
    scripts = str(pathlib.Path(__file__).resolve().parents[2] / "scripts")
    if scripts not in sys.path:
        sys.path.append(scripts)
    made = importlib.import_module("make_tf_corpus")
    bundle = made.Bundle()
    for name, array in tensors.items():
        bundle.add(name + "/.ATTRIBUTES/VARIABLE_VALUE", made.FLOAT, array.shape, array.data)
    bundle.entries.sort()
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(prefix.name + ".index").write_bytes(made.table(bundle.entries))
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(bytes(bundle.data))


def npy(array):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {array.shape!r}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + array.data


def npz(tensors):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, t in tensors.items():
            archive.writestr(name + ".npy", npy(t))
    return out.getvalue()


# --- Pictures -------------------------------------------------------------------------------------------------


def pixels(width, height):
    return bytes((x * 7 + y * 13 + c * 80) % 256 for y in range(height) for x in range(width) for c in range(3))


def png(width, height):
    rows = pixels(width, height)
    raw = b"".join(b"\0" + rows[y * width * 3 : (y + 1) * width * 3] for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def bmp(width, height):
    rows, stride = pixels(width, height), (width * 3 + 3) // 4 * 4
    body = b"".join(rows[y * width * 3 : (y + 1) * width * 3].ljust(stride, b"\0") for y in reversed(range(height)))
    return (b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(body), 2835, 2835, 0, 0) + body)


# --- Damage ---------------------------------------------------------------------------------------------------


def truncated(data, count):
    """Cut at `count` lengths: the last bytes, the first, and in between."""
    cuts = {0, 1, len(data) - 1, len(data) // 2}
    draw = random.Random(len(data))
    while len(cuts) < min(count, len(data)):
        # Most of what can go wrong lies near the ends.
        cuts.add(min(len(data) - 1, int(len(data) * draw.random() ** 3)))
    return [data[:cut] for cut in sorted(cuts)[:count]]


def mutated(data, count, span=None):
    """Bytes changed, numbers made huge, stretches removed, repeated or filled, all within the first `span` bytes."""
    draw, out = random.Random(len(data) * 31 + count), []
    span = min(span or len(data), len(data))
    for i in range(count):
        copy, at = bytearray(data), draw.randrange(span)
        kind = i % 5
        if kind == 0:
            copy[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            copy[at : at + 4] = b"\xff\xff\xff\x7f"[: len(copy) - at]
        elif kind == 2:
            del copy[at : at + 1 + draw.randrange(16)]
        elif kind == 3:
            copy[at:at] = copy[at : at + 1 + draw.randrange(32)]
        else:
            copy[at : at + 8] = bytes(draw.randrange(256) for _ in range(min(8, len(copy) - at)))
        out.append(bytes(copy))
    return out

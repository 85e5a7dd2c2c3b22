#!/usr/bin/env python3
"""Makes fuzz/corpus/image: tiny pictures of every kind that src/image reads, and damaged ones.

They seed the fuzzer, and src/image/codec_test.cpp holds their pixels against what Pillow decoded: this script
prints the test's table. Needs Pillow 12 and NumPy; run it from the repository root.
"""

import io
import pathlib
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

warnings.simplefilter("ignore")
OUT = pathlib.Path("fuzz/corpus/image")
rng = np.random.default_rng(7)


def photo(width, height):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 20 % 256, y * 30 % 256, (x * y) % 256], -1).astype(np.uint8))


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, colour, *, interlaced=False, extra=b"", size=None):
    """A PNG of random pixels, every kind of filter among its rows."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x, y, dx, dy in adam7 if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -((x - width) // dx), -((y - height) // dy)
        for row in range(rows if columns > 0 else 0):
            raw += bytes([row % 5]) + rng.integers(0, 256, (columns * samples * depth + 7) // 8, np.uint8).tobytes()
    header = struct.pack(">IIBBBBB", *(size or (width, height)), depth, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", rng.integers(0, 256, 3 << depth, np.uint8).tobytes()) if colour == 3 else b""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + extra + chunk(b"IDAT", zlib.compress(raw))
            + chunk(b"IEND", b""))


def bmp(width, height, bits):
    palette = rng.integers(0, 256, 4 << bits, np.uint8).tobytes() if bits <= 8 else b""
    pixels = rng.integers(0, 256, (width * bits + 31) // 32 * 4 * abs(height), np.uint8).tobytes()
    start = 54 + len(palette)
    return (b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
            + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(pixels), 2835, 2835, 0, 0)
            + palette + pixels)


def upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


rgb = photo(13, 9)
alpha = rgb.convert("RGBA")
alpha.putalpha(photo(13, 9).convert("L"))
files = {
    "444.jpg": saved(rgb, "JPEG", subsampling=0),
    "420.jpg": saved(photo(19, 21), "JPEG", subsampling=2),
    "422_progressive.jpg": saved(photo(19, 21), "JPEG", subsampling=1, progressive=True),
    "restart.jpg": saved(photo(40, 9), "JPEG", restart_marker_blocks=1),
    "grey.jpg": saved(rgb.convert("L"), "JPEG"),
    "cmyk.jpg": saved(rgb.convert("CMYK"), "JPEG"),
    "exif6.jpg": saved(rgb, "JPEG", exif=upright(6)),
    "rgb.png": saved(rgb, "PNG"),
    "rgba.png": saved(alpha, "PNG"),
    "grey1.png": png(11, 3, 1, 0),
    "grey2.png": png(11, 3, 2, 0, extra=chunk(b"tRNS", b"\0\1")),
    "grey16.png": png(11, 3, 16, 0),
    "rgb16.png": png(5, 3, 16, 2, extra=chunk(b"gAMA", struct.pack(">I", 10000))),
    "palette4.png": png(11, 3, 4, 3, extra=chunk(b"tRNS", b"\0\x80")),
    "grey_alpha16.png": png(5, 3, 16, 4),
    "interlaced.png": png(11, 10, 8, 6, interlaced=True),
    "interlaced1.png": png(3, 2, 1, 0, interlaced=True),
    "exif8.png": saved(rgb, "PNG", exif=upright(8)),
    "bits1.bmp": bmp(11, 3, 1),
    "bits4.bmp": bmp(11, 3, 4),
    "bits8.bmp": bmp(5, 3, 8),
    "bits24.bmp": bmp(5, 3, 24),
    "bits24_top_down.bmp": bmp(5, -3, 24),
    "bits32.bmp": bmp(5, 3, 32),
}
files |= {
    "truncated.jpg": files["420.jpg"][:-40],
    "truncated_progressive.jpg": files["422_progressive.jpg"][:-2],
    "truncated.png": files["rgb.png"][:-30],
    "truncated.bmp": files["bits24.bmp"][:-5],
    "gigantic.png": png(3, 3, 8, 2, size=(100000, 100000)),
    "text.txt": b"neither of them",
}


def fnv1a(data):
    value = 2166136261
    for byte in data:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


for name, data in files.items():
    (OUT / name).write_bytes(data)
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        print(f'    {{"{name}", {image.width}, {image.height}, 0x{fnv1a(image.tobytes()):08x}u}},')
    except Exception:
        print(f'    {{"{name}", 0, 0, 0}},')

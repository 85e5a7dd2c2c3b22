"""Masks as COCO's compressed run lengths, and back.

Runs go down the columns, left to right, and start with zeros. Counts are written 5 bits a character from '0'
up, least significant bits first, bit 5 set while more follow; from the third count on it is the difference to
the count two before that is written.
"""

import numpy as np


def _counts(mask):
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return [0, *runs] if flat[0] else runs


def _write(value):
    text = []
    while True:
        bits, value = value & 31, value >> 5
        more = not (value == 0 and bits < 16 or value == -1 and bits >= 16)
        text.append(chr(48 + (bits | 32 if more else bits)))
        if not more:
            return "".join(text)


def encode(mask):
    """A 2-D mask -> {"size": [height, width], "counts": text}, as COCO's JSON files hold it."""
    counts = _counts(mask)
    text = [_write(count - counts[i - 2] if i > 2 else count) for i, count in enumerate(counts)]
    return {"size": list(np.shape(mask)), "counts": "".join(text)}


def decode(segmentation):
    """The inverse of encode()."""
    counts, value, shift = [], 0, 0
    for char in segmentation["counts"]:
        bits = ord(char) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    height, width = segmentation["size"]
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape((height, width), order="F")

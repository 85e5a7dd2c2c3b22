"""Procedural backgrounds and shapes that are none of the things: what the detector has to ignore.

Pictures are float32 arrays (height, width, 3) in 0..1; masks are (height, width) in 0..1.
"""

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def noise(rng, height, width, cells):
    """Smooth noise in 0..1: a coarse random grid, enlarged; `cells` is about how many span the longer side."""
    step = max(height, width) / cells
    grid = rng.random((max(2, round(height / step)) + 1, max(2, round(width / step)) + 1), dtype=np.float32)
    return np.clip(np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)), 0, 1)


def fractal(rng, height, width, cells, octaves=4):
    total, weight = np.zeros((height, width), np.float32), 1.0
    for octave in range(octaves):
        total += weight * noise(rng, height, width, cells * 2**octave)
        weight *= 0.5
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def palette(rng, count):
    """Colours that go together: neighbours of one hue, from dark to light."""
    hue, spread = rng.random(), rng.uniform(0.02, 0.16)
    values = np.sort(rng.uniform(0.25, 0.98, count))
    return np.array(
        [colorsys.hsv_to_rgb((hue + rng.normal(0, spread)) % 1, rng.uniform(0.08, 0.62), v) for v in values], np.float32
    )


def _mix(amount, low, high):
    return low + amount[..., None] * (high - low)


def _ramp(values, colours):
    """Maps 0..1 to a ramp through the colours."""
    at = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(values, at, colours[:, c]) for c in range(3)], -1).astype(np.float32)


def _axes(rng, height, width):
    """Pixel coordinates along a random direction and across it."""
    angle = rng.uniform(0, math.pi)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _edge(wave, softness):
    return np.clip(wave / softness + 0.5, 0, 1)


def _plain(rng, height, width):
    along, _ = _axes(rng, height, width)
    along = (along - along.min()) / np.ptp(along)
    return _ramp(np.clip(along + 0.12 * (fractal(rng, height, width, 4) - 0.5), 0, 1), palette(rng, 3))


def _marble(rng, height, width):
    return _ramp(fractal(rng, height, width, rng.uniform(2, 7), 5), palette(rng, 4))


def _pattern(rng, height, width):
    """Stripes, checks or dots."""
    low, high = palette(rng, 2)
    along, across = _axes(rng, height, width)
    period = rng.uniform(14, 80)
    bend = noise(rng, height, width, 3) * rng.uniform(0, 1.2)
    u, v = np.sin(2 * math.pi * along / period + 2 * bend), np.sin(2 * math.pi * across / period)
    kind = rng.integers(3)
    wave = u if kind == 0 else u * v if kind == 1 else u + v - rng.uniform(0.3, 1.2)
    contrast = rng.uniform(0.35, 1)
    return _mix(_edge(wave, rng.uniform(0.05, 0.8)) * contrast, low, high)


def _planks(rng, height, width):
    colours = palette(rng, 3)
    along, across = _axes(rng, height, width)
    board = rng.uniform(40, 110)
    index = np.floor(across / board).astype(int)
    tone = rng.random(int(np.ptp(index)) + 1).astype(np.float32)[index - index.min()]
    grain = np.sin(across * 0.35 + 7 * noise(rng, height, width, 5) + 0.01 * along)
    picture = _ramp(np.clip(0.5 * tone + 0.3 + 0.1 * grain, 0, 1), colours)
    gap = np.abs(across / board - index - 0.5) > 0.5 - 1.2 / board
    return picture * np.where(gap, 0.6, 1).astype(np.float32)[..., None]


def _landscape(rng, height, width):
    """A sky and ranges of hills before it."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    sky = palette(rng, 3)[::-1] * 0.5 + 0.5 * np.array([0.75, 0.88, 1.0], np.float32)
    picture = _ramp(np.clip(1.6 * y, 0, 1), sky)
    clouds = np.clip(fractal(rng, height, width, 4) * 2.2 - 1.2, 0, 0.8)
    picture = _mix(clouds, picture, np.ones(3, np.float32))
    level = rng.uniform(0.3, 0.5)
    for _ in range(rng.integers(2, 5)):
        line = level + 0.14 * (np.interp(x[0] * 6, np.arange(14), rng.random(14)) - 0.5)
        tone = _mix(fractal(rng, height, width, 9, 3), *(palette(rng, 2)))
        picture = _mix(_edge(y - line[None, :], 1.5 / height), picture, tone)
        level += rng.uniform(0.1, 0.25)
    return picture


def _lights(rng, height, width):
    """Discs of light out of focus."""
    picture = _plain(rng, height, width) * rng.uniform(0.35, 0.9)
    glow = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(glow)
    for _ in range(rng.integers(8, 30)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(6, 48)
        colour = tuple(int(255 * c * rng.uniform(0.2, 0.7)) for c in palette(rng, 1)[0])
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    glow = glow.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 7)))
    return np.clip(picture + np.asarray(glow, np.float32) / 255, 0, 1)


_KINDS = (_plain, _marble, _pattern, _planks, _landscape, _lights)


def backdrop(rng, height, width):
    picture = _KINDS[rng.integers(len(_KINDS))](rng, height, width)
    grain = rng.uniform(0, 0.05) * rng.standard_normal((height, width), dtype=np.float32)
    return np.clip(picture + grain[..., None], 0, 1)


def shape_mask(rng, size):
    """A soft-edged mask about `size` pixels wide of an ellipse, a polygon, a box, a ring, a star or a squiggle."""
    side, box = 2 * size, (2, 2, 2 * size - 3, 2 * size - 3)
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    kind = rng.integers(6)
    if kind == 0:
        draw.ellipse(box, fill=255)
    elif kind == 1:
        draw.regular_polygon((size, size, size - 3), int(rng.integers(3, 7)), fill=255)
    elif kind == 2:
        draw.rounded_rectangle(box, radius=float(rng.uniform(0, size * 0.6)), fill=255)
    elif kind == 3:
        draw.ellipse(box, outline=255, width=max(2, int(size * rng.uniform(0.1, 0.5))))
    elif kind == 4:
        points = int(rng.integers(5, 9)) * 2
        reach = [(size - 3) * (1 if i % 2 else rng.uniform(0.4, 0.7)) for i in range(points)]
        turn = [2 * math.pi * i / points for i in range(points)]
        draw.polygon([(size + r * math.cos(t), size + r * math.sin(t)) for r, t in zip(reach, turn)], fill=255)
    else:
        knots = [tuple(p) for p in rng.uniform(4, side - 4, (5, 2)).tolist()]
        draw.line(knots, fill=255, width=max(3, int(size * rng.uniform(0.06, 0.2))), joint="curve")
    squeezed = (size, max(4, int(size * rng.uniform(0.4, 1))))
    image = image.resize(squeezed, Image.Resampling.LANCZOS).rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC, expand=True)
    return np.asarray(image, np.float32) / 255

"""The things in the scenes: two dozen pictures of the Noto Color Emoji font, cut out with their alpha."""

import functools
import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# The order is the order of the model's classes: append, never insert.
THINGS = {
    "cat": "\U0001f431",
    "dog": "\U0001f436",
    "fox": "\U0001f98a",
    "panda": "\U0001f43c",
    "frog": "\U0001f438",
    "owl": "\U0001f989",
    "penguin": "\U0001f427",
    "elephant": "\U0001f418",
    "turtle": "\U0001f422",
    "fish": "\U0001f420",
    "butterfly": "\U0001f98b",
    "crab": "\U0001f980",
    "apple": "\U0001f34e",
    "banana": "\U0001f34c",
    "strawberry": "\U0001f353",
    "pineapple": "\U0001f34d",
    "pizza": "\U0001f355",
    "doughnut": "\U0001f369",
    "car": "\U0001f697",
    "bus": "\U0001f68c",
    "airplane": "\u2708",
    "rocket": "\U0001f680",
    "umbrella": "\u2602",
    "soccer ball": "\u26bd",
}
NAMES = list(THINGS)

FONT = os.environ.get("OSPREY_DEMO_FONT", "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
BITMAP_SIZE = 109  # the one size this font's bitmaps have


def _largest_part(opaque):
    """The largest 4-connected part of a mask; the rocket's glyph has stars around it that are no part of the rocket."""
    label = np.where(opaque, np.arange(1, opaque.size + 1).reshape(opaque.shape), 0)
    while True:  # spread the greatest label of each part; glyphs are small
        grown = label.copy()
        grown[1:] = np.maximum(grown[1:], label[:-1])
        grown[:-1] = np.maximum(grown[:-1], label[1:])
        grown[:, 1:] = np.maximum(grown[:, 1:], label[:, :-1])
        grown[:, :-1] = np.maximum(grown[:, :-1], label[:, 1:])
        grown[~opaque] = 0
        if (grown == label).all():
            break
        label = grown
    parts, sizes = np.unique(label[opaque], return_counts=True)
    return label == parts[sizes.argmax()]


@functools.cache
def glyph(name):
    """The thing's picture: RGBA, cropped to what is visible."""
    font = ImageFont.truetype(FONT, BITMAP_SIZE)
    canvas = Image.new("RGBA", (150, 150))
    ImageDraw.Draw(canvas).text((7, 7), THINGS[name], font=font, embedded_color=True)
    pixels = np.array(canvas)
    pixels[~_largest_part(pixels[..., 3] > 8)] = 0
    cut = Image.fromarray(pixels)
    return cut.crop(cut.getbbox())


def posed(name, size, angle, mirrored, squeeze):
    """The picture with its longer side `size` pixels, its width times `squeeze`, then mirrored and turned by `angle` degrees."""
    image = glyph(name)
    scale = size / max(image.size)
    shape = (max(4, round(image.width * scale * squeeze)), max(4, round(image.height * scale)))
    image = image.resize(shape, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    return image.crop(image.getbbox())

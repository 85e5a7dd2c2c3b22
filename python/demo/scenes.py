"""Draws scenes of emoji things with exact instance masks, as a data set in COCO's format.

    python3 -m demo.scenes --out DIR --images N --seed S

writes DIR/*.jpg and DIR/instances.json. Scene i of seed S is a function of (S, i) alone, so a
data set is the same whoever draws it, up to the versions of Pillow and numpy.

Every thing that is drawn is annotated, and at least a quarter of it is visible: one that would hide another further
than that, or lie too far outside the picture, is not drawn. Its mask is what stays visible of it.
"""

import argparse
import io
import json
import math
import pathlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from demo import rle
from demo.backdrops import backdrop, noise, palette, shape_mask
from demo.glyphs import NAMES, posed

SMALLEST, LARGEST = 24, 220  # longer side of a thing, pixels, before it is turned
LEAST_VISIBLE = 0.25
LEAST_PIXELS = 60
JPEG_QUALITY = 90


@dataclass
class Scene:
    pixels: np.ndarray  # uint8 (height, width, 3), RGB
    owner: np.ndarray  # uint8 (height, width): 0 where no thing is, else 1 + its index in classes
    classes: list  # index into NAMES, a thing each


class _Canvas:
    """The picture being painted back to front, with the owner of each pixel."""

    def __init__(self, picture):
        self.picture = picture
        self.height, self.width = picture.shape[:2]
        self.owner = np.zeros((self.height, self.width), np.uint8)
        self.classes, self.areas = [], []

    def _overlap(self, shape, top, left):
        """Where a patch at (top, left) meets the canvas: the canvas's window and the patch's."""
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = min(top + shape[0], self.height), min(left + shape[1], self.width)
        if y0 >= y1 or x0 >= x1:
            return None
        return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))

    def _visible_enough(self, owner, areas):
        visible = np.bincount(owner.ravel(), minlength=len(areas) + 1)[1:]
        return all(v >= max(LEAST_PIXELS, LEAST_VISIBLE * area) for v, area in zip(visible, areas))

    def claim(self, alpha, top, left, class_index=None):
        """Gives a patch's pixels to a new thing, or with no class to none. False, and nothing done, if it hides too much."""
        windows = self._overlap(alpha.shape, top, left)
        if windows is None:
            return False
        here, there = windows
        solid = alpha >= 0.5
        areas = self.areas if class_index is None else [*self.areas, int(solid.sum())]
        owner = self.owner.copy()
        owner[here][solid[there]] = 0 if class_index is None else len(areas)
        if not self._visible_enough(owner, areas):
            return False
        if class_index is not None:
            self.classes.append(class_index)
        self.owner, self.areas = owner, areas
        return True

    def blend(self, colour, alpha, top, left):
        here, there = self._overlap(alpha.shape, top, left)
        self.picture[here] += alpha[there][..., None] * (colour[there] - self.picture[here])

    def darken(self, alpha, top, left, strength):
        windows = self._overlap(alpha.shape, top, left)
        if windows is not None:
            here, there = windows
            self.picture[here] *= 1 - strength * alpha[there][..., None]


def _shadow(alpha, blur):
    """The alpha, blurred, on a patch larger by 3 `blur` each side."""
    pad = int(3 * blur) + 1
    image = Image.fromarray((np.pad(alpha, pad) * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(image, np.float32) / 255, pad


def _lit(rng, colour, light):
    """The patch under the scene's light: brighter on one side, its channels a little off."""
    height, width = colour.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    shade = 1 + rng.uniform(0, 0.22) * (x * math.cos(light) + y * math.sin(light))
    tint = rng.normal(1, 0.05, 3) * rng.uniform(0.82, 1.1)
    return np.clip(colour * shade[..., None] * tint.astype(np.float32), 0, 1)


def _place(rng, canvas, shape):
    """A corner for a patch: anywhere, or beside something that is there already."""
    if canvas.classes and rng.random() < 0.3:
        ys, xs = np.nonzero(canvas.owner)
        pick = rng.integers(len(ys))
        reach = 0.6 * max(shape)
        cy, cx = ys[pick] + rng.normal(0, reach), xs[pick] + rng.normal(0, reach)
    else:
        cy, cx = rng.uniform(0.06, 0.94) * canvas.height, rng.uniform(0.06, 0.94) * canvas.width
    return int(cy - shape[0] / 2), int(cx - shape[1] / 2)


def _add_thing(rng, canvas, class_index, size, light, shadow):
    angle = rng.normal(0, 16) if rng.random() < 0.8 else rng.uniform(-180, 180)
    patch = posed(NAMES[class_index], size, angle, rng.random() < 0.5, rng.uniform(0.82, 1.0))
    patch = np.asarray(patch, np.float32) / 255
    alpha = patch[..., 3]
    colour = _lit(rng, patch[..., :3], light)
    for _ in range(6):
        top, left = _place(rng, canvas, alpha.shape)
        if not canvas.claim(alpha, top, left, class_index):
            continue
        if shadow > 0:
            soft, pad = _shadow(alpha, 0.04 * size + 1)
            dy, dx = -0.08 * size * math.sin(light), -0.08 * size * math.cos(light)
            canvas.darken(soft, top - pad + int(dy), left - pad + int(dx), shadow)
        canvas.blend(colour, alpha, top, left)
        return


def _add_shape(rng, canvas, largest):
    alpha = shape_mask(rng, int(rng.uniform(14, largest))) * rng.uniform(0.75, 1)
    tone = palette(rng, 1)[0] * (0.8 + 0.4 * noise(rng, *alpha.shape, 3)[..., None])
    top = int(rng.uniform(-0.1, 1) * canvas.height)
    left = int(rng.uniform(-0.1, 1) * canvas.width)
    if canvas.claim(alpha, top, left):
        canvas.blend(np.clip(tone, 0, 1), alpha, top, left)


def _develop(rng, picture):
    """What a camera adds: uneven light, exposure, a colour cast, blur, noise and JPEG blocks."""
    height, width = picture.shape[:2]
    if rng.random() < 0.6:
        picture = picture * (1 - rng.uniform(0.05, 0.38) * noise(rng, height, width, 2))[..., None]
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.7, 1.2)
    picture = (picture - 0.5) * rng.uniform(0.82, 1.2) + 0.5 + rng.uniform(-0.06, 0.06)
    picture = picture * rng.normal(1, 0.04, 3).astype(np.float32)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1)))
    if rng.random() < 0.6:
        grain = rng.standard_normal((height, width, 3), dtype=np.float32) * rng.uniform(1, 7)
        image = Image.fromarray(np.clip(np.asarray(image, np.float32) + grain + 0.5, 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(35, 95)))
        image = Image.open(file).convert("RGB")
    return np.asarray(image)


def scene(seed, index):
    """Scene `index` of the data set `seed`."""
    rng = np.random.default_rng([seed, index])
    short = int(rng.integers(320, 481))
    sides = (short, int(short * rng.uniform(1, 4 / 3)))
    height, width = sides if rng.random() < 0.75 else sides[::-1]
    canvas = _Canvas(backdrop(rng, height, width))
    for _ in range(rng.integers(0, 10)):
        _add_shape(rng, canvas, 120)
    light = rng.uniform(0, 2 * math.pi)
    shadow = rng.uniform(0.15, 0.6) if rng.random() < 0.6 else 0.0
    # Some scenes hold many of few kinds, so that neighbours of one class have to be told apart.
    kinds = rng.permutation(len(NAMES))[: rng.integers(1, 4)] if rng.random() < 0.25 else np.arange(len(NAMES))
    count = int(rng.integers(2, 12))
    sizes = SMALLEST * (LARGEST / SMALLEST) ** rng.random(count)
    for size in sorted(sizes * rng.uniform(0.9, 1.1, count), reverse=True):
        size = min(max(float(size), SMALLEST), LARGEST)
        _add_thing(rng, canvas, int(rng.choice(kinds)), size, light, shadow)
    for _ in range(rng.integers(0, 3) if rng.random() < 0.4 else 0):
        _add_shape(rng, canvas, 60)
    return Scene(_develop(rng, canvas.picture), canvas.owner, canvas.classes)


def annotations(drawn, image_id, first_id):
    """COCO's annotation records of a scene."""
    records = []
    for index, class_index in enumerate(drawn.classes):
        mask = drawn.owner == index + 1
        xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]
        records.append(
            {
                "id": first_id + index,
                "image_id": image_id,
                "category_id": class_index + 1,
                "bbox": box,
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": rle.encode(mask),
            }
        )
    return records


def write_data_set(out, images, seed):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    data = {
        "info": {"description": "Osprey demo scenes", "seed": seed},
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)],
        "images": [],
        "annotations": [],
    }
    for index in range(images):
        drawn = scene(seed, index)
        height, width = drawn.owner.shape
        name = f"scene_{seed}_{index:04d}.jpg"
        Image.fromarray(drawn.pixels).save(out / name, quality=JPEG_QUALITY, optimize=True)
        data["images"].append({"id": index + 1, "file_name": name, "height": height, "width": width})
        data["annotations"] += annotations(drawn, index + 1, len(data["annotations"]) + 1)
    (out / "instances.json").write_text(json.dumps(data, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--labels", help="also write the classes' names here, one a line")
    args = parser.parse_args()
    write_data_set(args.out, args.images, args.seed)
    if args.labels:
        pathlib.Path(args.labels).write_text("\n".join(NAMES) + "\n")


if __name__ == "__main__":
    main()

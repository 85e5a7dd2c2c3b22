"""Scenes for training: drawn by worker processes all the while, kept on the device, handed out as jittered batches."""

import contextlib
import threading

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from demo import scenes
from demo.detect import resized, test_size

MOST_THINGS = 12


class _Drawn(torch.utils.data.IterableDataset):
    """Scenes of one seed for ever, on the canvas of the network's input: (planes, facts). The planes are blue, green, red
    and owner, (4, height, width); the facts are the scene's height and width and its things' classes, -1 past the last."""

    def __init__(self, seed, cfg):
        self.seed, self.cfg = seed, cfg
        self.sides = sorted((cfg["INPUT"]["MIN_SIZE_TEST"], cfg["INPUT"]["MAX_SIZE_TEST"]))

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        index, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        while True:
            yield self._on_canvas(scenes.scene(self.seed, index))
            index += step

    def _on_canvas(self, drawn):
        height, width = test_size(*drawn.owner.shape, self.cfg)
        planes = np.zeros((4, *(self.sides if height <= width else self.sides[::-1])), np.uint8)
        planes[:3, :height, :width] = resized(drawn.pixels, self.cfg)[..., ::-1].transpose(2, 0, 1)
        planes[3, :height, :width] = Image.fromarray(drawn.owner).resize((width, height), Image.Resampling.NEAREST)
        facts = np.full(2 + MOST_THINGS, -1, np.int64)
        facts[: 2 + len(drawn.classes)] = [height, width, *drawn.classes]
        return torch.from_numpy(planes), torch.from_numpy(facts)


class _Pool:
    """The first `capacity` scenes that fit one canvas."""

    def __init__(self, capacity, height, width, device):
        self.canvas, self.capacity, self.count = (height, width), capacity, 0
        self.planes = torch.zeros((capacity, 4, height, width), dtype=torch.uint8, device=device)
        self.facts = torch.zeros((capacity, 2 + MOST_THINGS), dtype=torch.int64, device=device)

    def add(self, planes, facts):
        """Adds a scene if there is room; it counts once it has arrived."""
        if self.count < self.capacity:
            self.planes[self.count].copy_(planes)
            self.facts[self.count].copy_(facts)
            if self.planes.is_cuda:
                torch.cuda.current_stream().synchronize()
            self.count += 1


class Feed:
    """The wide pool, the tall pool, and a thread that fills them while the training goes on."""

    def __init__(self, seed, cfg, device, capacity, workers):
        drawn = _Drawn(seed, cfg)
        short, long = drawn.sides
        self.wide = _Pool(capacity, short, long, device)
        self.tall = _Pool(max(1, capacity // 3), long, short, device)
        loader = torch.utils.data.DataLoader(drawn, batch_size=None, num_workers=workers)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(loader,), daemon=True)
        self._thread.start()

    def _fill(self, loader):
        on_cuda = self.wide.planes.is_cuda
        with torch.cuda.stream(torch.cuda.Stream()) if on_cuda else contextlib.nullcontext():
            for planes, facts in loader:
                (self.wide if planes.shape[2] >= planes.shape[1] else self.tall).add(planes, facts)
                if self._closed.is_set() or self.count == self.wide.capacity + self.tall.capacity:
                    return

    def close(self):
        """Lets the workers go."""
        self._closed.set()
        self._thread.join()

    @property
    def count(self):
        return self.wide.count + self.tall.count

    def batch(self, size, mean, std):
        """Jittered scenes of one orientation."""
        pool = self.tall if torch.rand(()).item() * self.count < self.tall.count else self.wide
        rows = torch.randint(pool.count, (size,), device=pool.planes.device)
        return Batch(pool.planes[rows], pool.facts[rows], mean, std)


class Batch:
    """Images (n, 3, h, w) normalised, zero outside `size` (n, 2); owner (n, h, w); boxes (n, k, 4) with `real` (n, k)
    telling which of them are there, and classes (n, k)."""

    def __init__(self, planes, facts, mean, std):
        height, width = planes.shape[2:]
        shape = facts[:, :2].float()
        scale = self._scales(len(shape), shape.device)
        excess = ((shape * scale[:, None]) - shape).clamp(min=0)
        offset = torch.rand_like(excess) * excess
        offset = torch.where(torch.rand_like(offset) < 0.5, offset, offset.floor())
        mirrored = torch.rand(len(shape), device=shape.device) < 0.5
        self.size = torch.minimum(shape * scale[:, None] - offset, shape.new_tensor([height, width]))
        grid = self._grid(height, width, shape, scale, offset, mirrored)
        pixels = (planes[:, :3].float() - mean) / std
        pixels *= self._inside(shape, height, width)[:, None]
        self.images = F.grid_sample(pixels, grid, align_corners=False)
        owner = F.grid_sample(planes[:, 3:].float(), grid, mode="nearest", align_corners=False)[:, 0]
        self.owner = owner.to(torch.uint8)
        self._find_boxes()
        self.classes = facts[:, 2:].clamp(min=0)

    @staticmethod
    def _scales(count, device):
        """1 for half of them, between 0.7 and 1.4 for the rest."""
        jitter = torch.empty(count, device=device).uniform_(-0.36, 0.34).exp()
        return torch.where(torch.rand(count, device=device) < 0.5, jitter, torch.ones_like(jitter))

    @staticmethod
    def _inside(shape, height, width):
        y = torch.arange(height, device=shape.device) < shape[:, :1]
        x = torch.arange(width, device=shape.device) < shape[:, 1:]
        return y[:, :, None] & x[:, None, :]

    @staticmethod
    def _grid(height, width, shape, scale, offset, mirrored):
        """Where each output pixel is read from, in grid_sample's units."""
        y = (torch.arange(height, device=shape.device) + 0.5 + offset[:, :1]) / scale[:, None]
        x = (torch.arange(width, device=shape.device) + 0.5 + offset[:, 1:]) / scale[:, None]
        x = torch.where(mirrored[:, None], shape[:, 1:] - x, x)
        y, x = 2 * y / height - 1, 2 * x / width - 1
        n = len(shape)
        return torch.stack([x[:, None, :].expand(n, height, width), y[:, :, None].expand(n, height, width)], -1)

    def _find_boxes(self):
        ids = torch.arange(1, MOST_THINGS + 1, device=self.owner.device, dtype=torch.uint8)
        mine = self.owner[:, None] == ids[:, None, None]
        rows, cols = mine.any(3).float(), mine.any(2).float()
        y0, x0 = rows.argmax(2), cols.argmax(2)
        y1, x1 = rows.shape[2] - rows.flip(2).argmax(2), cols.shape[2] - cols.flip(2).argmax(2)
        self.boxes = torch.stack([x0, y0, x1, y1], -1).float()
        self.real = mine.sum((2, 3)) >= 32

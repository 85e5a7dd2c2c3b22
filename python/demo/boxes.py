"""Boxes as Detectron2 counts them: x0, y0, x1, y1 in pixels, the width x1 - x0."""

import math

import torch

LARGEST_GROWTH = math.log(1000 / 16)  # of a side, in one step of regression


def area(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def iou(a, b):
    """(..., n, 4) and (..., m, 4) -> (..., n, m)."""
    a, b = a[..., :, None, :], b[..., None, :, :]
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    inter = sides.clamp(min=0).prod(-1)
    return inter / (area(a) + area(b) - inter).clamp(min=1e-6)


def apply_deltas(deltas, boxes, weights):
    """(..., k * 4) regressions of (..., 4) boxes -> (..., k * 4) boxes."""
    shape = deltas.shape
    deltas = deltas.reshape(*shape[:-1], -1, 4) / deltas.new_tensor(weights)
    boxes = boxes.unsqueeze(-2)
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * size + deltas[..., :2] * size
    half = 0.5 * size * deltas[..., 2:].clamp(max=LARGEST_GROWTH).exp()
    return torch.cat([centre - half, centre + half], -1).reshape(shape)


def deltas_between(boxes, targets, weights):
    """What apply_deltas() takes to bring the boxes to their targets."""
    size = boxes[..., 2:] - boxes[..., :2]
    target_size = targets[..., 2:] - targets[..., :2]
    shift = (targets[..., :2] + 0.5 * target_size - boxes[..., :2] - 0.5 * size) / size
    return torch.cat([shift, torch.log(target_size / size)], -1) * boxes.new_tensor(weights)


def clip(boxes, heights, widths):
    """Clips (..., k * 4) boxes to their images."""
    x = boxes[..., 0::2].clamp(min=0).minimum(widths)
    y = boxes[..., 1::2].clamp(min=0).minimum(heights)
    return torch.stack([x, y], -1).flatten(-2)


def cell_anchors(size, ratios):
    """One level's anchors at the origin; a ratio is height over width."""
    rows = []
    for ratio in ratios:
        width = math.sqrt(size * size / ratio)
        height = ratio * width
        rows.append([-width / 2, -height / 2, width / 2, height / 2])
    return rows


def grid_anchors(cells, height, width, stride, device):
    """A level's anchors, in order of row, column, anchor: (height * width * k, 4)."""
    y = torch.arange(height, device=device, dtype=torch.float32) * stride
    x = torch.arange(width, device=device, dtype=torch.float32) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (shifts + torch.tensor(cells, device=device)).reshape(-1, 4)


def pyramid_level(boxes, lowest=2, highest=5):
    """The FPN level each box is pooled from: 4 for an area of 224 x 224 pixels, one less for half the side."""
    level = torch.floor(4 + torch.log2(area(boxes).clamp(min=0).sqrt() / 224 + 1e-8))
    return level.clamp(lowest, highest).long()

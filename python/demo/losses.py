"""Mask R-CNN's training losses, over whole batches in fixed shapes: the device never waits for the host to count.

Ren et al., "Faster R-CNN", 2015 (matching and sampling); He et al., "Mask R-CNN", 2017 (the mask loss). Numbers of
samples and thresholds are Detectron2's defaults unless said otherwise.
"""

import torch
import torch.nn.functional as F

from demo import boxes as bx

RPN_SAMPLES, ROI_SAMPLES, ROI_POSITIVE = 256, 128, 32  # an image
PROPOSALS_PER_LEVEL, PROPOSALS = 400, 384
MASK_POINTS = 3  # a side of a mask cell, for the share of it that is covered


def _sample(positive, negative, count, most_positive):
    """Rows of random positives (at most most_positive) and then negatives: indices, is positive, is negative; (n, count)."""
    chance = torch.rand(positive.shape, device=positive.device)
    first = torch.where(positive, chance, -1.0).topk(most_positive, 1).indices
    chosen = torch.zeros_like(positive).scatter_(1, first, True) & positive
    order = torch.where(chosen, 1 + chance, torch.where(negative, chance, -1.0))
    order, index = order.topk(count, 1)
    return index, order >= 1, (order >= 0) & (order < 1)


def _rows(table, index):
    return table.gather(1, index[..., None].expand(*index.shape, table.shape[-1]))


def rpn_losses(logits, deltas, anchors, batch):
    """Objectness and regression of sampled anchors."""
    logits, deltas, anchors = torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors)
    with torch.no_grad():
        overlap = bx.iou(batch.boxes, anchors[None]).masked_fill(~batch.real[..., None], -1)
        best, owner = overlap.max(1)
        nearest = overlap.max(2, keepdim=True).values  # each thing claims the anchors that fit it best, however badly
        claimed = ((overlap == nearest) & (nearest > 0) & batch.real[..., None]).any(1)
        positive = (best >= 0.7) | claimed
        index, is_positive, is_negative = _sample(positive, (best < 0.3) & ~positive, RPN_SAMPLES, RPN_SAMPLES // 2)
        boxes = anchors[index]
        targets = _rows(batch.boxes, owner.gather(1, index))
        targets = torch.where(is_positive[..., None], targets, boxes)
        targets = bx.deltas_between(boxes, targets, (1.0, 1.0, 1.0, 1.0))
    norm = index.numel()
    used = is_positive | is_negative
    objectness = F.binary_cross_entropy_with_logits(logits.gather(1, index), is_positive.float(), reduction="none")
    distance = (_rows(deltas, index) - targets).abs().sum(-1)
    return (objectness * used).sum() / norm, (distance * is_positive).sum() / norm


def _suppress(boxes, threshold, rounds=10):
    """Which of (..., k, 4) boxes, best first, greedy NMS keeps: the fixed point of "nobody kept before me covers me"."""
    covers = (bx.iou(boxes, boxes) > threshold).triu(1).to(torch.bfloat16)
    keep = covers.new_ones((*covers.shape[:-2], 1, covers.shape[-1]))
    for _ in range(rounds):
        keep = (keep @ covers == 0).to(torch.bfloat16)
    return keep.squeeze(-2) > 0


@torch.no_grad()
def proposals(logits, deltas, anchors, batch):
    """The RPN's boxes and then the true ones: (n, p, 4), and which of them count."""
    height, width = batch.size[:, :1, None], batch.size[:, 1:, None]
    boxes, scores = [], []
    for score, delta, anchor in zip(logits, deltas, anchors):
        score, index = score.topk(min(PROPOSALS_PER_LEVEL, score.shape[1]), 1)
        box = bx.apply_deltas(_rows(delta, index), anchor[index], (1.0, 1.0, 1.0, 1.0))
        box = bx.clip(box, height, width)
        keep = _suppress(box, 0.7) & (box[..., 2] > box[..., 0]) & (box[..., 3] > box[..., 1])
        boxes.append(box)
        scores.append(score.masked_fill(~keep, -torch.inf))
    score, index = torch.cat(scores, 1).topk(PROPOSALS, 1)
    boxes = torch.cat([_rows(torch.cat(boxes, 1), index), batch.boxes], 1)
    return boxes, torch.cat([score > -torch.inf, batch.real], 1)


def _as_rois(boxes):
    """(n, k, 4) -> (n * k, 5), the image's index first."""
    image = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)
    return torch.cat([image[:, None, None].expand(-1, boxes.shape[1], 1), boxes], -1).flatten(0, 1)


def mask_targets(owner, rois, thing, side):
    """How much of each of side x side cells of the regions its thing covers: (k, side, side) in 0..1."""
    at = (torch.arange(side * MASK_POINTS, device=rois.device) + 0.5) / (side * MASK_POINTS)
    x = rois[:, 1:2] + at * (rois[:, 3:4] - rois[:, 1:2])
    y = rois[:, 2:3] + at * (rois[:, 4:5] - rois[:, 2:3])
    x = x.long().clamp(0, owner.shape[2] - 1)[:, None, :]
    y = y.long().clamp(0, owner.shape[1] - 1)[:, :, None]
    inside = owner[rois[:, 0].long()[:, None, None], y, x] == (thing + 1)[:, None, None]
    return F.avg_pool2d(inside.float()[:, None], MASK_POINTS)[:, 0]


def roi_losses(model, features, boxes, counts, batch):
    """Class, box and mask losses of sampled proposals."""
    with torch.no_grad():
        overlap = bx.iou(boxes, batch.boxes).masked_fill(~batch.real[:, None], -1)
        best, thing = overlap.max(2)
        index, positive, negative = _sample(counts & (best >= 0.5), counts & (best < 0.5), ROI_SAMPLES, ROI_POSITIVE)
        boxes, thing = _rows(boxes, index), thing.gather(1, index)
        classes = batch.classes.gather(1, thing).masked_fill(~positive, model.classes)
        used, rois = (positive | negative).flatten(), _as_rois(boxes)
        weights = model.cfg["MODEL"]["ROI_BOX_HEAD"]["BBOX_REG_WEIGHTS"]
        boxes = torch.where(used.view(boxes.shape[:2])[..., None], boxes, boxes.new_tensor([0.0, 0, 1, 1]))
        targets = torch.where(positive[..., None], _rows(batch.boxes, thing), boxes)
        targets = bx.deltas_between(boxes, targets, weights).flatten(0, 1)
        positive, classes, thing = positive.flatten(), classes.flatten(), thing.flatten()
    logits, deltas = model.boxes_of(features, rois)
    cls = (F.cross_entropy(logits, classes, reduction="none") * used).sum() / len(rois)
    mine = classes.clamp(max=model.classes - 1)[:, None, None].expand(-1, 1, 4)
    delta = deltas.view(len(rois), -1, 4).gather(1, mine)[:, 0]
    box = ((delta - targets).abs().sum(-1) * positive).sum() / len(rois)
    # The positives stand first. All rows that could be one are run, so that a step's shapes never change.
    first = torch.arange(len(rois), device=rois.device).view(len(index), -1)[:, :ROI_POSITIVE].flatten()
    mask = model.masks_of(features, rois[first])
    mask = mask[torch.arange(len(first), device=mask.device), mine[first, 0, 0]]
    target = mask_targets(batch.owner, rois[first], thing[first], mask.shape[-1])
    error = F.binary_cross_entropy_with_logits(mask, target, reduction="none").mean((1, 2))
    return cls, box, (error * positive[first]).sum() / positive.sum().clamp(min=1)


def losses(model, batch):
    """The five losses of a batch, by name."""
    features = model.backbone(batch.images)
    logits, deltas = model.proposal_generator.rpn_head(features)
    anchors = model.anchors(features)
    objectness, anchor_box = rpn_losses(logits, deltas, anchors, batch)
    boxes, counts = proposals(logits, deltas, anchors, batch)
    cls, box, mask = roi_losses(model, [x.float() for x in features], boxes, counts, batch)
    return {"objectness": objectness, "anchor_box": anchor_box, "class": cls, "box": box, "mask": mask}

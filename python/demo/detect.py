"""Inference to the letter of Detectron2's rules, in fp32: the reference that Osprey's own runs are compared with.

    python3 -m demo.detect --config C.yaml --weights W.pkl --data DIR [--out results.json] [--device cuda]

writes the detections of DIR/instances.json's images, and prints COCO's figures where pycocotools is installed.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.ops import nms

from demo import boxes as bx
from demo import rle
from demo.model import MaskRCNN, load, read_config


def test_size(height, width, cfg):
    """The size an image is shown to the network at: its shorter side MIN_SIZE_TEST unless the longer would exceed MAX."""
    shortest, longest = cfg["INPUT"]["MIN_SIZE_TEST"], cfg["INPUT"]["MAX_SIZE_TEST"]
    scale = shortest / min(height, width)
    h, w = (shortest, scale * width) if height < width else (scale * height, shortest)
    if max(h, w) > longest:
        shrink = longest / max(h, w)
        h, w = h * shrink, w * shrink
    return int(h + 0.5), int(w + 0.5)


def resized(pixels, cfg):
    """Pillow's bilinear resize of RGB bytes."""
    height, width = test_size(*pixels.shape[:2], cfg)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def network_input(model, pixels):
    """RGB bytes at test size -> normalised BGR, zeros to a multiple of 32 at the right and bottom."""
    bgr = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1))).to(model.mean.device)
    x = (bgr.float() - model.mean) / model.std
    height, width = x.shape[1:]
    return F.pad(x, (0, -width % 32, 0, -height % 32))[None]


def _separate(boxes, groups):
    """Boxes moved so far apart, group by group, that only those of one group overlap."""
    return boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]


def propose(model, features, height, width):
    """The RPN's boxes of one image, best first."""
    rpn = model.cfg["MODEL"]["RPN"]
    logits, deltas = model.proposal_generator.rpn_head(features)
    found = []
    for level, (score, delta, anchor) in enumerate(zip(logits, deltas, model.anchors(features))):
        score, order = score[0].sort(descending=True, stable=True)
        order = order[: rpn["PRE_NMS_TOPK_TEST"]]
        box = bx.apply_deltas(delta[0, order], anchor[order], rpn["BBOX_REG_WEIGHTS"])
        found.append((box, score[: len(order)], torch.full_like(order, level)))
    boxes, scores, levels = (torch.cat(parts) for parts in zip(*found))
    boxes = bx.clip(boxes, height, width)
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, levels = boxes[solid], scores[solid], levels[solid]
    keep = nms(_separate(boxes, levels), scores, rpn["NMS_THRESH"])
    return boxes[keep[: rpn["POST_NMS_TOPK_TEST"]]]


def classify(model, features, proposals, height, width):
    """Boxes, scores and classes of one image at network size, best first."""
    heads = model.cfg["MODEL"]["ROI_HEADS"]
    rois = F.pad(proposals, (1, 0))
    logits, deltas = model.boxes_of(features, rois)
    scores = logits.softmax(-1)[:, :-1]
    weights = model.cfg["MODEL"]["ROI_BOX_HEAD"]["BBOX_REG_WEIGHTS"]
    boxes = bx.clip(bx.apply_deltas(deltas, proposals, weights), height, width).view(len(rois), -1, 4)
    rows, classes = torch.nonzero(scores > heads["SCORE_THRESH_TEST"], as_tuple=True)
    boxes, scores = boxes[rows, classes], scores[rows, classes]
    if len(boxes) == 0:
        return boxes, scores, classes
    keep = nms(_separate(boxes, classes), scores, heads["NMS_THRESH_TEST"])
    keep = keep[: model.cfg["TEST"]["DETECTIONS_PER_IMAGE"]]
    return boxes[keep], scores[keep], classes[keep]


def paste(probability, box, height, width):
    """One mask's probabilities over its box, on the whole image: sampled at pixel centres, zero outside."""
    x0, y0, x1, y1 = box.tolist()
    left, top = max(math.floor(x0) - 1, 0), max(math.floor(y0) - 1, 0)
    right, bottom = min(math.ceil(x1) + 1, width), min(math.ceil(y1) + 1, height)
    y = (torch.arange(top, bottom, device=box.device) + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(left, right, device=box.device) + 0.5 - x0) / (x1 - x0) * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]
    mask = torch.zeros((height, width), dtype=torch.bool, device=box.device)
    mask[top:bottom, left:right] = F.grid_sample(probability[None, None], grid, align_corners=False)[0, 0] >= 0.5
    return mask


@torch.inference_mode()
def detect(model, pixels):
    """RGB bytes -> boxes (k, 4) in the image's pixels, scores, classes, masks (k, height, width), best first."""
    height, width = pixels.shape[:2]
    shown = resized(pixels, model.cfg)
    h, w = (torch.tensor(float(side), device=model.mean.device) for side in shown.shape[:2])
    features = model.backbone(network_input(model, shown))
    proposals = propose(model, features, h, w)
    boxes, scores, classes = classify(model, features, proposals, h, w)
    logits = model.masks_of(features, F.pad(boxes, (1, 0)))
    probabilities = logits[torch.arange(len(boxes)), classes].sigmoid()
    scale = boxes.new_tensor([width / shown.shape[1], height / shown.shape[0]]).repeat(2)
    boxes = bx.clip(boxes * scale, boxes.new_tensor(height), boxes.new_tensor(width))
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, classes = boxes[solid], scores[solid], classes[solid]
    masks = [paste(p, b, height, width) for p, b in zip(probabilities[solid], boxes)]
    return tuple(t.cpu().numpy() for t in (boxes, scores, classes)) + ([m.cpu().numpy() for m in masks],)


def coco_results(model, data_dir):
    """COCO's list of results over a data set of demo.scenes."""
    data_dir = pathlib.Path(data_dir)
    data = json.loads((data_dir / "instances.json").read_text())
    results = []
    for image in data["images"]:
        pixels = np.asarray(Image.open(data_dir / image["file_name"]).convert("RGB"))
        for box, score, index, mask in zip(*detect(model, pixels)):
            x0, y0, x1, y1 = (round(float(v), 3) for v in box)
            results.append(
                {
                    "image_id": image["id"],
                    "category_id": int(index) + 1,
                    "bbox": [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)],
                    "score": round(float(score), 5),
                    "segmentation": rle.encode(mask),
                }
            )
    return results


def evaluate(data_dir, results):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(pathlib.Path(data_dir) / "instances.json"))
    for kind, other in (("bbox", "segmentation"), ("segm", "bbox")):
        # Results that have both are taken for boxes, and a mask then counts as small or large by its box.
        found = truth.loadRes([{k: v for k, v in result.items() if k != other} for result in results])
        run = COCOeval(truth, found, kind)
        run.evaluate()
        run.accumulate()
        run.summarize()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = load(MaskRCNN(read_config(args.config)), args.weights).eval().to(args.device)
    results = coco_results(model, args.data)
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(results, separators=(",", ":")) + "\n")
    try:
        evaluate(args.data, results)
    except ImportError:
        print("pycocotools is not installed: no figures")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times PyTorch's and torchvision's detectors on this machine's GPU, and what the GPU gives at best, for bench/gpu.py.

The detectors have the weights of the Detectron2 checkpoint and the photo that Osprey runs, so they find as much. Eager
models are timed by the clock around a synchronised call, from the photo on the device to their outputs on the device;
CUDA graphs by events around each replay. Prints JSON; progress goes to stderr.

    bench/gpu_peers.py --checkpoint model_final.pkl --photo photo.png > peers.json
"""
import argparse
import json
import statistics
import sys
import time

import numpy as np
import torch
import torchvision
from PIL import Image

import mask_rcnn_torchvision as peer
import rtdetr_torch

REPLAYS, EAGER_RUNS, EAGER_SECONDS = 200, 60, 6.0


def clock(run):
    """Median milliseconds of synchronised calls: at most EAGER_RUNS of them, or EAGER_SECONDS."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    times, start = [], time.perf_counter()
    while len(times) < EAGER_RUNS and (len(times) < 5 or time.perf_counter() - start < EAGER_SECONDS):
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1e3)
    return {"ms": statistics.median(times), "best_ms": min(times), "runs": len(times)}


def replay(run):
    """Median milliseconds of a CUDA graph's replays, by events."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return {**events(graph.replay, REPLAYS), "runs": REPLAYS}


def events(run, runs):
    for _ in range(5):
        run()
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    for begin, end in pairs:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    times = [begin.elapsed_time(end) for begin, end in pairs]
    return {"ms": statistics.median(times), "best_ms": min(times)}


def ceilings():
    """A copy's TB/s, read and written, and TFLOP/s of a product of random 8192 x 8192 matrices."""
    out = {}
    source = torch.randn(1 << 30, device="cuda")
    target = torch.empty_like(source)
    out["copy_tb_s"] = 2 * source.nbytes / events(lambda: target.copy_(source), 20)["ms"] / 1e9
    del source, target
    for name, dtype, tf32 in (("fp16", torch.float16, False), ("tf32", torch.float32, True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
        out[f"{name}_tflop_s"] = 2 * 8192**3 / events(lambda: a @ b, 20)["ms"] / 1e9
    torch.backends.cuda.matmul.allow_tf32 = False
    return out


def detector(checkpoint, masks, sides):
    model = peer.load(peer.build(), checkpoint)
    if not masks:  # Faster R-CNN: the same network without its third head
        model.roi_heads.mask_roi_pool = model.roi_heads.mask_head = model.roi_heads.mask_predictor = None
    model.transform.min_size, model.transform.max_size = (sides[0],), sides[1]
    return peer.fold(model).cuda()


def squared(photo, side):
    """The photo in the top-left corner of a square, as large as it fits."""
    factor = side / max(photo.size)
    canvas = Image.new("RGB", (side, side), (124, 116, 104))
    canvas.paste(photo.resize([round(length * factor) for length in photo.size], Image.BILINEAR), (0, 0))
    return canvas


def tensor(image):
    return torch.from_numpy(np.array(image)).cuda().permute(2, 0, 1).float() / 255


def eager(model, images, amp):
    def run(reduced=amp):
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=reduced):
            return model(images)
    found = run()[0]
    out = {**clock(run), "detections": len(found["boxes"])}
    if amp:  # what fp16 costs PyTorch itself on these weights
        torch.backends.cudnn.allow_tf32 = False
        exact = run(False)[0]
        torch.backends.cudnn.allow_tf32 = True
        out["kept"] = f"{kept(found, exact)} of {len(exact['boxes'])}"
    return out


def kept(found, exact):
    """How many exact detections were found again: the class the same, IoU at least 0.95, each once."""
    if not len(found["boxes"]):
        return 0
    iou = torchvision.ops.box_iou(exact["boxes"].float(), found["boxes"].float())
    iou[exact["labels"][:, None] != found["labels"][None, :]] = 0
    count = 0
    for row in range(len(iou)):
        best = iou[row].argmax()
        if iou[row, best] >= 0.95:
            count += 1
            iou[:, best] = 0
    return count


def dense_network(name, checkpoint, batch):
    """A module and its input, in fp16 and channels last."""
    if name == "rtdetr":
        module, size = rtdetr_torch.RtDetrR50().eval(), (640, 640)
    elif name == "retinanet":
        model = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None).eval()
        trunk, head, size = model.backbone, model.head, (800, 1344)
        module = Dense(trunk, head)
    else:
        module, size = detector(checkpoint, True, (1344, 1344)).backbone, (1344, 1344)
    x = torch.randn(batch, 3, *size, device="cuda", dtype=torch.float16)
    return module.cuda().half().to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)


class Dense(torch.nn.Module):
    def __init__(self, trunk, head):
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, x):
        return self.head(list(self.trunk(x).values()))


def graphed(name, checkpoint, compiled, batch=1):
    module, x = dense_network(name, checkpoint, batch)
    if compiled:
        module = torch.compile(module)
    with torch.inference_mode():
        return replay(lambda: module(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="a Detectron2 .pkl of Mask R-CNN R50-FPN, 80 classes")
    parser.add_argument("--photo", required=True, help="of 1333x800 pixels")
    parser.add_argument("--seconds", type=float, default=120, help="start nothing new after so many")
    parser.add_argument("--only", default="", help="the cases that have this in their names")
    args = parser.parse_args()
    photo = Image.open(args.photo).convert("RGB")
    square, wide = [tensor(squared(photo, 1344))], [tensor(photo)]

    def rcnn(masks, sides, images, amp):
        return lambda: eager(detector(args.checkpoint, masks, sides), images, amp)

    canvas, dynamic = (1344, 1344), (800, 1333)
    cases = {
        "Mask R-CNN R50-FPN 1344x1344, eager, amp": rcnn(True, canvas, square, True),
        "Mask R-CNN R50-FPN 1344x1344, eager, fp32 (TF32 convolutions, PyTorch's default)": rcnn(True, canvas, square, False),
        "R50-FPN backbone 1344x1344, fp16, compiled, CUDA graph": lambda: graphed("backbone", args.checkpoint, True),
        "RetinaNet R50-FPN dense 800x1344, fp16, compiled, CUDA graph": lambda: graphed("retinanet", None, True),
        "RT-DETR-R50 network 640, fp16, compiled, CUDA graph": lambda: graphed("rtdetr", None, True),
        "RT-DETR-R50 network 640, batch 16, fp16, compiled, CUDA graph": lambda: graphed("rtdetr", None, True, 16),
        "Faster R-CNN R50-FPN 800x1333, eager, amp": rcnn(False, dynamic, wide, True),
        "Mask R-CNN R50-FPN 800x1333, eager, amp": rcnn(True, dynamic, wide, True),
        "Mask R-CNN R50-FPN 1344x1344, batch 8, eager, amp": rcnn(True, canvas, square * 8, True),
        "Faster R-CNN R50-FPN 800x1333, eager, fp32 (TF32 convolutions)": rcnn(False, dynamic, wide, False),
        "R50-FPN backbone 1344x1344, fp16, CUDA graph": lambda: graphed("backbone", args.checkpoint, False),
        "RetinaNet R50-FPN dense 800x1344, fp16, CUDA graph": lambda: graphed("retinanet", None, False),
        "RT-DETR-R50 network 640, fp16, CUDA graph": lambda: graphed("rtdetr", None, False),
        "RT-DETR-R50 network 640, batch 16, fp16, CUDA graph": lambda: graphed("rtdetr", None, False, 16),
    }
    start, results = time.perf_counter(), []
    best = ceilings()
    for name, run in ((name, run) for name, run in cases.items() if args.only in name):
        spent = time.perf_counter() - start
        if spent > args.seconds:
            results.append({"name": name, "skipped": f"{args.seconds:.0f} s were over"})
            continue
        try:
            results.append({"name": name, **run()})
        except Exception as error:  # a peer that fails must not take the others' figures along
            results.append({"name": name, "failed": f"{type(error).__name__}: {str(error)[:300]}"})
        print(f"{time.perf_counter() - start:6.1f} s  {results[-1]}", file=sys.stderr, flush=True)
        torch.cuda.empty_cache()
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "torchvision": torchvision.__version__,
                      "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "ceilings": best, "cases": results}, indent=1))


if __name__ == "__main__":
    main()

"""Trains the demo model on scenes drawn as it goes.

    python3 -m demo.train --config assets/demo/demo_mask_rcnn.yaml --out DIR --minutes 8

The learning rate follows the clock (a cosine over --minutes), so that the run ends when it was told to on any device.
Writes DIR/demo_mask_rcnn.pkl every minute and at the end, and DIR/log.tsv.
"""

import argparse
import math
import pathlib
import time

import torch

from demo.feed import Feed
from demo.losses import losses
from demo.model import MaskRCNN, read_config, save

WARM_UP_STEPS = 500
WEIGHTS = {"objectness": 1.0, "anchor_box": 1.0, "class": 1.0, "box": 2.0, "mask": 1.0}


def optimizer_of(model, rate, decay):
    """AdamW; biases and batch norms are not decayed."""
    wide = [p for p in model.parameters() if p.ndim > 1]
    flat = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": wide, "weight_decay": decay}, {"params": flat, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, fused=next(model.parameters()).is_cuda)


def step(model, optimizer, batch):
    device = batch.images.device.type
    batch.images = batch.images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device, torch.bfloat16):
        parts = losses(model, batch)
    total = sum(WEIGHTS[name] * value for name, value in parts.items())
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return parts


def train(args):
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    cfg = read_config(args.config)
    start = time.monotonic()
    feed = Feed(args.seed, cfg, args.device, args.capacity, args.workers)
    model = MaskRCNN(cfg).to(args.device, memory_format=torch.channels_last).train()
    optimizer = optimizer_of(model, args.rate, args.decay)
    while feed.wide.count < args.batch * 4 or feed.tall.count == 0:
        time.sleep(0.1)
    count, saved, noted = 0, start, time.monotonic()
    with open(out / "log.tsv", "w", encoding="utf-8") as log:
        print("seconds", "step", "scenes", "rate", *WEIGHTS, sep="\t", file=log)
        while (progress := (time.monotonic() - start) / (60 * args.minutes)) < 1:
            rate = args.rate * min(1, (count + 1) / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = rate
            parts = step(model, optimizer, feed.batch(args.batch, model.mean, model.std))
            count += 1
            if count % args.report == 0:
                now = time.monotonic()
                values = [f"{value.item():.4f}" for value in parts.values()]
                line = [f"{now - start:.1f}", str(count), str(feed.count), f"{rate:.2e}", *values]
                print(*line, sep="\t", file=log, flush=True)
                print(*line, f"{(now - noted) / args.report * 1000:.1f} ms/step", flush=True)
                noted = now
                if now - saved > 60:
                    save(model, out / "demo_mask_rcnn.pkl")
                    saved = now
    feed.close()
    save(model, out / "demo_mask_rcnn.pkl")
    print(f"{count} steps of {args.batch}, {feed.count} scenes, {time.monotonic() - start:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--decay", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--capacity", type=int, default=60000, help="wide scenes kept on the device; tall ones a third")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--report", type=int, default=50)
    train(parser.parse_args())


if __name__ == "__main__":
    main()

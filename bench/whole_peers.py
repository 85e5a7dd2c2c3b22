#!/usr/bin/env python3
"""Times Mask R-CNN R50-FPN whole, from the decoded photo to pasted masks, on Osprey and on torchvision with the same
weights, and measures peak memory. Every round starts a fresh process of each: it loads the model, runs the photo once to
warm up and then three times.

    bench/run.sh whole
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time

import measure
from model_files import add_model_options, build_engine, prepare


def osprey(engine, photo, threads):
    command = [measure.program("osprey"), "bench", engine, "--input", photo, "--iterations", 3, "--warm-up", 1, "--json", "--quiet",
               "--threads", threads]
    output, _, peak = measure.run_once(command, threads)
    figures = measure.parse_json(output)
    return {"seconds": figures["latency_ms"]["median"] / 1e3, "peak": peak, "open": figures["open_ms"] / 1e3,
            "first": figures["first_run_ms"] / 1e3}


def count_detections(engine, photo, threads):
    folder = engine.parent / "detections"
    command = [measure.program("osprey"), "infer", engine, photo, "-o", folder, "--format", "json", "--quiet", "--threads", threads]
    measure.run_once(command, threads)
    return len(json.loads((folder / "detections.json").read_text())["images"][0]["detections"])


def torchvision(kind, files, threads):
    command = [sys.executable, __file__, "--worker", kind, "--checkpoint", files.checkpoint, "--photo", files.photo, "--threads",
               threads]
    output, _, peak = measure.run_once(command, threads)
    return {**json.loads(output), "peak": peak}


def worker(args):
    start = time.perf_counter()
    import mask_rcnn_torchvision as peer
    import numpy as np
    import torch
    from PIL import Image
    torch.set_num_threads(args.threads)
    with Image.open(args.photo) as image:
        photo = np.array(image.convert("RGB"))
    opening = time.perf_counter()
    model = peer.load(peer.build(), args.checkpoint)
    if args.worker == "folded":
        model = peer.fold(model)
    opened = time.perf_counter()
    seconds = []
    for _ in range(4):
        run = time.perf_counter()
        found = peer.detect(model, photo)
        seconds.append(time.perf_counter() - run)
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "first": seconds[0], "open": opened - opening,
                      "import": opening - start, "detections": len(found["boxes"])}))


def report(rounds, detections):
    fp32 = [r["seconds"] for r in rounds["osprey fp32"]]
    rows = []
    for name, runs in rounds.items():
        seconds, peak = [r["seconds"] for r in runs], statistics.median(r["peak"] for r in runs)
        ours = statistics.median(r["peak"] for r in rounds["osprey fp32"])
        rows.append([name, detections[name], f"{statistics.median(seconds) * 1e3:.0f}", f"{min(seconds) * 1e3:.0f}",
                     f"{measure.median_of_ratios(seconds, fp32):.2f} x", f"{statistics.median(r['open'] for r in runs) * 1e3:.0f}",
                     f"{statistics.median(r['first'] for r in runs) * 1e3:.0f}", f"{peak:.0f}", f"{peak / ours:.2f} x"])
    columns = ["program", "detections", "median ms", "best ms", "time / osprey fp32", "open ms", "first run ms", "peak MiB",
               "peak / osprey fp32"]
    lines = [measure.table(columns, rows), ""]
    for name in rounds:
        if name.startswith("torchvision"):
            ratio = measure.median_of_ratios([r["seconds"] for r in rounds[name]], fp32)
            memory = statistics.median(r["peak"] for r in rounds["osprey fp32"]) / statistics.median(r["peak"] for r in rounds[name])
            lines.append(f"- Against {name}: {ratio:.2f} times as fast ({'at least' if ratio >= 2 else '**below**'} 2); "
                         f"{memory:.2f} of its peak memory ({'below' if memory < 0.5 else '**not below**'} half).")
    lines += ["", "Seconds of every round (median of three runs in a fresh process):", ""]
    return "\n".join(lines + [f"- {name}: " + " ".join(f"{r['seconds']:.3f}" for r in runs) for name, runs in rounds.items()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    parser.add_argument("--worker", choices=["shipped", "folded"], help=argparse.SUPPRESS)
    add_model_options(parser)
    args = parser.parse_args()
    if args.worker:
        return worker(args)

    load = os.getloadavg()[0]
    files = prepare(args)
    engines = {p: build_engine(files, p)[0] for p in ("fp32", "bf16")}
    programs = {f"osprey {p}": lambda e=engine: osprey(e, files.photo, args.threads) for p, engine in engines.items()}
    programs |= {"torchvision": lambda: torchvision("shipped", files, args.threads),
                 "torchvision, folded, channels last": lambda: torchvision("folded", files, args.threads)}
    rounds = {name: [] for name in programs}
    for number in range(args.rounds):
        for name, run in programs.items():
            rounds[name].append(run())
            measure.note(f"round {number + 1} of {args.rounds}: {name} {rounds[name][-1]['seconds']:.3f} s, "
                         f"{rounds[name][-1]['peak']:.0f} MiB")
    detections = {f"osprey {p}": count_detections(e, files.photo, args.threads) for p, e in engines.items()}
    detections |= {name: runs[0]["detections"] for name, runs in rounds.items() if name.startswith("torchvision")}
    text = (measure.conditions(f"bench/run.sh whole --rounds {args.rounds}", load)
            + f"\n- Weights: {files.description}. Photo: {pathlib.Path(files.photo).name}. {args.threads} threads.\n"
            + "- `torchvision` is its Mask R-CNN as it ships (frozen batch norm as a layer of its own); `folded`: what a user can add "
              "in a few lines.\n\n" + report(rounds, detections))
    measure.publish("whole", "Mask R-CNN R50-FPN whole against torchvision", text, args.record)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times COCO evaluation against pycocotools on a synthetic set and compares every number.

    cmake --build build/release --target bench_coco_eval
    python3 -m venv venv && venv/bin/pip install pycocotools==2.0.11 numpy
    venv/bin/python bench/coco_eval.py --program build/release/bench/bench_coco_eval

The set: images of COCO's sizes, about 7 instances in each (polygons, some crowds), 80 classes, and for each image 100
detections: shifted copies of the instances and false alarms, with tied scores, as boxes and as compressed RLE masks.
"""
import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pycocotools.mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

CLASSES = 80


def outline(rng, box, points):
    """A wobbly ellipse within the box, as COCO's flat list x, y, ..."""
    x, y, w, h = box
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = rng.uniform(0.7, 1.0, points)
    xy = np.stack([x + w / 2 + w / 2 * radius * np.cos(angle), y + h / 2 + h / 2 * radius * np.sin(angle)], 1)
    return np.round(xy.ravel(), 2).tolist()


def random_box(rng, width, height):
    size = np.exp(rng.normal(-1.7, 0.9, 2)).clip(0.015, 0.98) * (width, height)
    corner = rng.uniform(0, 1, 2) * ((width, height) - size)
    return [float(v) for v in np.round(np.concatenate([corner, size]), 2)]


def make_set(folder, images, detections, seed):
    rng = np.random.default_rng(seed)
    popularity = rng.dirichlet(np.full(CLASSES, 0.5)) * 0.7 + 0.3 / CLASSES
    truth = {"images": [], "annotations": [], "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(CLASSES)]}
    boxes, masks = [], []
    for image_id in rng.permutation(10 * images)[:images].tolist():
        width, height = [(640, 480), (480, 640), (640, 427), (500, 375)][rng.integers(4)]
        truth["images"].append({"id": image_id, "width": width, "height": height, "file_name": f"{image_id}.jpg"})
        instances = []
        for _ in range(rng.poisson(7)):
            box, category = random_box(rng, width, height), int(rng.choice(CLASSES, p=popularity)) + 1
            polygon = outline(rng, box, int(rng.integers(8, 40)))
            crowd = int(rng.random() < 0.02)
            runs = mask_api.frPyObjects([polygon], height, width)[0]
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image_id, "category_id": category, "bbox": box,
                "area": float(mask_api.area(runs)), "iscrowd": crowd,
                "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()} if crowd else [polygon]})
            instances.append((box, category))
        for _ in range(detections):
            if instances and rng.random() < 0.5:
                box, category = instances[rng.integers(len(instances))]
                shift = rng.normal(0, 0.12, 4) * (box[2], box[3], box[2], box[3])
                box = np.round(np.array(box) + shift, 2).clip(0, [width - 2, height - 2, width, height])
                box = [float(v) for v in (*box[:2], max(box[2], 1.0), max(box[3], 1.0))]
                score = rng.beta(2, 2)
            else:
                box, score = random_box(rng, width, height), rng.beta(1, 4)
                near = instances and rng.random() < 0.5
                category = instances[rng.integers(len(instances))][1] if near else int(rng.integers(CLASSES)) + 1
            entry = {"image_id": image_id, "category_id": category, "score": round(float(score), 3)}
            runs = mask_api.frPyObjects([outline(rng, box, 24)], height, width)[0]
            boxes.append({**entry, "bbox": box})
            masks.append({**entry, "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()}})
    for name, content in (("instances", truth), ("bbox", boxes), ("segm", masks)):
        (folder / f"{name}.json").write_text(json.dumps(content))


def reference(folder, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        truth = COCO(str(folder / "instances.json"))
        truth_loaded = time.perf_counter()
        found = truth.loadRes(str(folder / f"{kind}.json"))
        loaded = time.perf_counter()
        run = COCOeval(truth, found, kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
        done = time.perf_counter()
    times = {"load_annotations_s": truth_loaded - start, "load_results_s": loaded - truth_loaded,
             "evaluate_s": done - loaded}
    arrays = np.concatenate([run.eval[name].ravel() for name in ("precision", "recall", "scores")])
    return times, run.stats, arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, help="the built bench_coco_eval")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3, help="runs of ours; the median counts")
    parser.add_argument("--folder", type=pathlib.Path, help="keeps the set here and takes it from here when it exists")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "segm.json").exists():
            make_set(folder, args.images, args.detections, args.seed)
        print("| type | step | pycocotools s | osprey s | ratio |")
        print("| --- | --- | ---: | ---: | ---: |")
        agree, peaks = True, []
        for kind in ("bbox", "segm"):
            runs = []
            for _ in range(args.repeat):
                arrays_file = folder / "arrays.bin"
                command = [args.program, folder / "instances.json", folder / f"{kind}.json", kind, arrays_file]
                runs.append(json.loads(subprocess.check_output(command)))
            theirs, stats, arrays = reference(folder, kind)
            steps = ("load_annotations_s", "load_results_s", "evaluate_s")
            ours = {step: float(np.median([run[step] for run in runs])) for step in steps}
            for step in steps:
                print(f"| {kind} | {step[:-2].replace('_', ' ')} | {theirs[step]:.2f} | {ours[step]:.2f} "
                      f"| {theirs[step] / ours[step]:.0f} x |")
            total = sum(theirs.values()), sum(ours.values())
            print(f"| {kind} | **total** | {total[0]:.2f} | {total[1]:.2f} | {total[0] / total[1]:.0f} x |")
            worst = max(np.abs(stats - runs[-1]["stats"]).max(), np.abs(arrays - np.fromfile(arrays_file)).max())
            agree &= bool(worst <= 1e-9)
            peaks.append(f"{kind}: largest difference over {arrays.size + stats.size} numbers {worst:.1e}, "
                         f"AP {stats[0]:.4f}, peak memory {runs[-1]['peak_mib']} MiB, {runs[-1]['threads']} threads")
        print("\n".join(["", *peaks]))
        return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())

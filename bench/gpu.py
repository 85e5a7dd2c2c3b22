#!/usr/bin/env python3
"""Measures Osprey on this machine's GPU against its targets, the floor of the arithmetic, and PyTorch in the same call.

    scripts/gpu.sh bench                       builds what is missing and runs this
    bench/gpu.py --osprey build/release/osprey --cases mask_1344_fp16 --no-peers

The networks are full-size R50-FPN with the fixtures' random weights; the photo is a mosaic of the fixtures' photos, on
which the models' own thresholds leave 1,000 proposals and 100 detections (checked, and reported). Needs Pillow.
"""
import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = pathlib.Path(os.environ.get("OSPREY_FIXTURES", ROOT.parent / "shared" / "fixtures"))
WORK = pathlib.Path(os.environ.get("OSPREY_BENCH_WORK", "/tmp/osprey-bench"))
PEAK = {"fp16": 735e12, "tf32": 375e12}  # measured: products of 8192 x 8192 random matrices
BATCH_BUDGET = 60  # seconds: a batch is tuned beside one photo
POSTPROCESSING = {"select_anchors", "nms", "select_boxes", "decode_boxes", "rescale_boxes", "softmax"}


@dataclasses.dataclass
class Case:
    model: str  # the fixture whose checkpoint and config it is
    title: str
    precision: str
    size: str = "config"
    target_ms: float = 0
    batch8: bool = False
    jpeg: bool = False


CASES = {
    "mask_1344_fp16": Case("mask_rcnn_R_50_FPN_3x", "Mask R-CNN R50-FPN 1344x1344", "fp16", "1344x1344", 2.5, True),
    "mask_dynamic_fp16": Case("mask_rcnn_R_50_FPN_3x", "Mask R-CNN R50-FPN, dynamic, 800x1333 photo", "fp16", "config", 1.7,
                              jpeg=True),
    "retinanet_fp16": Case("retinanet_R_50_FPN", "RetinaNet R50-FPN, dynamic, 800x1333 photo", "fp16", "config", 1.3),
    "mask_1344_tf32": Case("mask_rcnn_R_50_FPN_3x", "Mask R-CNN R50-FPN 1344x1344", "tf32", "1344x1344", 5),
    "faster_dynamic_fp16": Case("faster_rcnn_R_50_FPN", "Faster R-CNN R50-FPN, dynamic, 800x1333 photo", "fp16"),
}


def note(text):
    print(text, file=sys.stderr, flush=True)


def mosaic():
    """A photo of 1333x800 pixels with enough in it."""
    from PIL import Image
    photo = Image.new("RGB", (1333, 800))
    for name, box in (("astronaut", (0, 0, 800, 800)), ("coffee", (800, 0, 1333, 400)), ("chelsea", (800, 400, 1333, 800))):
        with Image.open(FIXTURES / "images" / f"{name}.png") as part:
            size = (box[2] - box[0], box[3] - box[1])
            photo.paste(part.convert("RGB").resize(size, Image.BICUBIC), box[:2])
    file = WORK / "mosaic.png"
    photo.save(file)
    photo.save(file.with_suffix(".jpg"), quality=90)
    return file


def checkpoint(model):
    file = WORK / model / "model_final.pkl"
    if not file.exists():
        with tarfile.open(FIXTURES / "detectron2" / model / "checkpoint.tar.xz") as archive:
            archive.extractall(file.parent)
    return file


class Osprey:
    def __init__(self, program, budget):
        libraries = os.environ.get("OSPREY_GPU_LIBRARIES")
        self.program, self.budget = program, budget
        self.env = {**os.environ, "XDG_CACHE_HOME": str(WORK / "cache"), **({"LD_LIBRARY_PATH": libraries} if libraries else {})}

    def run(self, *arguments):
        command = [str(part) for part in (self.program, *arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.env)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def build(self, name, case):
        engine = WORK / f"{name}.osprey"
        start = time.perf_counter()
        self.run("build", checkpoint(case.model), "--config", FIXTURES / "detectron2" / case.model / "config.yaml", "--size", case.size,
                 "--device", "cuda", "--precision", case.precision, "--tuning-budget", self.budget, "--quiet", "-o", engine)
        return engine, time.perf_counter() - start

    def bench(self, engine, photo, *options, budget=None):
        text = self.run("bench", engine, "--input", photo, "--tuning-budget", budget or self.budget, "--json", "--quiet", *options)
        return json.loads(text[text.index("{"):])

    def live_rows(self, engine, model, photo):
        folder, two_stages = WORK / "detections", "rcnn" in model
        self.run("infer", engine, photo, "-o", folder, "--format", "json", "--quiet", "--dump",
                 "proposal_boxes,det_boxes_net" if two_stages else "det_boxes_net", "--dump-to", folder / "dump.npz")
        import numpy
        with numpy.load(folder / "dump.npz") as arrays:
            return {name: len(arrays[name]) for name in arrays.files}


def measure(osprey, name, case, photo, iterations):
    """Everything about one engine; each bench is a fresh process that finds the tuning cache of the build."""
    out = {"name": name, "case": dataclasses.asdict(case)}
    engine, out["build_s"] = osprey.build(name, case)
    osprey.bench(engine, photo, "--iterations", 5)  # tunes the photo's own class of sizes
    out["live"] = osprey.live_rows(engine, case.model, photo)
    out["one"] = osprey.bench(engine, photo, "--iterations", iterations, "--warm-up", 20, "--layers")
    extras = {}
    if case.batch8:
        eight = ("--batch", 8, "--iterations", max(iterations // 6, 10), "--warm-up", 5)
        osprey.bench(engine, photo, "--batch", 8, "--iterations", 1, "--warm-up", 1, budget=BATCH_BUDGET)
        extras |= {"batch8": (*eight, "--layers"), "batch8_streams2": (*eight, "--streams", 2),
                   "streams2": ("--streams", 2, "--iterations", iterations, "--warm-up", 20)}
    if case.jpeg:
        decoding = ("--end-to-end", "--iterations", iterations, "--warm-up", 10)
        extras |= {"jpeg_exact": decoding, "jpeg_gpu": (*decoding, "--gpu-decode")}
    for extra, options in extras.items():
        try:
            out[extra] = osprey.bench(engine, photo.with_suffix(".jpg") if extra.startswith("jpeg") else photo, *options)
        except RuntimeError as error:  # the figures before it stand
            out.setdefault("remarks", []).append(f"{extra} failed: {error}")
    return out


def by_op(layers):
    """{op: (ms, GFLOP)}, the most expensive first."""
    sums = {}
    for layer in layers:
        ms, gflop = sums.get(layer["op"], (0, 0))
        sums[layer["op"]] = (ms + layer["ms"], gflop + layer["gflop"])
    return dict(sorted(sums.items(), key=lambda item: -item[1][0]))


def verdict(value, target, better=min):
    if not target:
        return "-"
    met = value <= target if better is min else value >= target
    return f"{'<=' if better is min else '>='} {target:g}: {'met' if met else '**missed**'}"


def table(columns, rows):
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 1)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def device_ms(figures):
    """The device's own time of a run without transfers, by events; on a CPU, the host's."""
    return figures.get("gpu_compute_ms", figures["latency_ms"])["median"]


def case_rows(result):
    case, title = result["case"], f"{result['case']['title']}, {result['case']['precision']}"
    gflop = sum(layer["gflop"] for layer in result["one"]["layers"])
    floor = gflop * 1e9 / PEAK[case["precision"]] * 1e3
    ours, host = device_ms(result["one"]), result["one"]["latency_ms"]["median"]
    yield [f"{title}: photo on the device to detections and masks", f"{ours:.3f} ms", verdict(ours, case["target_ms"]),
           f"{gflop:.0f} GFLOP: {floor:.3f} ms", f"{ours / floor:.2f} x"]
    yield [f"{title}: decoded photo in host memory to masks as RLE in host memory", f"{host:.3f} ms",
           verdict(host, 4 if case["model"].startswith("mask") and case["precision"] == "fp16" else 0), "", f"{host / floor:.2f} x"]
    parts = [f"{name.removesuffix('_ms')} {result['one'][name]['median']:.3f}" for name in ("upload_ms", "device_ms", "download_ms")
             if name in result["one"]]
    yield [f"{title}: of that, by the device's clock", ", ".join(parts) + " ms", "", "", ""]
    if "batch8" in result:
        for what, key in (("batch 8", "batch8"), ("batch 8, two sessions at once", "batch8_streams2"), ("two sessions at once", "streams2")):
            for kind, figure in (("with transfers, to masks as RLE", "throughput"), ("without transfers", "throughput_no_transfers")):
                rate = result.get(key, {}).get(figure, 0)
                if rate:
                    yield [f"{title}, {what}, {kind}", f"{rate:.0f} images/s", verdict(rate, 550 if "batch 8" in what else 0, max),
                           f"{1e3 / floor:.0f} images/s", f"{1e3 / floor / rate:.2f} x"]
    for name, decoder in (("jpeg_exact", "decoded by the CPU, exactly"), ("jpeg_gpu", "decoded by nvJPEG")):
        if name in result:
            yield [f"{title}: JPEG file to masks as RLE in host memory, {decoder}", f"{result[name]['latency_ms']['median']:.3f} ms", "-", "", ""]
    ops = by_op(result["one"]["layers"])
    share = sum(ms for op, (ms, _) in ops.items() if op in POSTPROCESSING) / sum(ms for ms, _ in ops.values()) * 100
    yield [f"{title}: post-processing, by the table of layers", f"{share:.1f} %", verdict(share, 8), "", ""]
    start = result["one"]["open_ms"] + result["one"]["first_run_ms"]
    yield [f"{title}: engine file to first result", f"{start:.0f} ms", verdict(start, 2000), "", ""]


def report(results, peers, conditions):
    lines = ["# Osprey on a GPU", "", *(f"- {line}" for line in conditions.splitlines()), ""]
    measured = [r for r in results if "failed" not in r]
    lines += [f"- {r['name']}: **failed**: {r['failed']}" for r in results if "failed" in r]
    lines += [f"- {r['name']}: " + ", ".join(f"{count} {what}" for what, count in r["live"].items())
              + f"; built and tuned in {r['build_s']:.0f} s" for r in measured]
    lines += [f"- {r['name']}: {remark}" for r in measured for remark in r.get("remarks", [])]
    if peers:
        best = ", ".join(f"{name} {value:.2f}" for name, value in peers["ceilings"].items())
        lines += [f"- Peers: torch {peers['torch']}, torchvision {peers['torchvision']}, CUDA {peers['cuda']}, cuDNN {peers['cudnn']}",
                  f"- This GPU at its best, through PyTorch: {best}"]
    lines += ["- Floor: the layers' operations over 735 TFLOP/s (fp16) or 375 (tf32). Medians; device times by events around the graph.", "",
              table(["Osprey", "median", "target", "floor", "of the floor"], [row for r in measured for row in case_rows(r)]), ""]
    if peers:
        rows = [[c["name"], f"{c['ms']:.2f}" if "ms" in c else c.get("failed", c.get("skipped")), c.get("runs", ""), c.get("detections", ""),
                 c.get("kept", "")]
                for c in peers["cases"]]
        lines += [table(["PyTorch", "median ms", "runs", "detections", "of its fp32 ones"], rows), ""]
    for r in measured:
        total = sum(layer["ms"] for layer in r["one"]["layers"])
        rows = [[op, f"{ms:.3f}", f"{ms / total * 100:.1f}", f"{gflop / ms:.1f}" if gflop else ""]
                for op, (ms, gflop) in by_op(r["one"]["layers"]).items()]
        slowest = sorted(r["one"]["layers"], key=lambda layer: -layer["ms"])[:25]
        lines += [f"{r['name']}, one kernel after the other, without the CUDA graph:", "", table(["op", "ms", "%", "TFLOP/s"], rows), "",
                  table(["layer", "ms", "TFLOP/s", "kernel"],
                        [[layer["name"], f"{layer['ms']:.4f}", f"{layer['gflop'] / layer['ms']:.0f}" if layer["gflop"] else "",
                          layer["kernel"]] for layer in slowest]), ""]
    return "\n".join(lines)


def run_peers(photo):
    command = [sys.executable, ROOT / "bench" / "gpu_peers.py", "--checkpoint", checkpoint("mask_rcnn_R_50_FPN_3x"), "--photo", photo]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osprey", default=ROOT / "build" / "release" / "osprey")
    parser.add_argument("--conditions", type=pathlib.Path, help="lines that describe the machine and the command")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--tuning-budget", default="20", help="seconds for each class of sizes")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    args = parser.parse_args()
    for folder in (WORK, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    photo, osprey, results = mosaic(), Osprey(args.osprey, args.tuning_budget), []
    conditions = args.conditions.read_text() if args.conditions else f"date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"
    peers = None

    def publish():  # after every step: a run that is cut off keeps what it has
        text = report(results, peers, conditions)
        (args.out / "gpu.json").write_text(json.dumps({"conditions": conditions, "results": results, "peers": peers}, indent=1))
        (args.out / "gpu.md").write_text(text + "\n")
        return text

    for name in args.cases:
        start = time.perf_counter()
        try:
            results.append(measure(osprey, name, CASES[name], photo, args.iterations))
        except RuntimeError as error:
            results.append({"name": name, "failed": str(error)})
        note(f"{name}: {results[-1].get('failed', 'measured')}, {time.perf_counter() - start:.0f} s")
        publish()
    if not args.no_peers:
        peers = run_peers(photo)
    print(publish())
    kept = ROOT / "bench" / "results"
    if args.record and kept.is_dir():  # a bundle has none
        (kept / f"{datetime.date.today()}-gpu.md").write_text((args.out / "gpu.md").read_text())
    return any("failed" in r for r in results)


if __name__ == "__main__":
    sys.exit(main())

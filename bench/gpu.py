#!/usr/bin/env python3
"""Measures Osprey on this machine's GPU against its targets, the floor of the arithmetic, and PyTorch in the same call.

    scripts/gpu.sh bench                       builds what is missing and runs this
    bench/gpu.py --osprey build/release/osprey --cases mask_1344_fp16 --no-peers
    bench/gpu.py --engines                     only builds the engines, which needs no GPU

The networks are full-size, with the fixtures' weights (random ones, but for the real SSD) or, where there is no
fixture, random weights of our own; the photo is a mosaic of the fixtures' photos, on which the R-CNNs' own thresholds
leave 1,000 proposals and 100 detections (checked, and reported). Needs Pillow.
"""
import argparse
import concurrent.futures
import dataclasses
import datetime
import json
import os
import pathlib
import subprocess
import sys
import time

import gpu_models

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = pathlib.Path(os.environ.get("OSPREY_FIXTURES", ROOT.parent / "shared" / "fixtures"))
WORK = pathlib.Path(os.environ.get("OSPREY_BENCH_WORK", "/tmp/osprey-bench"))
PEAK = {"fp16": 735e12, "tf32": 375e12,  # measured: products of 8192 x 8192 random matrices
        "int8": 1979e12}  # of dense products, as the vendor has it
BATCH_BUDGET = 60  # seconds: a batch is tuned beside one photo
POSTPROCESSING = {"select_anchors", "nms", "select_boxes", "decode_boxes", "rescale_boxes", "softmax", "detect_queries"}


@dataclasses.dataclass
class Case:
    model: str  # the fixture whose checkpoint and config it is, or RANDOM and an official config
    title: str
    precision: str
    size: str = "config"
    target_ms: float = 0
    batch8: bool = False
    jpeg: bool = False
    source: str = "model_final.pkl"  # in the fixture's archive
    batch: int = 1
    target_rate: float = 0  # images a second, without transfers
    target_rate8: float = 550  # of a batch of 8
    set: str = ""  # a key of the config to change


RANDOM = "random/"
CASES = {
    "mask_1344_fp16": Case("detectron2/mask_rcnn_R_50_FPN_3x", "Mask R-CNN R50-FPN 1344x1344", "fp16", "1344x1344", 2.5, True),
    "mask_dynamic_fp16": Case("detectron2/mask_rcnn_R_50_FPN_3x", "Mask R-CNN R50-FPN, dynamic, 800x1333 photo", "fp16", "config",
                              1.7, jpeg=True),
    "retinanet_fp16": Case("detectron2/retinanet_R_50_FPN", "RetinaNet R50-FPN, dynamic, 800x1333 photo", "fp16", "config", 1.3),
    "mask_1344_tf32": Case("detectron2/mask_rcnn_R_50_FPN_3x", "Mask R-CNN R50-FPN 1344x1344", "tf32", "1344x1344", 5),
    "faster_dynamic_fp16": Case("detectron2/faster_rcnn_R_50_FPN", "Faster R-CNN R50-FPN, dynamic, 800x1333 photo", "fp16"),
    "ssd_fpnlite_320": Case("tfod/real_ssd_mobilenet_v2_fpnlite_320", "SSD MobileNet V2 FPNLite 320", "fp16", target_ms=0.45,
                            source="checkpoint"),
    "ssd_r50_640": Case("tfod/ssd_resnet50_v1_fpn_640", "SSD ResNet-50 V1 FPN 640", "fp16", target_ms=0.8, source="checkpoint"),
    "faster_r50_640": Case("tfod/faster_rcnn_resnet50_v1_640", "Faster R-CNN ResNet-50 V1 640", "fp16", target_ms=1.4,
                           source="checkpoint"),
    "mask_inception_1024": Case("tfod/mask_rcnn_inception_resnet_v2_1024", "Mask R-CNN Inception ResNet V2 1024", "fp16", target_ms=9,
                                source="checkpoint"),
    "effdet_d0": Case("efficientdet/efficientdet_d0_512", "EfficientDet-D0 512", "fp16", target_ms=0.8, source="efficientdet-d0"),
    "effdet_d4": Case("efficientdet/efficientdet_d4_1024", "EfficientDet-D4 1024", "fp16", target_ms=3.5, source="efficientdet-d4"),
    "effdet_d7x": Case(RANDOM + "efficientdet-d7x", "EfficientDet-D7x 1536", "fp16", target_ms=20),
    "mask_rtdetr_l": Case("paddle/mask_rtdetr_hgnetv2_l", "Mask RT-DETR-L 640", "fp16", target_ms=2.0, source="mask_rtdetr_hgnetv2_l.pdparams"),
    "rtdetr_l": Case("paddle/rtdetr_hgnetv2_l", "RT-DETR-L 640", "fp16", target_ms=1.5, source="rtdetr_hgnetv2_l.pdparams"),
    "mask_rtdetr_l_q100": Case("paddle/mask_rtdetr_hgnetv2_l", "Mask RT-DETR-L 640, 100 queries", "fp16", source="mask_rtdetr_hgnetv2_l.pdparams",
                               set="MaskRTDETR.num_queries=100"),
    "rtdetr_l_q100": Case("paddle/rtdetr_hgnetv2_l", "RT-DETR-L 640, 100 queries", "fp16", source="rtdetr_hgnetv2_l.pdparams",
                          set="RTDETRTransformer.num_queries=100"),
    "rtdetr_r50": Case(RANDOM + "rtdetr_r50vd_6x_coco", "RT-DETR-R50vd 640", "fp16"),
    "mask_rtdetr_l_b16": Case("paddle/mask_rtdetr_hgnetv2_l", "Mask RT-DETR-L 640, batch 16", "fp16", source="mask_rtdetr_hgnetv2_l.pdparams",
                              batch=16, target_rate=1600),
    "rtdetr_l_b16": Case("paddle/rtdetr_hgnetv2_l", "RT-DETR-L 640, batch 16", "fp16", source="rtdetr_hgnetv2_l.pdparams", batch=16,
                         target_rate=1600),
    "rtdetr_r50_b16": Case(RANDOM + "rtdetr_r50vd_6x_coco", "RT-DETR-R50vd 640, batch 16", "fp16", batch=16, target_rate=1600),
    "effdet_d0_b32": Case("efficientdet/efficientdet_d0_512", "EfficientDet-D0 512, batch 32", "fp16", source="efficientdet-d0", batch=32,
                          target_rate=6000),
    "mask_1344_int8": Case("detectron2/mask_rcnn_R_50_FPN_3x", "Mask R-CNN R50-FPN 1344x1344", "int8", "1344x1344", 1.9, True,
                           target_rate8=750),
    "retinanet_int8": Case("detectron2/retinanet_R_50_FPN", "RetinaNet R50-FPN, dynamic, 800x1333 photo, batch 32", "int8", batch=32,
                           target_rate=1800),
    "effdet_d0_int8": Case("efficientdet/efficientdet_d0_512", "EfficientDet-D0 512", "int8", target_ms=1.05, source="efficientdet-d0"),
    "ssd_fpnlite_int8": Case("tfod/real_ssd_mobilenet_v2_fpnlite_320", "SSD MobileNet V2 FPNLite 320", "int8", target_ms=0.378,
                             source="checkpoint"),
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


class Osprey:
    def __init__(self, program, budget, limit):
        libraries = os.environ.get("OSPREY_GPU_LIBRARIES")
        self.program, self.budget, self.limit = program, budget, limit
        self.env = {**os.environ, "XDG_CACHE_HOME": str(WORK / "cache"), **({"LD_LIBRARY_PATH": libraries} if libraries else {})}

    def run(self, *arguments, limit=None):
        command = [str(part) for part in (self.program, *arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=self.env, timeout=limit or self.limit)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{' '.join(command)}: not done in {error.timeout:.0f} s") from error
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def source(self, case):
        """What the engine is built of, with the options that name its config."""
        if case.model.startswith(RANDOM):
            config = case.model.removeprefix(RANDOM)
            prefix = [f"LD_LIBRARY_PATH={self.env['LD_LIBRARY_PATH']}"] if "LD_LIBRARY_PATH" in self.env else []
            return [gpu_models.random_checkpoint(config, ["env", *prefix, str(self.program)], WORK / f"{config}.safetensors"),
                    "--config", config]
        fixture = FIXTURES / case.model
        file = gpu_models.unpacked(fixture / "checkpoint.tar.xz", case.source, WORK / fixture.name)
        configs = [*fixture.glob("config.yaml"), *fixture.glob("*_coco.yml")]  # of Detectron2, of PaddleDetection
        return [file, "--config", configs[0]] if configs else [file]

    def calibration(self, name):
        """What int8 is calibrated on: what an earlier build has kept, or two photos, since of random weights only the speed is asked."""
        cache = WORK / f"{name}.calib"
        photos = [] if cache.exists() else ["--calib-input", FIXTURES / "images" / "astronaut.png", FIXTURES / "images" / "coffee.png"]
        return [*photos, "--calib-cache", cache, "--force"]

    def build(self, name, case):
        """The engine file, not tuned, which the first run does; and the seconds it took, 0 where it was there."""
        engine = WORK / f"{name}.osprey"
        if engine.exists():
            return engine, 0
        start = time.perf_counter()
        part = engine.with_suffix(".part")
        calibration = self.calibration(name) if case.precision == "int8" else []
        self.run("build", *self.source(case), *(("--set", case.set) if case.set else ()), "--size", case.size, "--device", "cuda",
                 "--precision", case.precision, *calibration, "--tuning-budget", 0, "--quiet", "-o", part, limit=300)
        part.rename(engine)
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


def measure(osprey, name, case, photo, iterations, brief):
    """Everything about one engine; each bench is a fresh process that finds what the first one tuned. `brief`: the figures
    that have targets alone."""
    out = {"name": name, "case": dataclasses.asdict(case)}
    engine, out["build_s"] = osprey.build(name, case)
    batch = ("--batch", case.batch) if case.batch > 1 else ()
    runs = max(iterations // case.batch, 20)
    start = time.perf_counter()
    budget = min(BATCH_BUDGET, osprey.limit / 2) if batch else None
    osprey.bench(engine, photo, "--iterations", 1, "--warm-up", 1, *batch, budget=budget)  # tunes the photo's own class of sizes
    out["tuning_s"] = time.perf_counter() - start
    out["one"] = osprey.bench(engine, photo, "--iterations", runs, "--warm-up", 20, "--layers", *batch)
    if not brief:
        out["live"] = osprey.live_rows(engine, case.model, photo)
    extras = {}
    if case.batch8:
        eight = ("--batch", 8, "--iterations", max(iterations // 6, 10), "--warm-up", 5)
        extras |= {"batch8_tuning": ("--batch", 8, "--iterations", 1, "--warm-up", 1), "batch8": (*eight, "--layers"), "batch8_streams2": (*eight, "--streams", 2)}
        if not brief:
            extras["streams2"] = ("--streams", 2, "--iterations", iterations, "--warm-up", 20)
    if case.jpeg and not brief:
        decoding = ("--end-to-end", "--iterations", iterations, "--warm-up", 10)
        extras |= {"jpeg_exact": decoding, "jpeg_gpu": (*decoding, "--gpu-decode")}
    for extra, options in extras.items():
        try:
            budget = min(BATCH_BUDGET, osprey.limit / 2) if extra == "batch8_tuning" else None
            out[extra] = osprey.bench(engine, photo.with_suffix(".jpg") if extra.startswith("jpeg") else photo, *options, budget=budget)
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


def gflop_of(result):
    return sum(layer["gflop"] for layer in result["one"]["layers"])


def batch_rows(result):
    case, title = result["case"], f"{result['case']['title']}, {result['case']['precision']}"
    rate = case["batch"] * 1e3 / device_ms(result["one"])
    most = case["batch"] * PEAK[case["precision"]] / (gflop_of(result) * 1e9)
    yield [f"{title}: photos on the device to detections", f"{rate:.0f} images/s", verdict(rate, case["target_rate"], max),
           f"{most:.0f} images/s", f"{most / rate:.2f} x"]


def case_rows(result):
    case, title = result["case"], f"{result['case']['title']}, {result['case']['precision']}"
    if case["batch"] > 1:
        yield from batch_rows(result)
        return
    gflop = gflop_of(result)
    floor = gflop * 1e9 / PEAK[case["precision"]] * 1e3
    ours, host = device_ms(result["one"]), result["one"]["latency_ms"]["median"]
    yield [f"{title}: photo on the device to detections and masks", f"{ours:.3f} ms", verdict(ours, case["target_ms"]),
           f"{gflop:.0f} GFLOP: {floor:.3f} ms", f"{ours / floor:.2f} x"]
    yield [f"{title}: decoded photo in host memory to masks as RLE in host memory", f"{host:.3f} ms",
           verdict(host, 4 if case["model"].startswith("detectron2/mask") and case["precision"] == "fp16" else 0), "", f"{host / floor:.2f} x"]
    parts = [f"{name.removesuffix('_ms')} {result['one'][name]['median']:.3f}" for name in ("upload_ms", "device_ms", "download_ms")
             if name in result["one"]]
    yield [f"{title}: of that, by the device's clock", ", ".join(parts) + " ms", "", "", ""]
    if "batch8" in result:
        for what, key in (("batch 8", "batch8"), ("batch 8, two sessions at once", "batch8_streams2"), ("two sessions at once", "streams2")):
            for kind, figure in (("with transfers, to masks as RLE", "throughput"), ("without transfers", "throughput_no_transfers")):
                rate = result.get(key, {}).get(figure, 0)
                if rate:
                    yield [f"{title}, {what}, {kind}", f"{rate:.0f} images/s", verdict(rate, case["target_rate8"] if "batch 8" in what else 0, max),
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
    lines += [f"- {r['name']}: " + "".join(f"{count} {what}, " for what, count in r.get("live", {}).items())
              + f"built in {r['build_s']:.0f} s, tuned in {r['tuning_s']:.0f} s" for r in measured]
    lines += [f"- {r['name']}: {remark}" for r in measured for remark in r.get("remarks", [])]
    if peers:
        best = ", ".join(f"{name} {value:.2f}" for name, value in peers["ceilings"].items())
        lines += [f"- Peers: torch {peers['torch']}, torchvision {peers['torchvision']}, CUDA {peers['cuda']}, cuDNN {peers['cudnn']}",
                  f"- This GPU at its best, through PyTorch: {best}"]
    lines += ["- Floor: the layers' operations over 735 TFLOP/s (fp16), 375 (tf32) or 1,979 (int8, of all layers). Medians; device times by events around the graph.", "",
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


def run_peers(source, photo):
    command = [sys.executable, ROOT / "bench" / "gpu_peers.py", "--checkpoint", source, "--photo", photo]
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def build_engines(osprey, names):
    """Side by side: most of a build is reading, folding and one run on the CPU."""
    def build(name):
        try:
            return f"built in {osprey.build(name, CASES[name])[1]:.0f} s"
        except Exception as error:  # of one case; the others are built
            return f"FAILED: {error}"
    ready = {}
    for name in names:  # unpacked and made one by one: several cases may share a checkpoint
        try:
            osprey.source(CASES[name])
            ready[name] = CASES[name]
        except Exception as error:
            note(f"{name}: FAILED: {error}")
    with concurrent.futures.ThreadPoolExecutor(4) as workers:
        for name, told in zip(ready, workers.map(build, ready)):
            note(f"{name}: {told}")
    return len(ready) < len(names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osprey", default=ROOT / "build" / "release" / "osprey")
    parser.add_argument("--conditions", type=pathlib.Path, help="lines that describe the machine and the command")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--tuning-budget", default="20", help="seconds for each class of sizes")
    parser.add_argument("--limit", type=float, default=600, help="seconds for each program")
    parser.add_argument("--until", type=float, default=float("inf"), help="no case is begun after so many seconds")
    parser.add_argument("--engines", action="store_true", help="only build the engines, side by side")
    parser.add_argument("--brief", action="store_true", help="the figures that have targets alone")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    args = parser.parse_args()
    for folder in (WORK, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    osprey, results = Osprey(args.osprey, args.tuning_budget, args.limit), []
    if args.engines:
        return build_engines(osprey, args.cases)
    photo, began = mosaic(), time.perf_counter()
    conditions = args.conditions.read_text() if args.conditions else f"date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"
    peers = None

    def publish():  # after every step: a run that is cut off keeps what it has
        text = report(results, peers, conditions)
        (args.out / "gpu.json").write_text(json.dumps({"conditions": conditions, "results": results, "peers": peers}, indent=1))
        (args.out / "gpu.md").write_text(text + "\n")
        return text

    for name in args.cases:
        start = time.perf_counter()
        if start - began > args.until:
            results.append({"name": name, "failed": "out of time"})
            continue
        try:
            results.append(measure(osprey, name, CASES[name], photo, args.iterations, args.brief))
        except Exception as error:  # the other cases are measured
            results.append({"name": name, "failed": str(error)})
        note(f"{name}: {results[-1].get('failed', 'measured')}, {time.perf_counter() - start:.0f} s")
        publish()
    if not args.no_peers:
        peers = run_peers(osprey.source(CASES["mask_1344_fp16"])[0], photo)
    print(publish())
    kept = ROOT / "bench" / "results"
    if args.record and kept.is_dir():  # a bundle has none
        (kept / f"{datetime.date.today()}-gpu.md").write_text((args.out / "gpu.md").read_text())
    return any("failed" in r for r in results)


if __name__ == "__main__":
    sys.exit(main())

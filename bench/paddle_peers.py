#!/usr/bin/env python3
"""Times PaddleDetection's Mask RT-DETR-L on the CPU: the network part against OpenVINO and ONNX Runtime on the ONNX file that Osprey
exports, and the whole, from the decoded photo to detections and masks, against Paddle's inference on the same weights.

    bench/run.sh paddle --paddle-python ~/paddle/bin/python --paddle-model ~/exported

Paddle wants older packages than the other peers, so it is looked for in a Python of its own (paddlepaddle, opencv-python); the
model is what PaddleDetection's tools/export_model.py makes of the fixture's config and checkpoint (model.json, model.pdiparams).
"""
import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys

import measure
from model_files import FIXTURES, WORK
from network_peers import (Milliseconds, Osprey, build, cut_heads, export, network_extents, read_pixels, rows_of, serve,
                           start_peers, unpack)

TITLE, CASE, PHOTO = "Mask RT-DETR-L 640", "paddle/mask_rtdetr_hgnetv2_l", "images/astronaut.png"
CONFIG = FIXTURES / CASE / "mask_rtdetr_hgnetv2_l_6x_coco.yml"
# The network's results: class logits, boxes, and of each query what its mask is made of.
HEADS = ["out.logits", "transformer.decoder.layers.5.boxes/Sigmoid", "transformer.mask_query_head.layers.2.2", "neck.mask_feat"]
FEWER = 100  # queries
ITERATIONS = 3  # of Osprey in a turn; the others run once
PADDLES = ("paddle", "paddle, oneDNN")


def is_network(layer):
    """From the resized photo to HEADS: values become floats on this side of the exported file's `image`, too."""
    return layer["name"] not in ("input.resize", "detections") and not layer["name"].startswith("output.")


def paddle_run(args):
    import cv2
    import numpy
    from paddle import inference
    folder = pathlib.Path(args.paddle_model)
    config = inference.Config(str(folder / "model.json"), str(folder / "model.pdiparams"))
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_new_ir(True)
    config.enable_new_executor(True)
    config.set_cpu_math_library_num_threads(args.threads)
    if args.worker == "paddle":
        config.disable_mkldnn()
    else:
        config.enable_mkldnn()
        # Paddle 3.3.1 stops at the first run with this pass: an attribute of the model's is none that its oneDNN operators know.
        config.delete_pass("onednn_placement_pass")
    predictor = inference.create_predictor(config)
    cv2.setNumThreads(args.threads)
    photo = numpy.load(args.pixels)
    height, width = photo.shape[:2]
    rest = {"im_shape": [[640, 640]], "scale_factor": [[640 / height, 640 / width]]}

    def run():
        image = cv2.resize(photo, None, None, fx=640 / width, fy=640 / height, interpolation=cv2.INTER_CUBIC)
        image = (image.astype(numpy.float32) * numpy.float32(1 / 255)).transpose(2, 0, 1)[None]
        for name, value in {"image": image, **rest}.items():
            predictor.get_input_handle(name).copy_from_cpu(numpy.ascontiguousarray(value, numpy.float32))
        predictor.run()
        return [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]

    found = run()[0]
    measure.note(f"{args.worker}: {len(found)} detections, mean score {found[:, 1].mean():.4f}")
    return run, float(found[:, 1].mean())


def mean_score(engine, photo, threads):
    folder = WORK / "detections"
    measure.run_once([measure.program("osprey"), "infer", engine, photo, "-o", folder, "--format", "json", "--quiet", "--threads",
                      threads])
    found = json.loads((folder / "detections.json").read_text())["images"][0]["detections"]
    return statistics.mean(detection["score"] for detection in found)


def start_paddle(args, photo, expected):
    """{name: its process}; both do the work that Osprey does, or the script stops."""
    pixels = WORK / "pixels.npy"
    read_pixels(photo, pixels)
    command = [args.paddle_python, __file__, "--threads", args.threads, "--pixels", pixels, "--paddle-model", args.paddle_model,
               "--worker"]
    started = {name: Milliseconds([*command, name], args.threads, 1) for name in PADDLES}
    for name, peer in started.items():
        if abs(peer.worker.greeting - expected) > 1e-4:
            raise SystemExit(f"{name}: mean score {peer.worker.greeting}, Osprey's is {expected}")
    return started


def slowest_layers(layers):
    """A table of the network's operators: their time and rate of arithmetic."""
    ms, gflop, count = (collections.Counter() for _ in range(3))
    for layer in filter(is_network, layers):
        ms[layer["op"]] += layer["ms"]
        gflop[layer["op"]] += layer["gflop"]
        count[layer["op"]] += 1
    rows = [[op, count[op], f"{time:.1f}", f"{gflop[op]:.2f}", f"{gflop[op] / time * 1e3:.0f}"]
            for op, time in ms.most_common(10)]
    return measure.table(["operator", "layers", "ms", "GFLOP", "GFLOP/s"], rows)


def verdict(what, ratio, target):
    return f"- {what}: {ratio:.2f} times as fast (target {target}: {'met' if ratio >= target else '**missed**'})."


def time_model(args, with_paddle):
    photo, folder = FIXTURES / PHOTO, unpack(CASE)
    source, options = folder / f"{folder.name}.pdparams", ["--config", CONFIG]
    engine, fewer, onnx, heads = (WORK / f"{folder.name}{end}" for end in (".osprey", f"-{FEWER}.osprey", ".onnx", "-heads.onnx"))
    build(source, engine, options)
    build(source, fewer, [*options, "--set", f"MaskRTDETR.num_queries={FEWER}"])
    export(source, onnx, options)
    cut_heads(onnx, heads, HEADS)
    ours = {name: Osprey(file, photo, args.threads, ITERATIONS, is_network)
            for name, file in {"osprey": engine, f"osprey, {FEWER} queries": fewer}.items()}
    peers = start_peers(heads, network_extents(engine), args.threads, 1)
    paddle = start_paddle(args, photo, mean_score(engine, photo, args.threads)) if with_paddle else {}
    figures = measure.take_turns({**ours, **peers, **paddle}, args.rounds)
    for peer in (*peers.values(), *paddle.values()):
        peer.worker.close()
    network = {name: figures[name] for name in (*ours, *peers)}
    whole = {**{name: o.whole for name, o in ours.items()}, **{name: figures[name] for name in paddle}}
    return network, whole, ours["osprey"].layers


def report(network, whole, layers, paddles):
    rows = [row for part, figures in (("network", network), ("photo to detections", whole))
            for row in rows_of(TITLE, part, figures, figures["osprey"])]
    lines = [measure.table(["program", "median ms", "best ms", "time / osprey"], rows), "",
             verdict("Network, against OpenVINO", measure.median_of_ratios(network["openvino"], network["osprey"]), 1)]
    if paddles:
        best = min(paddles, key=lambda name: statistics.median(whole[name]))
        ratio = measure.median_of_ratios(whole[best], whole["osprey"])
        lines.append(verdict(f"Whole, against {best}, the faster of Paddle's", ratio, 2))
    else:
        lines.append("- Paddle was left out: `--paddle-python` and `--paddle-model` name it, or it was not there.")
    return "\n".join([*lines, "", "The network of `osprey` by operator, in the last round:", "", slowest_layers(layers)])


def shown_command(args):
    """As it was given, but for the places where this machine has Paddle."""
    places = {args.paddle_python: "PYTHON", args.paddle_model: "FOLDER"}
    return " ".join(["bench/run.sh paddle", *(places.get(argument, argument) for argument in sys.argv[1:])])


def paddle_version(args):
    """Of what --paddle-python has; None where Paddle or the exported model is missing, and says so."""
    if not args.paddle_python:
        return None
    code = "import cv2; from importlib.metadata import version; print(version('paddlepaddle'))"
    found = subprocess.run([args.paddle_python, "-c", code], capture_output=True, text=True)
    if found.returncode:
        measure.note(f"{args.paddle_python}: without Paddle or OpenCV, Paddle is left out: {found.stderr.strip().splitlines()[-1]}")
        return None
    if not (pathlib.Path(args.paddle_model) / "model.json").exists():
        measure.note(f"{args.paddle_model}: no model.json, Paddle is left out")
        return None
    return found.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--paddle-python", help="a Python that has Paddle and OpenCV")
    parser.add_argument("--paddle-model", help="the exported model's folder; without both Paddle is left out")
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    parser.add_argument("--worker", choices=PADDLES, help=argparse.SUPPRESS)
    parser.add_argument("--pixels", help=argparse.SUPPRESS)
    parser.add_argument("--together", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        run, score = paddle_run(args)
        return serve(run, args.together, score)
    if bool(args.paddle_python) != bool(args.paddle_model):
        parser.error("--paddle-python and --paddle-model go together")
    load = os.getloadavg()[0]
    WORK.mkdir(parents=True, exist_ok=True)
    version = paddle_version(args)
    network, whole, layers = time_model(args, version is not None)
    text = "\n".join([measure.conditions(shown_command(args), load),
                      f"- Paddle: {version or 'none'}. Photo: {pathlib.Path(PHOTO).name}.", "",
                      report(network, whole, layers, [name for name in whole if name in PADDLES]), "",
                      f"Each figure is a median over {args.rounds} rounds in which all programs take turns on {args.threads} "
                      "threads; the ratio is the median of the rounds' own. Osprey's figure of a round is of "
                      f"{ITERATIONS} runs. The network part starts at the resized photo and ends at logits, boxes, mask features "
                      "and mask queries. `paddle, oneDNN` runs without its pass onednn_placement_pass, with which Paddle 3.3.1 "
                      "stops at this model."])
    measure.publish("paddle", "Mask RT-DETR-L on the CPU", text, args.record)


if __name__ == "__main__":
    main()

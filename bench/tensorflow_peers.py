#!/usr/bin/env python3
"""Times TensorFlow's detectors on the CPU: the network part against OpenVINO and ONNX Runtime on the ONNX file that
Osprey exports, and the whole, from the decoded photo to detections, against TensorFlow itself where it is installed.

    bench/run.sh tensorflow --tensorflow-python ~/tf/bin/python

TensorFlow wants older packages than the other peers, so it is looked for in a Python of its own.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile

import measure
from model_files import FIXTURES, WORK

# What follows the network (or comes before it): not part of what the exported file's heads are timed for.
AROUND = {"resize_image", "normalize_image", "select_anchors", "detect_anchors", "nms", "rescale_boxes"}
TOGETHER = 10  # runs a turn: they are short
# The case, the checkpoint's folder in its archive, a photo, and what the exported file needs: ONNX has no soft suppression, and
# the network is the same without.
MODELS = {
    "SSD MobileNet V2 FPNLite 320": ("tfod/real_ssd_mobilenet_v2_fpnlite_320", "", "images/coffee.png", []),
    "EfficientDet-D0": ("efficientdet/efficientdet_d0_512", "efficientdet-d0", "images/coffee.png",
                        ["--set", "nms_configs.method=hard"]),
}


def unpack(case):
    folder = WORK / pathlib.Path(case).name
    if not folder.exists():
        with tarfile.open(FIXTURES / case / "checkpoint.tar.xz") as archive:
            archive.extractall(folder.with_suffix(".part"))
        folder.with_suffix(".part").rename(folder)
    return folder


def osprey_files(name, source, precision, for_export):
    engine, onnx = WORK / f"{name}-{precision}.osprey", WORK / f"{name}.onnx"
    command = measure.program("osprey")
    measure.run_once([command, "build", source, "--precision", precision, "-o", engine, "--quiet"])
    measure.run_once([command, "export", source, *for_export, "--target", "onnxruntime", "-o", onnx, "--quiet"])
    return engine, onnx


def cut_heads(onnx, target):
    """The network alone: from `image` to the results of convolutions that no other convolution follows."""
    import onnx as library
    graph = library.load(str(onnx), load_external_data=False).graph
    makers = {out: node for node in graph.node for out in node.output}
    feeds_conv, stack = set(), [i for n in graph.node if n.op_type == "Conv" for i in n.input]
    while stack:
        value = stack.pop()
        if value not in feeds_conv:
            feeds_conv.add(value)
            stack.extend(makers[value].input if value in makers else [])
    heads = [n.output[0] for n in graph.node if n.op_type == "Conv" and n.output[0] not in feeds_conv]
    library.utils.extract_model(str(onnx), str(target), ["image"], heads, check_model=False)


class Osprey:
    """Fresh processes of `osprey bench`: the latency, and what of it is the network."""

    def __init__(self, engine, photo, threads):
        self.command = [measure.program("osprey"), "bench", engine, "--input", photo, "--iterations", 3 * TOGETHER, "--warm-up", 3,
                        "--layers", "--json", "--quiet", "--threads", threads]
        self.threads, self.whole = threads, []

    def run(self):
        told = measure.parse_json(measure.run_once(self.command, self.threads)[0])
        self.whole.append(told["latency_ms"]["median"])
        return sum(layer["ms"] for layer in told["layers"] if layer["op"] not in AROUND)


class Milliseconds:
    """A Worker whose turn is TOGETHER runs."""

    def __init__(self, command, threads):
        self.worker = measure.Worker(command, threads)

    def run(self):
        return self.worker.run() / TOGETHER * 1e3


def worker(args):
    if args.worker == "tensorflow":
        run = tensorflow_run(args)
    else:
        run = onnx_run(args)
    measure.serve(0, lambda: [run() for _ in range(TOGETHER)])


def tensorflow_run(args):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy
    import tensorflow
    tensorflow.config.threading.set_intra_op_parallelism_threads(args.threads)
    loaded = tensorflow.saved_model.load(args.file)
    function = loaded.signatures["serving_default"]
    (name, spec), = function.structured_input_signature[1].items()
    photo = tensorflow.constant(numpy.load(args.pixels)[None], spec.dtype)
    return lambda: {key: value.numpy() for key, value in function(**{name: photo}).items()}


def onnx_run(args):
    import numpy
    extents = [int(v) for v in args.extents.split("x")]
    image = numpy.random.default_rng(1).uniform(0, 255, (1, 3, *extents)).astype(numpy.float32)
    if args.worker == "onnxruntime":
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(args.file, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"image": image})
    import openvino
    core = openvino.Core()
    model = core.read_model(args.file)
    model.reshape({"image": list(image.shape)})
    precision = "bf16" if args.worker == "openvino-bf16" else "f32"
    request = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": args.threads,
                                                "INFERENCE_PRECISION_HINT": precision}).create_infer_request()
    return lambda: request.infer({"image": image})


def read_pixels(photo, target):
    import numpy
    from PIL import Image
    with Image.open(photo) as image:
        numpy.save(target, numpy.array(image.convert("RGB")))


def network_extents(engine):
    """Height and width of the image that the network sees, from the engine's own listing."""
    told = subprocess.run([measure.program("osprey"), "inspect", engine, "--layers"], capture_output=True, text=True, check=True)
    line = next(line for line in told.stdout.splitlines() if "normalize_image" in line or "resize_image" in line)
    fields = dict(part.split("=") for part in line.replace(",", " ").split() if part.count("=") == 1)
    return f"{fields['canvas_height']}x{fields['canvas_width']}"


def time_model(title, args):
    case, inside, photo, for_export = MODELS[title]
    name, folder, photo = pathlib.Path(case).name, unpack(case), FIXTURES / photo
    engine, onnx = osprey_files(name, folder / inside, "fp32", for_export)
    heads = WORK / f"{name}-heads.onnx"
    cut_heads(onnx, heads)
    peer = [sys.executable, __file__, "--threads", args.threads, "--extents", network_extents(engine), "--file", heads, "--worker"]
    ours = Osprey(engine, photo, args.threads)
    network = {"osprey": ours, **{n: Milliseconds([*peer, n], args.threads) for n in ("openvino", "onnxruntime")}}
    figures = measure.take_turns(network, args.rounds)
    for name_of_peer in ("openvino", "onnxruntime"):
        network[name_of_peer].worker.close()
    rows = [[f"{title}: network, {n}", f"{statistics.median(ms):.1f}", f"{min(ms):.1f}",
             f"{measure.median_of_ratios(ms, figures['osprey']):.2f} x"] for n, ms in figures.items()]
    if args.tensorflow_python:
        pixels = WORK / "pixels.npy"
        read_pixels(photo, pixels)
        theirs = Milliseconds([args.tensorflow_python, __file__, "--threads", args.threads, "--pixels", pixels, "--file",
                               folder / "saved_model", "--worker", "tensorflow"], args.threads)
        whole = measure.take_turns({"osprey": ours, "tensorflow": theirs}, args.rounds)
        theirs.worker.close()
        ours_whole = ours.whole[-args.rounds:]
        rows += [[f"{title}: photo to detections, {n}", f"{statistics.median(ms):.1f}", f"{min(ms):.1f}",
                  f"{measure.median_of_ratios(ms, ours_whole):.2f} x"]
                 for n, ms in (("osprey", ours_whole), ("tensorflow", whole["tensorflow"]))]
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tensorflow-python", help="a Python that has TensorFlow; without it TensorFlow is left out")
    parser.add_argument("--model", choices=MODELS, action="append", help="that alone; may be given again")
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    for hidden in ("--worker", "--file", "--pixels", "--extents"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args)
    load = os.getloadavg()[0]
    WORK.mkdir(parents=True, exist_ok=True)
    rows = [row for title in args.model or MODELS for row in time_model(title, args)]
    columns = ["program", "median ms", "best ms", "time / osprey"]
    text = "\n".join([measure.conditions("bench/run.sh " + " ".join(["tensorflow", *sys.argv[1:]]), load), "",
                      measure.table(columns, rows), "",
                      f"Each figure is a median over {args.rounds} rounds in which the programs take turns; the ratio is the median of the "
                      "rounds' own. The network part ends at the heads' convolutions and starts at the resized photo."])
    measure.publish("tensorflow", "TensorFlow's detectors on the CPU", text, args.record)


if __name__ == "__main__":
    main()

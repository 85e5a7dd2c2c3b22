#!/usr/bin/env python3
"""What the scripts share that time Osprey's networks on the CPU against OpenVINO and ONNX Runtime: Osprey's side, the part of an
exported file that is the network, and the peers' processes (this file run with --worker).
"""
import argparse
import pathlib
import statistics
import subprocess
import sys
import tarfile

import measure
from model_files import FIXTURES, WORK

# What follows the network (or comes before it): not part of what the exported file's heads are timed for.
AROUND = {"resize_image", "normalize_image", "select_anchors", "detect_anchors", "nms", "rescale_boxes"}
PEERS = ("openvino", "onnxruntime")
TOGETHER = 10  # runs a turn of a network that takes milliseconds


def unpack(case):
    folder = WORK / pathlib.Path(case).name
    if not folder.exists():
        with tarfile.open(FIXTURES / case / "checkpoint.tar.xz") as archive:
            archive.extractall(folder.with_suffix(".part"))
        folder.with_suffix(".part").rename(folder)
    return folder


def build(source, engine, options=()):
    measure.run_once([measure.program("osprey"), "build", source, *options, "-o", engine, "--quiet"])


def export(source, onnx, options=()):
    measure.run_once([measure.program("osprey"), "export", source, *options, "--target", "onnxruntime", "-o", onnx, "--quiet"])


def read_pixels(photo, target):
    import numpy
    from PIL import Image
    with Image.open(photo) as image:
        numpy.save(target, numpy.array(image.convert("RGB")))


def network_extents(engine):
    """Height and width of the image that the network sees, from the engine's own listing."""
    told = subprocess.run([measure.program("osprey"), "inspect", engine, "--layers"], capture_output=True, text=True, check=True)
    line = next(line for line in told.stdout.splitlines() if "normalize_image" in line or "resize_image" in line)
    fields = dict(part.strip("{}").split("=") for part in line.replace(",", " ").split() if part.count("=") == 1)
    return f"{fields['canvas_height']}x{fields['canvas_width']}"


def cut_heads(onnx, target, heads=None, layers=""):
    """The network alone: from `image` to `heads`, or to the results of convolutions that no other convolution follows, both of
    layers whose names begin with `layers`."""
    import onnx as library
    graph = library.load(str(onnx), load_external_data=False).graph
    library.utils.extract_model(str(onnx), str(target), ["image"], heads or last_convolutions(graph, layers), check_model=False)


def last_convolutions(graph, layers):
    makers = {out: node for node in graph.node for out in node.output}
    convolutions = [n for n in graph.node if n.op_type == "Conv" and n.name.startswith(layers)]
    feeds_conv, stack = set(), [i for n in convolutions for i in n.input]
    while stack:
        value = stack.pop()
        if value not in feeds_conv:
            feeds_conv.add(value)
            stack.extend(makers[value].input if value in makers else [])
    return [n.output[0] for n in convolutions if n.output[0] not in feeds_conv]


class Osprey:
    """Fresh processes of `osprey bench`: the latency, and what of it is the network. `layers` is the last run's."""

    def __init__(self, engine, photo, threads, iterations=3 * TOGETHER, is_network=lambda layer: layer["op"] not in AROUND):
        self.command = [measure.program("osprey"), "bench", engine, "--input", photo, "--iterations", iterations, "--warm-up",
                        max(1, iterations // 10), "--layers", "--json", "--quiet", "--threads", threads]
        self.threads, self.is_network, self.whole, self.layers = threads, is_network, [], []

    def run(self):
        told = measure.parse_json(measure.run_once(self.command, self.threads)[0])
        self.whole.append(told["latency_ms"]["median"])
        self.layers = told["layers"]
        return sum(layer["ms"] for layer in self.layers if self.is_network(layer))


class Milliseconds:
    """A Worker whose turn is so many runs."""

    def __init__(self, command, threads, together=TOGETHER):
        self.worker, self.together = measure.Worker([*command, "--together", together], threads), together

    def run(self):
        return self.worker.run() / self.together * 1e3


def start_peers(network, extents, threads, together=TOGETHER):
    """{name: a process that runs the ONNX file `network`}"""
    command = [sys.executable, __file__, "--threads", threads, "--extents", extents, "--file", network, "--worker"]
    return {name: Milliseconds([*command, name], threads, together) for name in PEERS}


def rows_of(title, part, figures, base):
    return [[f"{title}: {part}, {name}", f"{statistics.median(ms):.1f}", f"{min(ms):.1f}",
             f"{measure.median_of_ratios(ms, base):.2f} x"] for name, ms in figures.items()]


def serve(run, together, greeting=0):
    """What Milliseconds talks to."""
    measure.serve(greeting, lambda: [run() for _ in range(together)])


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
    request = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": args.threads,
                                                "INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    return lambda: request.infer({"image": image})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", choices=PEERS, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--together", type=int, required=True)
    parser.add_argument("--extents", required=True, help="HxW of the network's image")
    parser.add_argument("--file", required=True)
    args = parser.parse_args()
    serve(onnx_run(args), args.together)


if __name__ == "__main__":
    main()

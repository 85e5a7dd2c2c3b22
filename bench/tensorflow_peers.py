#!/usr/bin/env python3
"""Times TensorFlow's detectors on the CPU: the network part against OpenVINO and ONNX Runtime on the ONNX file that
Osprey exports, and the whole, from the decoded photo to detections, against TensorFlow itself where it is installed.

    bench/run.sh tensorflow --tensorflow-python ~/tf/bin/python

TensorFlow wants older packages than the other peers, so it is looked for in a Python of its own.
"""
import argparse
import os
import pathlib
import sys

import measure
from model_files import FIXTURES, WORK
from network_peers import (Milliseconds, Osprey, build, cut_heads, export, network_extents, read_pixels, rows_of, serve,
                           start_peers, unpack)

# The case, the checkpoint's folder in its archive, a photo, and what the exported file needs: ONNX has no soft suppression, and
# the network is the same without.
MODELS = {
    "SSD MobileNet V2 FPNLite 320": ("tfod/real_ssd_mobilenet_v2_fpnlite_320", "", "images/coffee.png", []),
    "EfficientDet-D0": ("efficientdet/efficientdet_d0_512", "efficientdet-d0", "images/coffee.png",
                        ["--set", "nms_configs.method=hard"]),
}


def tensorflow_run(args):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import numpy
    import tensorflow
    tensorflow.config.threading.set_intra_op_parallelism_threads(args.threads)
    loaded = tensorflow.saved_model.load(args.worker)
    function = loaded.signatures["serving_default"]
    (name, spec), = function.structured_input_signature[1].items()
    photo = tensorflow.constant(numpy.load(args.pixels)[None], spec.dtype)
    return lambda: {key: value.numpy() for key, value in function(**{name: photo}).items()}


def time_model(title, args):
    case, inside, photo, for_export = MODELS[title]
    name, folder, photo = pathlib.Path(case).name, unpack(case), FIXTURES / photo
    source = folder / inside
    engine, onnx, heads = WORK / f"{name}-fp32.osprey", WORK / f"{name}.onnx", WORK / f"{name}-heads.onnx"
    build(source, engine)
    export(source, onnx, for_export)
    cut_heads(onnx, heads)
    ours, peers = Osprey(engine, photo, args.threads), start_peers(heads, network_extents(engine), args.threads)
    figures = measure.take_turns({"osprey": ours, **peers}, args.rounds)
    for peer in peers.values():
        peer.worker.close()
    rows = rows_of(title, "network", figures, figures["osprey"])
    if args.tensorflow_python:
        pixels = WORK / "pixels.npy"
        read_pixels(photo, pixels)
        theirs = Milliseconds([args.tensorflow_python, __file__, "--threads", args.threads, "--pixels", pixels,
                               "--worker", folder / "saved_model"], args.threads)
        whole = measure.take_turns({"osprey": ours, "tensorflow": theirs}, args.rounds)
        theirs.worker.close()
        ours_whole = ours.whole[-args.rounds:]
        figures = {"osprey": ours_whole, "tensorflow": whole["tensorflow"]}
        rows += rows_of(title, "photo to detections", figures, ours_whole)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tensorflow-python", help="a Python that has TensorFlow; without it TensorFlow is left out")
    parser.add_argument("--model", choices=MODELS, action="append", help="that alone; may be given again")
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    for hidden in ("--worker", "--pixels"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--together", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return serve(tensorflow_run(args), args.together)
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

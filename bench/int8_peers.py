#!/usr/bin/env python3
"""Times int8 on the CPU: engines in int8 against the same models in fp32, whole and their networks, and against OpenVINO and ONNX
Runtime on the Q/DQ file that `osprey export` makes of the engine.

    bench/run.sh int8 --model "SSD MobileNet V2 FPNLite 320"

int8 is calibrated on the photos of --photos (shared/fixtures/coco/train128). Accuracy is `osprey eval`'s to tell, not this script's.
"""
import argparse
import os
import pathlib
import sys

import measure
from model_files import FIXTURES, WORK
from network_peers import AROUND, Osprey, build, cut_heads, export, network_extents, rows_of, start_peers, unpack

# A case with its checkpoint, or a file; its config, where it is not found beside it; and a photo.
MODELS = {
    "SSD MobileNet V2 FPNLite 320": ("tfod/real_ssd_mobilenet_v2_fpnlite_320", None, "images/coffee.png"),
    "Mask R-CNN R50-FPN": ("detectron2/mask_rcnn_R_50_FPN_3x", FIXTURES / "detectron2/mask_rcnn_R_50_FPN_3x/config.yaml",
                           "images/coffee.png"),
    "demo Mask R-CNN": (measure.ROOT / "assets/demo/demo_mask_rcnn.pkl", measure.ROOT / "assets/demo/demo_mask_rcnn.yaml",
                        "images/coffee.png"),
}


def build_engine(source, config, precision, photos, target):
    options = ["--precision", precision, *(["--config", config] if config else [])]
    options += ["--calib-input", photos, "--calib-cache", target.with_suffix(".calib"), "--force"] if precision == "int8" else []
    build(source, target, options)
    return target


def time_model(title, args):
    case, config, photo = MODELS[title]
    source = unpack(case) if isinstance(case, str) else case
    name, photo = pathlib.Path(source).stem, FIXTURES / photo
    if source.is_dir() and config:
        source = next(source.glob("model_final.*"))
    engines = {p: build_engine(source, config, p, args.photos, WORK / f"{name}-{p}.osprey") for p in ("fp32", "int8")}
    ours = {p: Osprey(engine, photo, args.threads) for p, engine in engines.items()}
    workers = {f"osprey {p}": o for p, o in ours.items()}
    peers = {}
    if not config:  # a network of one size, whose heads are convolutions
        onnx, heads = WORK / f"{name}-int8.onnx", WORK / f"{name}-int8-heads.onnx"
        export(engines["int8"], onnx)
        cut_heads(onnx, heads)
        peers = {f"{n} int8": p for n, p in start_peers(heads, network_extents(engines["int8"]), args.threads).items()}
    figures = measure.take_turns({**workers, **peers}, args.rounds)
    for peer in peers.values():
        peer.worker.close()
    rows = rows_of(title, "network", figures, figures["osprey int8"])
    whole = {f"osprey {p}": o.whole for p, o in ours.items()}
    return rows + rows_of(title, "photo to detections", whole, whole["osprey int8"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--photos", default=FIXTURES / "coco/train128/images", help="to calibrate on")
    parser.add_argument("--model", choices=MODELS, action="append", help="that alone; may be given again")
    parser.add_argument("--record", action="store_true", help="keep the report in bench/results")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    WORK.mkdir(parents=True, exist_ok=True)
    rows = [row for title in args.model or MODELS for row in time_model(title, args)]
    text = "\n".join([measure.conditions("bench/run.sh " + " ".join(["int8", *sys.argv[1:]]), load), "",
                      measure.table(["program", "median ms", "best ms", "time / osprey int8"], rows), "",
                      f"Each figure is a median over {args.rounds} rounds in which the programs take turns; the ratio is the median of "
                      f"the rounds' own. The network is all but {', '.join(sorted(AROUND))}; that of the peers ends at the heads' "
                      "convolutions and starts at the resized photo."])
    measure.publish("int8", "int8 on the CPU", text, args.record)


if __name__ == "__main__":
    main()

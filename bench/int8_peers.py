#!/usr/bin/env python3
"""Times int8 on the CPU: engines in int8 against the same models in fp32, whole and their networks, and against OpenVINO and ONNX
Runtime on the Q/DQ file that `osprey export` makes of the engine.

    bench/run.sh int8 --model "SSD MobileNet V2 FPNLite 320"

int8 is calibrated on the photos of --photos (shared/fixtures/coco/train128). Accuracy is `osprey eval`'s to tell, not this script's.
"""
import argparse
import dataclasses
import os
import pathlib
import sys

import measure
from model_files import FIXTURES, WORK
from network_peers import AROUND, TOGETHER, Osprey, build, cut_heads, export, network_extents, rows_of, start_peers, unpack


@dataclasses.dataclass(frozen=True)
class Model:
    source: str | pathlib.Path  # a case with its checkpoint, or a file
    config: pathlib.Path | None = None  # where it is not found beside it
    size: str = ""  # of the network's image; else as the config has it
    first_stage: str = ""  # layers of two stages' first one, whose last convolutions end the part that is timed
    together: int = TOGETHER  # runs a turn

    @property
    def has_peers(self):
        """Of one size, with convolutions at its end."""
        return not self.config or bool(self.first_stage)


R50, DEMO = FIXTURES / "detectron2/mask_rcnn_R_50_FPN_3x", measure.ROOT / "assets/demo"
MODELS = {
    "SSD MobileNet V2 FPNLite 320": Model("tfod/real_ssd_mobilenet_v2_fpnlite_320"),
    "R50-FPN and its proposal network": Model("detectron2/mask_rcnn_R_50_FPN_3x", R50 / "config.yaml", "800x1344",
                                              "proposal_generator.", together=1),
    "Mask R-CNN R50-FPN": Model("detectron2/mask_rcnn_R_50_FPN_3x", R50 / "config.yaml", together=1),
    "demo Mask R-CNN": Model(DEMO / "demo_mask_rcnn.pkl", DEMO / "demo_mask_rcnn.yaml"),
}
PHOTO = FIXTURES / "images/coffee.png"


def build_engine(source, model, precision, photos, target):
    options = ["--precision", precision, *(["--config", model.config] if model.config else []),
               *(["--size", model.size] if model.size else [])]
    options += ["--calib-input", photos, "--calib-cache", target.with_suffix(".calib"), "--force"] if precision == "int8" else []
    build(source, target, options)
    return target


def time_model(title, args):
    model = MODELS[title]
    source = unpack(model.source) if isinstance(model.source, str) else model.source
    name = pathlib.Path(source).stem + (f"-{model.size}" if model.size else "")
    if source.is_dir() and model.config:
        source = next(source.glob("model_final.*"))
    engines = {p: build_engine(source, model, p, args.photos, WORK / f"{name}-{p}.osprey") for p in ("fp32", "int8")}

    def is_network(layer):
        return layer["op"] not in AROUND and not (model.first_stage and layer["name"].startswith("roi_heads."))

    ours = {p: Osprey(engine, PHOTO, args.threads, 3 * model.together, is_network) for p, engine in engines.items()}
    workers = {f"osprey {p}": o for p, o in ours.items()}
    peers = {}
    if model.has_peers:
        onnx, heads = WORK / f"{name}-int8.onnx", WORK / f"{name}-int8-heads.onnx"
        export(engines["int8"], onnx)
        cut_heads(onnx, heads, layers=model.first_stage)
        started = start_peers(heads, network_extents(engines["int8"]), args.threads, model.together)
        peers = {f"{n} int8": p for n, p in started.items()}
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

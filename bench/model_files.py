"""The checkpoint, config and photo that the scripts measure with, and Osprey's files made from them."""
import dataclasses
import os
import pathlib
import shutil
import sys
import tarfile

import measure

WORK = measure.ROOT / "build" / "bench"
FIXTURES = pathlib.Path(os.environ.get("OSPREY_FIXTURES", measure.ROOT.parent / "shared" / "fixtures"))


@dataclasses.dataclass
class Files:
    checkpoint: pathlib.Path
    config: str
    photo: pathlib.Path
    description: str


def add_model_options(parser):
    parser.add_argument("--checkpoint", type=pathlib.Path, help="a Detectron2 .pkl of Mask R-CNN R50-FPN, 80 classes")
    parser.add_argument("--config", help="its config; default: the official one")
    parser.add_argument("--photo", type=pathlib.Path)
    parser.add_argument("--random-weights", action="store_true", help="make a checkpoint even where the fixtures have one")


def prepare(args):
    """What was named; else the fixtures' where they are at hand; else random weights and a scene of the demo."""
    WORK.mkdir(parents=True, exist_ok=True)
    photo = args.photo or FIXTURES / "images" / "coffee.png"
    if not photo.exists():
        photo = min((measure.ROOT / "assets" / "demo" / "scenes").glob("*.png"))
    config = args.config or "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
    if args.checkpoint:
        return Files(args.checkpoint, config, photo, args.checkpoint.name)
    case = FIXTURES / "detectron2" / "mask_rcnn_R_50_FPN_3x"
    if case.exists() and not args.random_weights:
        file = WORK / "fixture" / "model_final.pkl"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            with tarfile.open(case / "checkpoint.tar.xz") as archive, archive.extractfile(file.name) as source:
                with open(file, "wb") as target:
                    shutil.copyfileobj(source, target)
        return Files(file, config, photo, "the fixture mask_rcnn_R_50_FPN_3x (Detectron2's format, full size)")
    file = WORK / "random.pkl"
    if not file.exists():
        # In its own process: the driver stays small, see measure.py.
        code = ("import sys, numpy, mask_rcnn_torchvision as m; from PIL import Image; "
                "m.generate(sys.argv[1], numpy.array(Image.open(sys.argv[2]).convert('RGB')))")
        os.environ["PYTHONPATH"] = str(measure.ROOT / "bench")
        measure.run_once([sys.executable, "-c", code, file, photo])
    return Files(file, config, photo, "random, scaled on the photo (Detectron2's format, full size)")


def build_engine(files, precision):
    """The engine file, and the seconds and peak MiB of building it."""
    engine = WORK / f"mask_rcnn_{precision}.osprey"
    command = [measure.program("osprey"), "build", files.checkpoint, "--config", files.config, "--precision", precision, "-o", engine,
               "--quiet"]
    _, seconds, peak = measure.run_once(command)
    return engine, seconds, peak


def import_model(files):
    model = WORK / "mask_rcnn.onnx"
    command = [measure.program("osprey"), "import", files.checkpoint, "--config", files.config, "-o", model, "--quiet"]
    _, seconds, peak = measure.run_once(command)
    return model, seconds, peak

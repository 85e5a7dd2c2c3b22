#!/usr/bin/env python3
"""Runs an exported DETR of PaddleDetection in ONNX Runtime, and compares its detections with the framework's own.

    onnxruntime_paddle_check.py --osprey COMMAND CASE_FOLDER

CASE_FOLDER is one of the fixtures (case.json, golden.npz) that has the framework's own ONNX file, which takes one image at
a time, and whose masks are compared pixel by pixel: on the case's image, and on it and its mirror image in one batch.
Detections of the case's image must be the golden ones, too. Prints the largest differences; exits 1 when a bound is
broken, and 77 (skipped) where a package or the case is missing.
"""
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

try:
    import numpy as np
    import onnxruntime
    from PIL import Image
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

SCORE, BOX = 1e-4, 0.01  # pixels
MASK = 1e-4  # share of a batch's pixels that differ: logits next to the threshold


def session(file):
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def framework(model, image):
    """(class, score, box) and masks of one image, in its own pixels."""
    size = np.array([image.shape[2:]], np.float32)
    inputs = {"image": image * np.float32(1 / 255), "im_shape": size, "scale_factor": np.ones((1, 2), np.float32)}
    rows, _, masks = model.run(None, inputs)
    return rows, masks


def agrees(what, ours, rows, masks=None):
    score = np.abs(ours["scores"] - rows[:, 1]).max()
    box = np.abs(ours["boxes"] - rows[:, 2:]).max()
    same = np.array_equal(ours["classes"], rows[:, 0].astype(int))
    apart = 0 if masks is None else (ours["masks"] != masks).mean()
    print(f"{what}: {len(rows)} detections, classes {'alike' if same else 'DIFFER'}, scores within {score:.2g}, "
          f"boxes within {box:.2g} px" + ("" if masks is None else f", {apart:.2g} of the masks' pixels differ"))
    return same and score <= SCORE and box <= BOX and apart <= MASK


def main():
    _, osprey, case = sys.argv[1:]
    case = pathlib.Path(case)
    if not (case / "golden.npz").exists():
        print(f"skipped: no fixtures at {case}; set OSPREY_FIXTURES to their folder")
        return 77
    facts, golden = json.loads((case / "case.json").read_text()), np.load(case / "golden.npz")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for archive in (facts["checkpoint"], facts["export"]["archive"]):
            with tarfile.open(case / archive) as files:
                files.extractall(folder, filter="data")
        subprocess.run([osprey, "export", folder / facts["checkpoint_files"][0], "--config", case / facts["config"], "--target",
                        "onnxruntime", "-o", folder / "exported.onnx", "--quiet"], check=True)
        ours, theirs = session(folder / "exported.onnx"), session(folder / "model.onnx")

        image = np.round(golden["input.image"] * 255).astype(np.float32)
        names = [o.name for o in ours.get_outputs()]
        good = True
        for batch in (image, np.concatenate([image, image[..., ::-1]])):
            out = dict(zip(names, ours.run(None, {"image": batch})))
            good &= bool((out["num_detections"] == out["detection_scores"].shape[1]).all())
            for i, one in enumerate(batch):
                found = {k: out["detection_" + k][i] for k in ("boxes", "scores", "classes", "masks")}
                good &= agrees(f"{case.name}, {i + 1} of {len(batch)}", found, *framework(theirs, one[None]))
        with Image.open(case.parent.parent / facts["image"]) as photo:
            scale = np.array(photo.size * 2) / np.array(image.shape[:1:-1] * 2)
        found = {k: out["detection_" + k][0] for k in ("scores", "classes")} | {"boxes": out["detection_boxes"][0] * scale}
        good &= agrees(f"{case.name}, golden", found, golden["final.bbox"])
    print("  agrees" if good else "  DISAGREES")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

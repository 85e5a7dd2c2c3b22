#!/usr/bin/env python3
"""Runs an exported detector of TensorFlow's Object Detection API in ONNX Runtime and compares its detections with
TensorFlow's own.

    onnxruntime_tfod_check.py --osprey COMMAND CASE_FOLDER

CASE_FOLDER is one of the fixtures (case.json, golden.npz). Bounds are the case's own: boxes normalised, matched by class
and IoU >= 0.95, two of a hundred may lie elsewhere. Prints the largest differences; exits 1 when a bound is broken, and
77 (skipped) where a package or the case is missing.
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

    import onnxruntime_check as common
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

common.OVERLAP = 0.95
MASK = 5e-3


def legacy_bilinear(pixels, height, width):
    """TensorFlow 1's resize: output pixel i looks at i * in / out, in float32."""
    def axis(size, out):
        at = np.arange(out, dtype=np.float32) * np.float32(np.float32(size) / np.float32(out))
        low = at.astype(np.int64)
        return low, np.minimum(low + 1, size - 1), at - low.astype(np.float32)
    if pixels.shape[:2] == (height, width):
        return pixels
    top, bottom, dy = axis(pixels.shape[0], height)
    left, right, dx = axis(pixels.shape[1], width)
    dx, dy = dx[None, :, None], dy[:, None, None]
    upper = pixels[top][:, left] + (pixels[top][:, right] - pixels[top][:, left]) * dx
    lower = pixels[bottom][:, left] + (pixels[bottom][:, right] - pixels[bottom][:, left]) * dx
    return upper + (lower - upper) * dy


def size_of(photo, rule):
    if rule["fit"] == "stretch":
        return rule["height"], rule["width"]
    assert rule["fit"] == "keep_aspect_ratio", rule
    height, width = photo.shape[:2]
    target = [rule["min_dimension"], rule["max_dimension"]]
    if height >= width:
        target.reverse()
    scale = min(np.float32(target[0]) / np.float32(height), np.float32(target[1]) / np.float32(width))
    return int(np.rint(scale * np.float32(height))), int(np.rint(scale * np.float32(width)))


def export(osprey, case, folder):
    with tarfile.open(case / "checkpoint.tar.xz") as files:
        files.extractall(folder, filter="data")
    model = pathlib.Path(folder) / "exported.onnx"
    subprocess.run([osprey, "export", f"{folder}/checkpoint", "--target", "onnxruntime", "-o", str(model), "--quiet"],
                   check=True)
    return model


def main():
    case = pathlib.Path(sys.argv[-1])
    if not (case / "golden.npz").exists():
        print(f"skipped: no fixtures at {case}; set OSPREY_FIXTURES to their folder")
        return 77
    about = json.loads((case / "case.json").read_text())
    golden, bounds = np.load(case / "golden.npz"), about["tolerance"]
    photo = np.asarray(Image.open(case.parent.parent / about["image"]).convert("RGB")).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime.InferenceSession(str(export(sys.argv[2], case, folder)), providers=["CPUExecutionProvider"])
    rule = json.loads(session.get_modelmeta().custom_metadata_map["osprey.input"])
    assert rule["resize"].startswith("TensorFlow 1 bilinear"), rule
    height, width = size_of(photo, rule)
    image = legacy_bilinear(photo, height, width).transpose(2, 0, 1)[None]
    out = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"image": image})))

    # Normalised by the image, with x first.
    number = int(golden["det__num_detections"][0])
    want = {"boxes": golden["det__detection_boxes"][0][:number][:, [1, 0, 3, 2]],
            "scores": golden["det__detection_scores"][0][:number],
            "classes": golden["det__detection_classes"][0][:number].astype(int) - 1}
    count = int(out["num_detections"][0, 0])
    have = {k: out["detection_" + k][0] for k in want}
    assert all(len(v) == count for v in have.values())
    have["boxes"] = have["boxes"] / np.array([width, height, width, height], np.float32)

    pairs = common.match(have, want)
    there = pairs >= 0
    score = np.abs(have["scores"][pairs[there]] - want["scores"][there]).max(initial=0)
    box = np.abs(have["boxes"][pairs[there]] - want["boxes"][there]).max(initial=0)
    spare = 2 * -(-number // 100)
    print(f"{case.name}: {there.sum()} of {number} golden detections, {count - there.sum()} extra, scores within "
          f"{score:.2g}, boxes within {box:.2g} of the image")
    good = (there.sum() >= number - spare and count - there.sum() <= spare and score <= bounds["score_abs"] and
            box <= bounds["box_abs"])
    if "det__detection_masks" in golden:
        masks = out["detection_masks"][0][pairs[there]] - golden["det__detection_masks"][0][:number][there]
        print(f"  mask probabilities within {np.abs(masks).max():.2g}")
        good = good and np.abs(masks).max() <= MASK
    print("  agrees" if good else "  DISAGREES")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

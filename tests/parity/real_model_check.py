#!/usr/bin/env python3
"""A trained model of TensorFlow's Object Detection API on photos: `osprey eval` must give TensorFlow's own metrics.

    real_model_check.py --osprey COMMAND FIXTURES

FIXTURES holds tfod/real_ssd_mobilenet_v2_fpnlite_320 (its checkpoint, and what TensorFlow's detections score) and
coco/val64. Every metric must be within 0.001. Prints them; exits 1 when a bound is broken, and 77 (skipped) where the
fixtures are missing.
"""
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

BOUND = 1e-3
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def main():
    osprey, fixtures = sys.argv[2], pathlib.Path(sys.argv[3])
    case, photos = fixtures / "tfod" / "real_ssd_mobilenet_v2_fpnlite_320", fixtures / "coco" / "val64"
    if not (case / "tf_metrics.json").exists() or not photos.exists():
        print(f"skipped: no fixtures at {fixtures}; set OSPREY_FIXTURES to their folder")
        return 77
    golden = json.loads((case / "tf_metrics.json").read_text())["metrics"]
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(case / "checkpoint.tar.xz") as files:
            files.extractall(folder, filter="data")
        engine = pathlib.Path(folder) / "ssd.osprey"
        subprocess.run([osprey, "build", f"{folder}/checkpoint", "-o", engine, "--quiet"], check=True)
        done = subprocess.run([osprey, "eval", engine, "--images", photos / "images", "--annotations",
                               photos / "instances.json", "--json", "--quiet"], check=True, stdout=subprocess.PIPE)
    found = dict(zip(STATS, json.loads(done.stdout)["bbox"]["stats"]))
    for name in STATS:
        print(f"  {name:<6} {found[name]:.12f}, TensorFlow's {golden[name]:.12f}")
    good = all(abs(found[name] - golden[name]) <= BOUND for name in STATS)
    print("  agrees" if good else "  DISAGREES")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

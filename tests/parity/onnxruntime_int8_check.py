#!/usr/bin/env python3
"""Builds a model in int8, exports it with QuantizeLinear and DequantizeLinear, and compares ONNX Runtime with our engine.

    onnxruntime_int8_check.py --osprey COMMAND [--config FILE] [--set KEY=VALUE]... [--layers-only] [--photos N] SOURCE PHOTOS

SOURCE is a checkpoint, or a fixture's folder (case.json), whose archive is unpacked first.

Layer by layer: both are given our integers as every layer's input. Sums of integers are exact on our side; ONNX Runtime
adds the same numbers in float32, whose error stays far below a step, so that a result differs by one step, where the sum
lies at the middle between two, or not at all. STEPS and EQUAL say so.

Detections, each side on its own: a step that one layer rounds otherwise spreads through those after it, as the rounding of
floats to integers itself does. So the two must not be further apart than rounding is from none: than our int8 engine is
from our fp32 engine, by the measure that `build` reports.

Exits 1 when a bound is broken, and 77 (skipped) where a package, the model or 8-bit dot products are missing, without which
libraries saturate sums to 16 bits.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime
    from onnxruntime_check import export_to, overlaps, prepare, unpack
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

STEPS, EQUAL = 1, 0.99
COUNTED = 0.5  # overlap of detections that are a pair, as in src/engine/accuracy.cpp


def has_dot_products():
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    return "vnni" in flags or "asimddp" in flags


def integer_values(osprey, engine):
    """Names of the values that quantize and layers of integers make, and whether their rows depend on the data."""
    text = subprocess.run([osprey, "inspect", "--layers", str(engine)], check=True, capture_output=True, text=True).stdout
    lines = re.findall(r"^(\S+) = (quantize|quantized_\w+)\(.*\).* : [iu]8\[(.*)\]$", text, re.M)
    return [(name, op, extents.startswith("<=")) for name, op, extents in lines]


def dump(osprey, engine, photo, names, folder):
    """Values of the engine on a photo."""
    file = folder / "dump.npz"
    subprocess.run([osprey, "infer", str(engine), str(photo), "--dump", ",".join(names), "--dump-to", str(file), "--format",
                    "none", "-o", str(folder / "out"), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    with np.load(file) as arrays:
        return {name: arrays[name] for name in names}


def cut_into_layers(file, names):
    """The exported model, in which what reads an integer value reads an input "given:<name>" instead, and every integer value
    is an output. Values stand in the file in the engine's order."""
    model = onnx.load(str(file))
    made = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(made) == len(names), f"{len(made)} QuantizeLinear for {len(names)} integer values"
    types = {init.name: init.data_type for init in model.graph.initializer}
    zero_points = {node.output[0]: node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    given = {value: f"given:{name}" for value, name in zip(made, names)}
    for node in model.graph.node:
        for i, value in enumerate(node.input):
            if value in given:
                node.input[i] = given[value]
    del model.graph.output[:]
    for value in made:
        kind = types[zero_points[value]]
        model.graph.input.append(onnx.helper.make_tensor_value_info(given[value], kind, None))
        model.graph.output.append(onnx.helper.make_tensor_value_info(value, kind, None))
    return model, made


def layers_agree(osprey, engine, file, photo, folder):
    values = integer_values(osprey, engine)
    names = [name for name, _, _ in values]
    ours = dump(osprey, engine, photo, names, folder)
    model, made = cut_into_layers(file, names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # what the file says
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rule = json.loads(session.get_modelmeta().custom_metadata_map["osprey.input"])
    inputs = {"image": prepare(photo, rule), **{f"given:{name}": ours[name] for name in names}}
    theirs = dict(zip(names, session.run(made, inputs)))
    good, most, least = True, 0, 1.0
    for name, op, per_detection in values:
        # Floats of detections that each side found for itself are no common input.
        if op == "quantize" and per_detection:
            continue
        if ours[name].shape != theirs[name].shape:
            print(f"  {name}: {ours[name].shape} beside {theirs[name].shape}")
            good = False
            continue
        apart = np.abs(ours[name].astype(int) - theirs[name].astype(int))
        equal = float((apart == 0).mean()) if apart.size else 1.0
        most, least = max(most, int(apart.max(initial=0))), min(least, equal)
        if apart.max(initial=0) > STEPS or equal < EQUAL:
            print(f"  {name}: {apart.max()} steps apart, {equal:.2%} equal")
            good = False
    print(f"  {photo.name}: {len(values)} layers in integers, {most} steps apart at most, {least:.3%} equal at least")
    return good


def found_by_onnxruntime(file, photo):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    rule = json.loads(session.get_modelmeta().custom_metadata_map["osprey.input"])
    out = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"image": prepare(photo, rule)})))
    return {k: out[f"detection_{k}"][0] for k in ("boxes", "scores", "classes")}


def found_by_us(osprey, engine, photo, folder):
    out = dump(osprey, engine, photo, ["det_boxes_net", "det_scores", "det_classes"], folder)
    return {"boxes": out["det_boxes_net"], "scores": out["det_scores"], "classes": out["det_classes"]}


def shared(a, b):
    """The sum over pairs of one class of the lesser score times the overlap, the best of a first."""
    quality = overlaps(a["boxes"], b["boxes"])
    quality[a["classes"][:, None] != b["classes"][None]] = 0
    total, free = 0.0, np.ones(len(b["scores"]), bool)
    for row, score in zip(quality, a["scores"]):
        row = np.where(free, row, 0)
        best = int(row.argmax()) if row.size else -1
        if best < 0 or row[best] < COUNTED:
            continue
        free[best] = False
        total += min(score, b["scores"][best]) * row[best]
    return total


def change(before, after):
    both = sum(shared(a, b) for a, b in zip(before, after))
    total = sum(float(x["scores"].sum()) for x in before + after)
    return 1 - 2 * both / total


def detections_agree(osprey, engine, plain, file, photos, folder):
    ours = [found_by_us(osprey, engine, photo, folder) for photo in photos]
    fp32 = [found_by_us(osprey, plain, photo, folder) for photo in photos]
    theirs = [found_by_onnxruntime(file, photo) for photo in photos]
    counts = [sum(len(x["scores"]) for x in side) for side in (ours, theirs)]
    apart, rounding = change(ours, theirs), change(fp32, ours)
    print(f"  {counts[0]} detections, {counts[1]} in ONNX Runtime; change {apart:.4f} between them, {rounding:.4f} by int8 itself")
    return min(counts) > 0 and apart <= rounding


def checkpoint(source, folder):
    if not (source / "case.json").exists():
        return source
    unpack(source, folder)
    return folder / json.loads((source / "case.json").read_text()).get("model", "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--osprey", required=True)
    parser.add_argument("--layers-only", action="store_true", help="of a model whose weights are random")
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="as `osprey build` takes it")
    parser.add_argument("--config", help="of SOURCE, where it is not found beside it")
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    o = parser.parse_args()
    if not o.source.exists() or not has_dot_products():
        print(f"skipped: no {o.source}" if not o.source.exists() else "skipped: this processor has no 8-bit dot products")
        return 77
    photos = sorted(o.folder.glob("*.jpg"))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        engine, plain = folder / "int8.osprey", folder / "fp32.osprey"
        build = [o.osprey, "build", str(checkpoint(o.source, folder)), "--quiet"]
        if o.config:
            build += ["--config", o.config]
        for pair in o.set:
            build += ["--set", pair]
        subprocess.run([*build, "--precision", "int8", "--calib-input", str(o.folder), "-o", str(engine),
                        *(["--force"] if o.layers_only else [])], check=True)
        file = export_to(folder, o.osprey, engine)
        print(f"{o.source.name}:")
        good = all([layers_agree(o.osprey, engine, file, photo, folder) for photo in photos[: o.photos]])
        if not o.layers_only:
            subprocess.run([*build, "-o", str(plain)], check=True)
            good = detections_agree(o.osprey, engine, plain, file, photos, folder) and good
    print("  agrees" if good else "  DISAGREES")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

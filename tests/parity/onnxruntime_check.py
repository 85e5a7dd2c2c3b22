#!/usr/bin/env python3
"""Runs an exported detector in ONNX Runtime and compares its detections with the framework's golden ones.

    onnxruntime_check.py EXPORTED.onnx CASE_FOLDER
    onnxruntime_check.py --osprey COMMAND CASE_FOLDER     exports the case's own checkpoint first
    onnxruntime_check.py --osprey COMMAND --proposals CASE_FOLDER
                                                          exports it as a region proposal network: its detections
                                                          must be the golden proposals
    onnxruntime_check.py --osprey COMMAND --given CASE_FOLDER
                                                          exports it as a Fast R-CNN, which must find the golden
                                                          detections in the golden proposals

    onnxruntime_check.py --osprey COMMAND --tensorflow CASE_FOLDER
                                                          the same of a case of TensorFlow's, with its own bounds; an
                                                          EfficientDet with the hard suppression, which ONNX has

CASE_FOLDER is one of the fixtures (case.json, golden.npz); its photo is found beside the families. Every golden
detection must be there, of the same class and with IoU >= 0.99, none extra; scores within 1e-3, boxes within
0.05 px, mask probabilities within 5e-3 (the cases' own bounds), keypoint heat maps within as much of their largest.
Prints the largest differences; exits 1 when a
bound is broken, and 77 (skipped) where a package or the case is missing.
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
    from PIL import Image, ImageOps
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

SCORE, BOX, OVERLAP, MASK = 1e-3, 0.05, 0.99, 5e-3
PROPOSAL, PROPOSALS = 0.03, 0.995  # pixels within which a proposal is the same; the share that must be there


def resize_rule(height, width, shortest, longest):
    scale = shortest / min(height, width)
    if scale * max(height, width) > longest:
        scale *= longest / (scale * max(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def tf_axis(size, wanted, half_pixel):
    """Of each of `wanted` pixels: the two it lies between, and how far it is from the first."""
    at = np.arange(wanted, dtype=np.float32)
    scale = np.float32(size) / np.float32(wanted)
    at = (at + np.float32(0.5)) * scale - np.float32(0.5) if half_pixel else at * scale
    below = np.floor(at)
    low, high = np.maximum(below, 0).astype(int), np.minimum(below + 1, size - 1).astype(int)
    return low, high, at - below


def tf_bilinear(pixels, height, width, half_pixel):
    """TensorFlow's resize of f32[H,W,3], of version 1 (half_pixel_centers false) or 2."""
    low, high, part = tf_axis(pixels.shape[1], width, half_pixel)
    left, right, part = pixels[:, low], pixels[:, high], part[None, :, None]
    pixels = left + (right - left) * part
    low, high, part = tf_axis(pixels.shape[0], height, half_pixel)
    top, bottom, part = pixels[low], pixels[high], part[:, None, None]
    return top + (bottom - top) * part


def tf_prepare(rgb, rule):
    height, width = rgb.height, rgb.width
    if rule["fit"] == "truncate":
        scale = min(np.float32(rule["within_height"]) / np.float32(height),
                    np.float32(rule["within_width"]) / np.float32(width))
        height, width = int(np.float32(height) * scale), int(np.float32(width) * scale)
    else:
        assert rule["fit"] == "stretch", rule
        height, width = rule["height"], rule["width"]
    return tf_bilinear(np.asarray(rgb, np.float32), height, width, "TensorFlow 2" in rule["resize"])


def short_side_rule(height, width, shortest, longest):
    """maskrcnn-benchmark's Resize.get_size."""
    short, long = min(height, width), max(height, width)
    side = round(longest * short / long) if long / short * shortest > longest else shortest
    return (int(side * height / width), side) if width < height else (side, int(side * width / height))


def prepare(photo, rule):
    """The photo as `image` wants it: f32[1,3,H,W], RGB, 0..255."""
    rgb = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    if "TensorFlow" in rule["resize"]:
        pixels = tf_prepare(rgb, rule)
    elif "shortest_edge" in rule:
        size = short_side_rule if rule.get("fit") == "short_side" else resize_rule
        height, width = size(rgb.height, rgb.width, rule["shortest_edge"], rule["longest_edge"])
        pixels = np.asarray(rgb.resize((width, height), Image.BILINEAR))
    else:
        scale = min(rule["height"] / rgb.height, rule["width"] / rgb.width)
        height, width = int(rgb.height * scale + 0.5), int(rgb.width * scale + 0.5)
        pixels = np.empty((rule["height"], rule["width"], 3), np.uint8)
        pixels[:] = np.asarray(rule["fill"], np.uint8)
        pixels[:height, :width] = np.asarray(rgb.resize((width, height), Image.BILINEAR))
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


def overlaps(a, b, pixel=0):
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low + pixel, 0, None), axis=2)
    area = lambda x: np.prod(x[:, 2:] - x[:, :2] + pixel, axis=1)
    return shared / (area(a)[:, None] + area(b)[None] - shared)


def match(found, golden, pixel=0):
    """Index of the found detection for each golden one; -1 where there is none. Best overlap of the same class.
    `pixel` is 1 where boxes hold their last pixel."""
    quality = overlaps(golden["boxes"], found["boxes"], pixel)
    quality[golden["classes"][:, None] != found["classes"][None]] = 0
    out, free = [], set(range(len(found["boxes"])))
    for row in quality:
        best = max(free, key=lambda j: row[j], default=-1)
        if best < 0 or row[best] < OVERLAP:
            out.append(-1)
            continue
        free.remove(best)
        out.append(best)
    return np.array(out, int)


def run(model, photo, **given):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    rule = json.loads(session.get_modelmeta().custom_metadata_map["osprey.input"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": prepare(photo, rule), **given})))


def sampled(golden, name):
    """A golden array and how to take the same samples of ours."""
    if name in golden:
        return golden[name], lambda x: x.reshape(-1)
    if name + "__sample" in golden:
        stride = int(golden[name + "__stride"])
        return golden[name + "__sample"], lambda x: x.reshape(-1)[::stride]
    return None, None


def unpack(case, folder):
    archive = case / json.loads((case / "case.json").read_text())["checkpoint"]
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")


def export_to(folder, osprey, source, *flags):
    model = pathlib.Path(folder) / "exported.onnx"
    subprocess.run([osprey, "export", str(source), *flags, "--target", "onnxruntime", "-o", str(model), "--quiet"],
                   check=True)
    return model


def export(osprey, case, folder, *flags):
    unpack(case, folder)
    source = pathlib.Path(folder) / "model_final.pkl"
    if not source.exists():
        source = source.with_suffix(".pth")
    return export_to(folder, osprey, source, "--config", str(case / "config.yaml"), *flags)


def compare(model, case, given=False):
    photo = case.parent.parent / json.loads((case / "case.json").read_text())["image"]
    golden = np.load(case / "golden.npz")
    inclusive = "det_labels" in golden  # maskrcnn-benchmark: 0 is the background
    classes = golden["det_labels"] - 1 if inclusive else golden["det_classes"]
    want = {"boxes": golden["det_boxes_net"], "scores": golden["det_scores"], "classes": classes}
    # Beyond the image nothing is left of a box, and of one without extent neither.
    empty = np.array([[9e4, 0, 9.1e4, 10], [5, 5, 5, 50]], np.float32)
    proposals = {"proposals": np.concatenate([empty, golden["proposal_boxes"]])} if given else {}
    out = run(model, photo, **proposals)
    count = int(out["num_detections"][0, 0])
    have = {k: out["detection_" + k][0] for k in want}
    assert all(len(v) == count for v in have.values())

    pairs = match(have, want, int(inclusive))
    there = pairs >= 0
    score = np.abs(have["scores"][pairs[there]] - want["scores"][there]).max(initial=0)
    box = np.abs(have["boxes"][pairs[there]] - want["boxes"][there]).max(initial=0)
    same_order = count == len(pairs) and bool((pairs == np.arange(count)).all())
    print(f"{case.name}: {there.sum()} of {len(pairs)} golden detections, {count - there.sum()} extra, "
          f"same order: {same_order}, scores within {score:.2g}, boxes within {box:.2g} px")
    good = there.all() and count == len(pairs) and score <= SCORE and box <= BOX

    masks, pick = sampled(golden, "mask_probs")
    if masks is not None and there.all():
        difference = np.abs(pick(out["detection_masks"][0][pairs]) - masks.reshape(-1)).max(initial=0)
        print(f"  mask probabilities within {difference:.2g}")
        good = good and difference <= MASK
    maps, pick = sampled(golden, "keypoint_heatmaps")
    if maps is not None and there.all():
        difference = np.abs(pick(out["keypoint_heatmaps"][0][pairs]) - maps.reshape(-1)).max(initial=0)
        print(f"  keypoint heat maps within {difference / np.abs(maps).max():.2g} of the largest")
        good = good and difference <= MASK * np.abs(maps).max()
    print("  agrees" if good else "  DISAGREES")
    return 0 if good else 1


def compare_proposals(model, case):
    photo = case.parent.parent / json.loads((case / "case.json").read_text())["image"]
    golden = np.load(case / "golden.npz")
    boxes, logits = golden["proposal_boxes"], golden["proposal_logits"]
    out = run(model, photo)
    found, scores = out["detection_boxes"][0], out["detection_scores"][0]
    distance = np.abs(boxes[:, None] - found[None]).max(axis=2)
    nearest = distance.argmin(axis=1)
    there = distance.min(axis=1) <= PROPOSAL
    score = np.abs(scores[nearest] - logits)[there].max(initial=0) / np.abs(logits).max()
    print(f"{case.name}: {there.sum()} of {len(boxes)} golden proposals among {len(found)}, logits within {score:.2g} "
          f"of the largest, classes {set(out['detection_classes'][0])}")
    good = (there.mean() >= PROPOSALS and len(found) == len(boxes) and score <= SCORE and
            out["num_detections"][0, 0] == len(found) and not out["detection_classes"].any())
    print("  agrees" if good else "  DISAGREES")
    return 0 if good else 1


def tensorflow_golden(case, facts, golden):
    """Boxes in pixels of the photo as x0, y0, x1, y1; classes from 0."""
    with Image.open(case.parent.parent / facts["image"]) as photo:
        width, height = photo.size
    if facts["framework"].startswith("Google AutoML"):
        count = int(golden["det_hard_global__valid_len"][0])
        boxes, scores, classes = (golden[f"det_hard_global__{k}"][0][:count] for k in ("boxes", "scores", "classes"))
    else:
        count = int(np.ravel(golden["det__num_detections"])[0])
        boxes, scores, classes = (golden[f"det__detection_{k}"].reshape(-1, *shape)[:count]
                                  for k, shape in (("boxes", (4,)), ("scores", ()), ("classes", ())))
        boxes = boxes * np.array([height, width, height, width], np.float32)
    return {"boxes": boxes[:, [1, 0, 3, 2]], "scores": scores, "classes": classes.astype(int) - 1}, (height, width)


def to_photo(boxes, rule, size):
    """From pixels of the network's image to those of the photo."""
    height, width = size
    if rule["fit"] == "truncate":
        return boxes / min(rule["within_height"] / height, rule["within_width"] / width)
    return boxes * np.array([width / rule["width"], height / rule["height"]] * 2)


def compare_tensorflow(osprey, case, folder):
    facts = json.loads((case / "case.json").read_text())
    unpack(case, folder)
    automl = facts["framework"].startswith("Google AutoML")
    source = pathlib.Path(folder) / (facts["model"] if automl else "")
    model = export_to(folder, osprey, source, *(("--set", "nms_configs.method=hard") if automl else ()))
    want, size = tensorflow_golden(case, facts, np.load(case / "golden.npz"))
    out = run(model, case.parent.parent / facts["image"])
    rule = json.loads(onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
                      .get_modelmeta().custom_metadata_map["osprey.input"])
    have = {k: out["detection_" + k][0] for k in want}
    have["boxes"] = to_photo(have["boxes"].astype(np.float64), rule, size)
    # A box without area is the same where its corners are.
    apart = np.abs(have["boxes"][None] - want["boxes"][:, None])
    near = apart.max(axis=2)
    near[want["classes"][:, None] != have["classes"][None]] = np.inf
    nearest = near.argmin(axis=1)
    there = near.min(axis=1) <= 1
    bounds = facts.get("tolerance", {"score_abs": SCORE, "box_abs": BOX})
    unmatched = 2 if "tolerance" in facts else 0  # which those cases allow, for near ties
    unit = [size[1], size[0]] * 2 if bounds.get("box_unit") == "normalised" else 1
    box = (apart[np.arange(len(there)), nearest] / unit)[there].max(initial=0)
    score = np.abs(have["scores"][nearest] - want["scores"])[there].max(initial=0)
    missing = len(there) - int(there.sum())
    extra = len(have["scores"]) - len(set(nearest[there]))
    print(f"{case.name}: {there.sum()} of {len(there)} golden detections, {extra} extra, scores within {score:.2g} "
          f"({bounds['score_abs']}), boxes within {box:.2g} ({bounds['box_abs']})")
    good = missing <= unmatched and extra <= unmatched and score <= bounds["score_abs"] and box <= bounds["box_abs"]
    print("  agrees" if good else "  DISAGREES")
    return 0 if good else 1


def main():
    case = pathlib.Path(sys.argv[-1])
    if not (case / "golden.npz").exists():
        print(f"skipped: no fixtures at {case}; set OSPREY_FIXTURES to their folder")
        return 77
    if sys.argv[1] != "--osprey":
        return compare(pathlib.Path(sys.argv[1]), case)
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[3] == "--tensorflow":
            return compare_tensorflow(sys.argv[2], case, folder)
        if sys.argv[3] == "--proposals":
            flags = ("--set", "MODEL.META_ARCHITECTURE=ProposalNetwork")
            return compare_proposals(export(sys.argv[2], case, folder, *flags), case)
        if sys.argv[3] == "--given":
            flags = ("--set", "MODEL.PROPOSAL_GENERATOR.NAME=PrecomputedProposals", "--set", "MODEL.LOAD_PROPOSALS=True")
            return compare(export(sys.argv[2], case, folder, *flags), case, given=True)
        return compare(export(sys.argv[2], case, folder), case)


if __name__ == "__main__":
    sys.exit(main())

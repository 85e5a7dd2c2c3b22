"""Runs a model in the framework it was trained in, over photos, and writes what it detects as Osprey's
detections.json: the other side of `osprey compare`. It needs that framework and nothing of Osprey's.

    python3 detect.py --framework tensorflow --model saved_model --photos photos.json --output detections.json

`photos.json` is a list of files. Frameworks: tensorflow (SavedModels of the Object Detection API and of AutoML
EfficientDet), detectron2 (--config FILE), maskrcnn-benchmark (--config FILE), paddle (an exported inference
folder). Lines "progress DONE ALL" go to stdout. Exit status 3: the framework is not installed; 4: it does not
know the model.
"""
import argparse
import json
import os
import sys

NOT_INSTALLED, NOT_A_MODEL = 3, 4


def stop(status, message):
    print(message, file=sys.stderr)
    sys.exit(status)


def read_photo(path):
    """Pixels as Osprey decodes them: uint8 RGB, upright."""
    import numpy
    from PIL import Image, ImageOps
    with Image.open(path) as image:
        return numpy.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def run_lengths(mask):
    """COCO's counts of a boolean mask: columns one after the other, zeros first."""
    import numpy
    flat = numpy.concatenate([[0], mask.T.reshape(-1).astype(numpy.int8), [0]])
    edges = numpy.flatnonzero(numpy.diff(flat))
    counts = numpy.diff(numpy.concatenate([[0], edges, [mask.size]]))
    return [int(c) for c in (counts if counts[-1] or len(counts) == 1 else counts[:-1])]


def detection(category, score, box, mask=None, keypoints=None):
    out = {"class": int(category), "label": "", "score": float(score), "box": [float(v) for v in box]}
    if mask is not None:
        out["mask"] = {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": run_lengths(mask)}
    if keypoints is not None:
        out["keypoints"] = [[float(v) for v in point] for point in keypoints]
    return out


class TensorFlow:
    def __init__(self, model, _config):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            import tensorflow
        except ImportError as error:
            stop(NOT_INSTALLED, f"TensorFlow is not installed for {sys.executable} ({error}): pip install tensorflow")
        self.tf = tensorflow
        self.loaded = tensorflow.saved_model.load(model)  # holds what its signatures need
        if "serving_default" not in self.loaded.signatures:
            stop(NOT_A_MODEL, f"{model}: has no signature serving_default")
        self.run = self.loaded.signatures["serving_default"]
        self.input, = self.run.structured_input_signature[1].items()

    def __call__(self, pixels):
        name, spec = self.input
        found = self.run(**{name: self.tf.constant(pixels[None], spec.dtype)})
        found = {key: value.numpy()[0] for key, value in found.items()}
        if "detection_boxes" in found:
            return self.object_detection_api(found, *pixels.shape[:2])
        if "output_3" in found:
            return self.efficientdet(found)
        stop(NOT_A_MODEL, f"its outputs are {sorted(found)}, which are neither the Object Detection API's nor "
                          "EfficientDet's")

    def object_detection_api(self, found, height, width):
        masks = found.get("detection_masks")
        for i in range(int(found["num_detections"])):
            y0, x0, y1, x1 = found["detection_boxes"][i]
            box = (x0 * width, y0 * height, x1 * width, y1 * height)
            mask = None if masks is None else self.in_photo(masks[i], found["detection_boxes"][i], height, width)
            yield detection(found["detection_classes"][i] - 1, found["detection_scores"][i], box, mask)

    def in_photo(self, mask, box, height, width):
        """The mask of a box in the whole photo, as the API's reframe_box_masks_to_image_masks has it: the photo is
        cropped out of the mask bilinearly, corners on corners, outside 0; inside is above one half."""
        y0, x0, y1, x1 = (float(v) for v in box)
        tall, wide = max(y1 - y0, 1e-12), max(x1 - x0, 1e-12)
        inverse = [[-y0 / tall, -x0 / wide, (1 - y0) / tall, (1 - x0) / wide]]
        whole = self.tf.image.crop_and_resize(mask[None, :, :, None], inverse, [0], (height, width),
                                              extrapolation_value=0)
        return whole.numpy()[0, :, :, 0] > 0.5

    def efficientdet(self, found):
        """Boxes, scores, classes counted from 1, and how many of them there are."""
        for i in range(int(found["output_3"])):
            y0, x0, y1, x1 = found["output_0"][i]
            yield detection(found["output_2"][i] - 1, found["output_1"][i], (x0, y0, x1, y1))


class Detectron2:
    def __init__(self, model, config):
        try:
            from detectron2.config import get_cfg
            from detectron2.engine import DefaultPredictor
            from detectron2 import model_zoo
        except ImportError as error:
            stop(NOT_INSTALLED, f"Detectron2 is not installed for {sys.executable} ({error})")
        cfg = get_cfg()
        cfg.merge_from_file(config if os.path.exists(config) else model_zoo.get_config_file(config))
        cfg.MODEL.WEIGHTS = model
        cfg.MODEL.DEVICE = "cpu"
        self.predictor = DefaultPredictor(cfg)

    def __call__(self, pixels):
        found = self.predictor(pixels[:, :, ::-1])["instances"]
        for i in range(len(found)):
            yield detection(found.pred_classes[i], found.scores[i], found.pred_boxes.tensor[i].tolist(),
                            found.pred_masks[i].numpy() if found.has("pred_masks") else None,
                            found.pred_keypoints[i].tolist() if found.has("pred_keypoints") else None)


class MaskRcnnBenchmark:
    def __init__(self, model, config):
        try:
            from maskrcnn_benchmark.config import cfg
            from maskrcnn_benchmark.data.transforms import build_transforms
            from maskrcnn_benchmark.modeling.detector import build_detection_model
            from maskrcnn_benchmark.modeling.roi_heads.mask_head.inference import Masker
            from maskrcnn_benchmark.structures.image_list import to_image_list
            from maskrcnn_benchmark.utils.checkpoint import DetectronCheckpointer
        except ImportError as error:
            stop(NOT_INSTALLED, f"maskrcnn-benchmark is not installed for {sys.executable} ({error})")
        cfg.merge_from_file(config)
        cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHT", model])
        self.cfg, self.together = cfg, to_image_list
        self.model = build_detection_model(cfg).eval()
        DetectronCheckpointer(cfg, self.model).load(model)
        self.transform = build_transforms(cfg, is_train=False)
        self.masker = Masker(threshold=0.5, padding=1)

    def __call__(self, pixels):
        import torch
        from PIL import Image
        image, _ = self.transform(Image.fromarray(pixels), None)
        with torch.no_grad():
            found = self.model(self.together(image, self.cfg.DATALOADER.SIZE_DIVISIBILITY))[0]
        found = found.resize((pixels.shape[1], pixels.shape[0])).convert("xyxy")
        masks = None
        if found.has_field("mask"):
            masks = self.masker([found.get_field("mask")], [found])[0].numpy().astype(bool)
        points = found.get_field("keypoints").keypoints if found.has_field("keypoints") else None
        for i in range(len(found)):
            yield detection(found.get_field("labels")[i] - 1, found.get_field("scores")[i], found.bbox[i].tolist(),
                            None if masks is None else masks[i, 0], None if points is None else points[i].tolist())


class Paddle:
    def __init__(self, model, _config):
        try:
            from paddle.inference import Config, create_predictor
        except ImportError as error:
            stop(NOT_INSTALLED, f"Paddle is not installed for {sys.executable} ({error}): pip install paddlepaddle")
        import yaml
        program = next((f for f in ("inference.json", "inference.pdmodel", "model.pdmodel")
                        if os.path.exists(os.path.join(model, f))), None)
        if program is None:
            stop(NOT_A_MODEL, f"{model}: has no inference.json, inference.pdmodel or model.pdmodel")
        weights = program.rsplit(".", 1)[0] + ".pdiparams"
        self.predictor = create_predictor(Config(os.path.join(model, program), os.path.join(model, weights)))
        with open(os.path.join(model, "infer_cfg.yml"), encoding="utf-8") as file:
            self.config = yaml.safe_load(file)

    def prepared(self, pixels):
        import cv2
        import numpy
        scale = numpy.ones(2, numpy.float32)
        image = pixels
        for step in self.config["Preprocess"]:
            if step["type"] == "Resize":
                target = step["target_size"]
                if step.get("keep_ratio"):
                    ratio = min(min(target) / min(image.shape[:2]), max(target) / max(image.shape[:2]))
                    scale = numpy.array([ratio, ratio], numpy.float32)
                else:
                    scale = numpy.array([target[0] / image.shape[0], target[1] / image.shape[1]], numpy.float32)
                image = cv2.resize(image, None, fx=float(scale[1]), fy=float(scale[0]),
                                   interpolation=step.get("interp", 1))
            elif step["type"] == "NormalizeImage":
                image = image.astype(numpy.float32)
                if step.get("is_scale", True):
                    image = image / 255.0
                if step.get("norm_type", "mean_std") == "mean_std":
                    image = (image - numpy.float32(step["mean"])) / numpy.float32(step["std"])
            elif step["type"] != "Permute":
                stop(NOT_A_MODEL, f"a preprocessing step {step['type']} is not known here")
        image = numpy.ascontiguousarray(image.transpose(2, 0, 1)[None], numpy.float32)
        return {"image": image, "scale_factor": scale[None],
                "im_shape": numpy.array([image.shape[2:]], numpy.float32)}

    def __call__(self, pixels):
        feeds = self.prepared(pixels)
        for name in self.predictor.get_input_names():
            self.predictor.get_input_handle(name).copy_from_cpu(feeds[name])
        self.predictor.run()
        outputs = [self.predictor.get_output_handle(n).copy_to_cpu() for n in self.predictor.get_output_names()]
        masks = next((o for o in outputs if o.ndim == 3), None)
        for i, row in enumerate(outputs[0]):
            if row[0] >= 0 and row[1] > 0:
                yield detection(row[0], row[1], row[2:6], None if masks is None else masks[i] > 0)


FRAMEWORKS = {"tensorflow": TensorFlow, "detectron2": Detectron2, "maskrcnn-benchmark": MaskRcnnBenchmark,
              "paddle": Paddle}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=sorted(FRAMEWORKS), required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--config", default="")
    parser.add_argument("--photos", required=True)
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    with open(options.photos, encoding="utf-8") as file:
        photos = json.load(file)
    try:
        import PIL  # noqa: F401
    except ImportError:
        stop(NOT_INSTALLED, f"Pillow is not installed for {sys.executable}: pip install pillow")
    detect = FRAMEWORKS[options.framework](options.model, options.config)
    images = []
    for number, photo in enumerate(photos):
        print(f"progress {number} {len(photos)}", flush=True)
        pixels = read_photo(photo)
        images.append({"file": photo, "width": pixels.shape[1], "height": pixels.shape[0],
                       "detections": list(detect(pixels))})
    with open(options.output, "w", encoding="utf-8") as file:
        json.dump({"engine": f"{options.framework}: {options.model}", "images": images}, file)


if __name__ == "__main__":
    main()

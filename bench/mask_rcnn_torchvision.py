"""Mask R-CNN R50-FPN in torchvision with the weights of a Detectron2 checkpoint: the same network as Osprey runs, so that
both have the same proposals and detections to work on. And a checkpoint with random weights, where none is at hand.

What stays different is torchvision's own: it rounds anchors, samples RoIAlign twice a bin and lets it start at the
pixel's corner. That moves boxes by fractions of a pixel and costs it less than Detectron2's rules do.
"""
import pickle

import numpy as np
import torch
import torchvision
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

CLASSES = 80
PIXEL_MEAN_BGR = (103.53, 116.28, 123.675)  # Detectron2's; its standard deviation is 1


def build():
    resnet = torchvision.models.resnet50(norm_layer=torchvision.ops.FrozenBatchNorm2d)
    for layer in (resnet.layer2, resnet.layer3, resnet.layer4):  # STRIDE_IN_1X1
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    mean = [value / 255 for value in reversed(PIXEL_MEAN_BGR)]
    return MaskRCNN(_resnet_fpn_extractor(resnet, 5), CLASSES + 1, min_size=800, max_size=1333, image_mean=mean,
                    image_std=[1 / 255] * 3).eval()


def layer_names():
    """Pairs of Detectron2's name and torchvision's."""
    trunk = "backbone.bottom_up."
    yield f"{trunk}stem.conv1", "backbone.body.conv1"
    yield f"{trunk}stem.conv1.norm", "backbone.body.bn1"
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3)):
        for block in range(blocks):
            ours, theirs = f"{trunk}res{stage}.{block}", f"backbone.body.layer{stage - 1}.{block}"
            for n in (1, 2, 3):
                yield f"{ours}.conv{n}", f"{theirs}.conv{n}"
                yield f"{ours}.conv{n}.norm", f"{theirs}.bn{n}"
            if block == 0:
                yield f"{ours}.shortcut", f"{theirs}.downsample.0"
                yield f"{ours}.shortcut.norm", f"{theirs}.downsample.1"
    for level in range(4):
        yield f"backbone.fpn_lateral{level + 2}", f"backbone.fpn.inner_blocks.{level}.0"
        yield f"backbone.fpn_output{level + 2}", f"backbone.fpn.layer_blocks.{level}.0"
    yield "proposal_generator.rpn_head.conv", "rpn.head.conv.0.0"
    yield "proposal_generator.rpn_head.objectness_logits", "rpn.head.cls_logits"
    yield "proposal_generator.rpn_head.anchor_deltas", "rpn.head.bbox_pred"
    for n in (1, 2):
        yield f"roi_heads.box_head.fc{n}", f"roi_heads.box_head.fc{n + 5}"
    for name in ("cls_score", "bbox_pred"):
        yield f"roi_heads.box_predictor.{name}", f"roi_heads.box_predictor.{name}"
    for n in range(4):
        yield f"roi_heads.mask_head.mask_fcn{n + 1}", f"roi_heads.mask_head.{n}.0"
    yield "roi_heads.mask_head.deconv", "roi_heads.mask_predictor.conv5_mask"
    yield "roi_heads.mask_head.predictor", "roi_heads.mask_predictor.mask_fcn_logits"


def background_rows(name):
    """Rows of the class that torchvision counts first, and Detectron2 last (scores) or not at all."""
    return {"bbox_pred": 4, "predictor": 1}.get(name.rsplit(".", 1)[1], 0)


def to_torchvision(name, value):
    if name.endswith("stem.conv1"):
        return value[:, ::-1] if value.ndim == 4 else value  # BGR to RGB
    if name.endswith("cls_score"):
        return np.roll(value, 1, axis=0)
    return np.concatenate([np.zeros_like(value[:background_rows(name)]), value])


def to_detectron2(name, value):
    if name.endswith("stem.conv1"):
        return value[:, ::-1]
    if name.endswith("cls_score"):
        return np.roll(value, -1, axis=0)
    return value[background_rows(name):]


def load(model, checkpoint):
    with open(checkpoint, "rb") as file:
        weights = pickle.load(file)["model"]
    state = {}
    for ours, theirs in layer_names():
        for kind in ("weight", "bias", "running_mean", "running_var"):
            if f"{ours}.{kind}" in weights:
                value = to_torchvision(ours, weights[f"{ours}.{kind}"])
                state[f"{theirs}.{kind}"] = torch.from_numpy(np.ascontiguousarray(value))
    model.load_state_dict(state)
    return model


def fold(model):
    """Batch norm into the convolutions before it, and channels last: what a user can do for more speed."""
    for block in model.backbone.body.modules():
        pairs = [(f"conv{n}", f"bn{n}") for n in (1, 2, 3) if hasattr(block, f"bn{n}")]
        for conv_name, norm_name in pairs:
            setattr(block, conv_name, folded(getattr(block, conv_name), getattr(block, norm_name)))
            setattr(block, norm_name, torch.nn.Identity())
        if getattr(block, "downsample", None) is not None:
            block.downsample = torch.nn.Sequential(folded(*block.downsample))
    return model.to(memory_format=torch.channels_last)


def folded(conv, norm):
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    out = torch.nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    out.weight.data = conv.weight * scale.reshape(-1, 1, 1, 1)
    out.bias.data = norm.bias - norm.running_mean * scale
    return out


def detect(model, photo):
    """From the decoded photo (height, width, RGB) to boxes, scores, classes and pasted binary masks."""
    with torch.inference_mode():
        image = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
        out = model([image])[0]
        out["masks"] = out["masks"] >= 0.5
        return out


def generate(checkpoint, photo, candidates=150):
    """Random weights, every layer scaled on the photo so that activations keep their size, proposals and detections live."""
    torch.manual_seed(1)
    model = build()
    targets = {"cls_logits": 1.0, "rpn.head.bbox_pred": 0.2, "cls_score": 3.0, "box_predictor.bbox_pred": 0.5, "mask_fcn_logits": 2.0}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, torchvision.ops.FrozenBatchNorm2d):
            module.weight.fill_(0.25 if name.endswith("bn3") else 1.0)  # deep sums of random blocks would explode
            hooks.append(module.register_forward_pre_hook(fit_norm))
        elif isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)) and "body" not in name:
            target = next((t for key, t in targets.items() if key in name), 1.0)
            hooks.append(module.register_forward_hook(fit_layer(target, candidates if "cls_score" in name else None)))
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    detect(model, photo)
    for hook in hooks:
        hook.remove()
    state, weights = model.state_dict(), {}
    for ours, theirs in layer_names():
        for kind in ("weight", "bias", "running_mean", "running_var"):
            if f"{theirs}.{kind}" in state:
                weights[f"{ours}.{kind}"] = np.ascontiguousarray(to_detectron2(ours, state[f"{theirs}.{kind}"].numpy()))
    with open(checkpoint, "wb") as file:
        pickle.dump({"model": weights, "__author__": "osprey bench"}, file, protocol=3)


def fit_norm(module, inputs):
    x = inputs[0].double()
    module.running_mean.copy_(x.mean((0, 2, 3)))
    module.running_var.copy_(x.var((0, 2, 3)))


def fit_layer(target, candidates):
    """Scales a layer at its first call to the standard deviation `target` around 0."""
    done = []

    def hook(module, inputs, output):
        if done:
            return None
        done.append(True)
        axes = [axis for axis in range(output.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(output.ndim)]
        mean, factor = output.mean(axes), target / output.std().clamp(min=1e-6)
        module.weight.mul_(factor)
        module.bias.sub_(mean).mul_(factor)
        output = (output - mean.reshape(shape)) * factor
        if candidates:
            shift = background_shift(output, candidates)
            module.bias[0] += shift
            output[:, 0] += shift
        return output
    return hook


def background_shift(logits, candidates):
    """What raises the background's logit until so many scores are above 0.05."""
    low, high = 0.0, 50.0
    for _ in range(30):
        middle = (low + high) / 2
        raised = logits.clone()
        raised[:, 0] += middle
        if (raised.softmax(1)[:, 1:] > 0.05).sum() > candidates:
            low = middle
        else:
            high = middle
    return high

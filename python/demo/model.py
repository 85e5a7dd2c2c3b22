"""The network, under Detectron2's parameter names and from Detectron2's config keys (the ones that the demo varies).

He et al., "Mask R-CNN", 2017, on Lin et al., "Feature Pyramid Networks for Object Detection", 2017. A module here is
named so that state_dict() speaks the checkpoint's language; forward passes are plain functions of tensors.
"""

import pickle

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import nn
from torchvision.ops import roi_align

from demo import boxes as bx

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STRIDES = (4, 8, 16, 32, 64)  # of p2..p6


class Conv(nn.Conv2d):
    """A convolution without a bias, its batch norm inside it as `norm`."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.norm(super().forward(x))


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, outputs, stride, stride_in_1x1):
        super().__init__()
        self.shortcut = Conv(inputs, outputs, 1, stride) if inputs != outputs else None
        self.conv1 = Conv(inputs, width, 1, stride if stride_in_1x1 else 1)
        self.conv2 = Conv(width, width, 3, 1 if stride_in_1x1 else stride)
        self.conv3 = Conv(width, outputs, 1)

    def forward(self, x):
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.conv3(y) + (x if self.shortcut is None else self.shortcut(x)))


class Stem(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.conv1 = Conv(3, outputs, 7, 2)

    def forward(self, x):
        return F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)


class ResNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.stem = Stem(cfg["STEM_OUT_CHANNELS"])
        inputs, outputs, width = cfg["STEM_OUT_CHANNELS"], cfg["RES2_OUT_CHANNELS"], cfg["WIDTH_PER_GROUP"]
        self.channels = []
        for stage, count in enumerate(BLOCKS[cfg["DEPTH"]], start=2):
            blocks = []
            for index in range(count):
                stride = 2 if index == 0 and stage > 2 else 1
                blocks.append(Bottleneck(inputs, width, outputs, stride, cfg["STRIDE_IN_1X1"]))
                inputs = outputs
            self.add_module(f"res{stage}", nn.Sequential(*blocks))
            self.channels.append(outputs)
            outputs, width = 2 * outputs, 2 * width

    def forward(self, x):
        x, features = self.stem(x), []
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            features.append(x)
        return features


class Pyramid(nn.Module):
    """ResNet and FPN: an image -> p2..p6."""

    def __init__(self, cfg):
        super().__init__()
        self.bottom_up = ResNet(cfg["RESNETS"])
        width = cfg["FPN"]["OUT_CHANNELS"]
        for level, inputs in enumerate(self.bottom_up.channels, start=2):
            self.add_module(f"fpn_lateral{level}", nn.Conv2d(inputs, width, 1))
            self.add_module(f"fpn_output{level}", nn.Conv2d(width, width, 3, padding=1))
        for name, conv in self.named_children():
            if name != "bottom_up":
                nn.init.kaiming_uniform_(conv.weight, a=1)
                nn.init.zeros_(conv.bias)

    def forward(self, x):
        features = self.bottom_up(x)
        top, outputs = None, []
        for level in (5, 4, 3, 2):
            lateral = getattr(self, f"fpn_lateral{level}")(features[level - 2])
            top = lateral if top is None else lateral + F.interpolate(top, scale_factor=2.0, mode="nearest")
            outputs.insert(0, getattr(self, f"fpn_output{level}")(top))
        return [*outputs, outputs[-1][:, :, ::2, ::2]]


def _normal(layer, spread):
    nn.init.normal_(layer.weight, std=spread)
    nn.init.zeros_(layer.bias)
    return layer


class RpnHead(nn.Module):
    def __init__(self, width, anchors):
        super().__init__()
        self.conv = _normal(nn.Conv2d(width, width, 3, padding=1), 0.01)
        self.objectness_logits = _normal(nn.Conv2d(width, anchors, 1), 0.01)
        self.anchor_deltas = _normal(nn.Conv2d(width, anchors * 4, 1), 0.01)

    def forward(self, features):
        """(n, anchors) logits and (n, anchors, 4) deltas of each level, anchors in order of row, column, anchor."""
        logits, deltas = [], []
        for x in features:
            x = F.relu(self.conv(x))
            logits.append(self.objectness_logits(x).permute(0, 2, 3, 1).flatten(1).float())
            deltas.append(self.anchor_deltas(x).permute(0, 2, 3, 1).reshape(len(x), -1, 4).float())
        return logits, deltas


class BoxHead(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, width), nn.Linear(width, width)
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))


class BoxPredictor(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.cls_score = _normal(nn.Linear(width, classes + 1), 0.01)  # the background is last
        self.bbox_pred = _normal(nn.Linear(width, classes * 4), 0.001)

    def forward(self, x):
        return self.cls_score(x).float(), self.bbox_pred(x).float()


class MaskHead(nn.Module):
    def __init__(self, inputs, width, convs, classes):
        super().__init__()
        self.convs = convs
        for index in range(1, convs + 1):
            self.add_module(f"mask_fcn{index}", nn.Conv2d(inputs, width, 3, padding=1))
            inputs = width
        self.deconv = nn.ConvTranspose2d(width, width, 2, 2)
        for layer in self.children():
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.predictor = _normal(nn.Conv2d(width, classes, 1), 0.001)

    def forward(self, x):
        for index in range(1, self.convs + 1):
            x = F.relu(getattr(self, f"mask_fcn{index}")(x))
        return self.predictor(F.relu(self.deconv(x))).float()


class MaskRCNN(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        model, self.cfg = cfg["MODEL"], cfg
        width, classes = model["FPN"]["OUT_CHANNELS"], model["ROI_HEADS"]["NUM_CLASSES"]
        self.classes = classes
        self.backbone = Pyramid(model)
        ratios = model["ANCHOR_GENERATOR"]["ASPECT_RATIOS"][0]
        self.cells = [bx.cell_anchors(size[0], ratios) for size in model["ANCHOR_GENERATOR"]["SIZES"]]
        self.proposal_generator = nn.Module()
        self.proposal_generator.rpn_head = RpnHead(width, len(ratios))
        self.box_side, self.mask_side = (model[h]["POOLER_RESOLUTION"] for h in ("ROI_BOX_HEAD", "ROI_MASK_HEAD"))
        self.roi_heads = nn.Module()
        self.roi_heads.box_head = BoxHead(width * self.box_side**2, model["ROI_BOX_HEAD"]["FC_DIM"])
        self.roi_heads.box_predictor = BoxPredictor(model["ROI_BOX_HEAD"]["FC_DIM"], classes)
        mask = model["ROI_MASK_HEAD"]
        self.roi_heads.mask_head = MaskHead(width, mask["CONV_DIM"], mask["NUM_CONV"], classes)
        self.register_buffer("mean", torch.tensor(model["PIXEL_MEAN"]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(model["PIXEL_STD"]).view(3, 1, 1), persistent=False)

    def anchors(self, features):
        return [
            bx.grid_anchors(cells, *x.shape[-2:], stride, x.device)
            for cells, stride, x in zip(self.cells, STRIDES, features)
        ]

    def pool(self, features, rois, side):
        """ROIAlign of (k, 5) regions, image index first, each from the level of its size."""
        levels = bx.pyramid_level(rois[:, 1:])
        out = features[0].new_zeros((len(rois), features[0].shape[1], side, side), dtype=torch.float32)
        for level, (x, stride) in enumerate(zip(features[:4], STRIDES), start=2):
            rows = torch.nonzero(levels == level).squeeze(1)
            out = out.index_put((rows,), roi_align(x.float(), rois[rows], side, 1 / stride, 0, aligned=True))
        return out

    def boxes_of(self, features, rois):
        heads = self.roi_heads
        return heads.box_predictor(heads.box_head(self.pool(features, rois, self.box_side)))

    def masks_of(self, features, rois):
        return self.roi_heads.mask_head(self.pool(features, rois, self.mask_side))


def read_config(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def save(model, path):
    """Detectron2's model-zoo form: a pickle of float32 arrays by name."""
    weights = {
        name: value.detach().cpu().float().contiguous().numpy()
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    with open(path, "wb") as file:
        pickle.dump({"model": weights, "__author__": "Osprey"}, file, protocol=4)


def load(model, path):
    """Reads what save() wrote. A pickle runs what it says: only for files of one's own."""
    with open(path, "rb") as file:
        weights = pickle.load(file)["model"]
    state = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    counters = {name: value for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(state | counters)
    return model

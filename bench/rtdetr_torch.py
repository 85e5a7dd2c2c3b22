"""RT-DETR-R50vd's network in plain PyTorch, with random weights: what bench/gpu_peers.py times beside Osprey's.

From a normalised image to the boxes and scores of its queries, as deployed: norms folded into the convolutions, re-parameterised
blocks merged. Deformable attention samples with grid_sample, as the published PyTorch code does.
"""
import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, POINTS, QUERIES, CLASSES, LEVELS = 256, 8, 4, 300, 80, 3


def conv(inputs, outputs, kernel=1, stride=1, act=None):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)]
    return nn.Sequential(*layers, *([act()] if act else []))


def mlp(*widths):
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.main = nn.Sequential(conv(inputs, width, act=nn.ReLU), conv(width, width, 3, stride, nn.ReLU), conv(width, 4 * width))
        self.short = None
        if inputs != 4 * width:
            self.short = nn.Sequential(*([nn.AvgPool2d(2, 2, ceil_mode=True)] if stride == 2 else []), conv(inputs, 4 * width))

    def forward(self, x):
        return F.relu(self.main(x) + (self.short(x) if self.short else x))


def stage(inputs, width, blocks, stride):
    return nn.Sequential(Bottleneck(inputs, width, stride), *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))


class CspBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = conv(2 * WIDTH, WIDTH, act=nn.SiLU), conv(2 * WIDTH, WIDTH, act=nn.SiLU)
        self.blocks = nn.Sequential(*(conv(WIDTH, WIDTH, 3, act=nn.SiLU) for _ in range(3)))

    def forward(self, a, b):
        x = torch.cat([a, b], 1)
        return self.blocks(self.first(x)) + self.second(x)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query_key, self.value, self.out = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, position):
        q, k = self.query_key(x + position).chunk(2, -1)
        heads = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k, self.value(x)))
        return self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class DeformableAttention(nn.Module):
    def __init__(self):
        super().__init__()
        samples = HEADS * LEVELS * POINTS
        self.offsets, self.weights = nn.Linear(WIDTH, 2 * samples), nn.Linear(WIDTH, samples)
        self.value, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, query, boxes, memory, sizes):
        n, count = query.shape[:2]
        value = self.value(memory).unflatten(-1, (HEADS, -1)).permute(0, 2, 3, 1).flatten(0, 1)
        offsets = self.offsets(query).view(n, count, HEADS, LEVELS, POINTS, 2)
        weights = self.weights(query).view(n, count, HEADS, LEVELS * POINTS).softmax(-1)
        at = boxes[:, :, None, None, None, :2] + offsets / POINTS * boxes[:, :, None, None, None, 2:] * 0.5
        grid = (2 * at - 1).permute(0, 2, 1, 3, 4, 5).flatten(0, 1)
        maps = value.split([h * w for h, w in sizes], -1)
        sampled = [F.grid_sample(maps[i].unflatten(-1, sizes[i]), grid[:, :, i], align_corners=False) for i in range(LEVELS)]
        mixed = torch.cat(sampled, -1) * weights.transpose(1, 2).flatten(0, 1)[:, None]
        return self.out(mixed.sum(-1).view(n, WIDTH, count).transpose(1, 2))


class DecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attention, self.cross_attention = SelfAttention(), DeformableAttention()
        self.feedforward = mlp(WIDTH, 4 * WIDTH, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, x, position, boxes, memory, sizes):
        x = self.norms[0](x + self.self_attention(x, position))
        x = self.norms[1](x + self.cross_attention(x + position, boxes, memory, sizes))
        return self.norms[2](x + self.feedforward(x))


class EncoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norms = SelfAttention(), nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.feedforward = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x, position):
        x = self.norms[0](x + self.attention(x, position))
        return self.norms[1](x + self.feedforward(x))


class RtDetrR50(nn.Module):
    def __init__(self, size=640):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 32, 3, 2, nn.ReLU), conv(32, 32, 3, act=nn.ReLU), conv(32, 64, 3, act=nn.ReLU), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList([stage(64, 64, 3, 1), stage(256, 128, 4, 2), stage(512, 256, 6, 2), stage(1024, 512, 3, 2)])
        self.projections = nn.ModuleList(conv(channels, WIDTH) for channels in (512, 1024, 2048))
        self.encoder = EncoderLayer()
        self.lateral, self.down = (nn.ModuleList(conv(WIDTH, WIDTH, k, s, nn.SiLU) for _ in range(2)) for k, s in ((1, 1), (3, 2)))
        self.fpn, self.pan = (nn.ModuleList(CspBlock() for _ in range(2)) for _ in range(2))
        self.inputs = nn.ModuleList(conv(WIDTH, WIDTH) for _ in range(LEVELS))
        self.selection = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH))
        self.first_score, self.first_box = nn.Linear(WIDTH, CLASSES), mlp(WIDTH, WIDTH, WIDTH, 4)
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(6))
        self.boxes = nn.ModuleList(mlp(WIDTH, WIDTH, WIDTH, 4) for _ in range(6))
        self.score, self.position = nn.Linear(WIDTH, CLASSES), mlp(4, 2 * WIDTH, WIDTH)
        self.register_buffer("tokens", torch.randn((size // 32) ** 2, WIDTH))  # in place of sines and cosines
        self.register_buffer("anchors", torch.randn(21 * (size // 32) ** 2, 4))

    def forward(self, image):
        x, maps = self.stem(image), []
        for part in self.stages:
            x = part(x)
            maps.append(x)
        c3, c4, c5 = (project(m) for project, m in zip(self.projections, maps[1:]))
        tokens = self.encoder(c5.flatten(2).transpose(1, 2), self.tokens)
        c5 = self.lateral[0](tokens.transpose(1, 2).unflatten(-1, c5.shape[2:]))
        c4 = self.lateral[1](self.fpn[0](F.interpolate(c5, scale_factor=2), c4))
        p3 = self.fpn[1](F.interpolate(c4, scale_factor=2), c3)
        p4 = self.pan[0](self.down[0](p3), c4)
        levels = [project(p) for project, p in zip(self.inputs, (p3, p4, self.pan[1](self.down[1](p4), c5)))]
        return self.decode(torch.cat([m.flatten(2).transpose(1, 2) for m in levels], 1), [tuple(m.shape[2:]) for m in levels])

    def decode(self, memory, sizes):
        all_tokens = self.selection(memory)
        best = self.first_score(all_tokens).amax(-1).topk(QUERIES, 1).indices
        x = all_tokens.gather(1, best[..., None].expand(-1, -1, WIDTH))
        boxes = (self.first_box(x) + self.anchors[best]).sigmoid()
        for layer, head in zip(self.layers, self.boxes):
            x = layer(x, self.position(boxes), boxes, memory, sizes)
            boxes = (head(x) + boxes.logit(1e-5)).sigmoid()
        scores, at = self.score(x).sigmoid().flatten(1).topk(QUERIES, 1)
        return boxes.gather(1, (at // CLASSES)[..., None].expand(-1, -1, 4)), scores, at % CLASSES

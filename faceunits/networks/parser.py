"""Feature extractor E: a face-parsing residual network, its attention-masked features, its readings.

GE-Net section 3.3: ResNet-50 with stage strides 2, 1, 1, 1; the classifier is a 1x1 convolution to
the parsing classes, up-sampled to full size. State-dict names of the trunk are those of the ImageNet
network, so its weights load unchanged. `LIGHT` has the same form with narrow stages and no max-pool,
for the CPU: a 128 px crop has features of 32 x 32.

Beyond the paper the trunk also carries two small heads, trained on renders: where the 68 landmarks
are, and a first reading of the parameters. Fitting can use them; `--recipe paper` does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ParserConfig:
    """Sizes of E."""

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Bottlenecks per stage."""
    planes: tuple[int, ...] = (64, 128, 256, 512)
    """Inner width of each stage's bottlenecks; its output has `expansion` times as many channels."""
    expansion: int = 4
    """Output over inner width."""
    strides: tuple[int, ...] = (2, 1, 1, 1)
    """Stride of each stage (GE-Net, section 3.3)."""
    stem: int = 64
    """Channels of the first convolution."""
    pool: bool = True
    """Max-pool after the first convolution, as ImageNet networks have."""
    classes: int = 11
    """Helen's parsing classes."""
    size: int = 256
    """Side of the crop in pixels."""
    landmarks: int = 0
    """Landmarks of the extra head; 0 leaves the head out."""
    readings: int = 0
    """Numbers the reading head returns; 0 leaves the head out."""
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    """Of the 3x3 convolutions of each stage; the paper has none."""
    place: bool = False
    """Add a learned map of places to the first stage: crops are aligned, and convolutions are blind
    to where they are. The paper has none."""


RESNET50 = ParserConfig()
LIGHT = ParserConfig(
    blocks=(2, 2, 2, 2), planes=(16, 24, 40, 56), stem=24, pool=False, size=128,
    dilations=(1, 1, 2, 4), place=True,
)  # fmt: skip


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1, and a shortcut."""

    def __init__(self, inputs: int, planes: int, outputs: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        if self.conv2.dilation[0] > 1:
            # in bfloat16 the CPU's gradient of dilated weights is not a number (torch 2.13)
            with torch.autocast(out.device.type, enabled=False):
                out = self.conv2(out.float())
        else:
            out = self.conv2(out)
        out = F.relu(self.bn2(out))
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


@dataclass(frozen=True)
class Features:
    """What E says of a crop: `maps` C1..C4, each `(B, C_i, h, w)`; `logits` `(B, 11, h, w)`;
    `heat` `(B, K, h, w)` landmark scores, `points` `(B, K, 2)` their mean place in crop pixels and
    `readings` `(B, R)`, or None where E has no such head."""

    maps: tuple[Tensor, ...]
    logits: Tensor
    heat: Tensor | None
    points: Tensor | None
    readings: Tensor | None


class Parser(nn.Module):
    """Face crop to parsing scores, feature maps, landmarks and readings."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ParserConfig = RESNET50) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, config.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem)
        channels = config.stem
        plan = zip(config.blocks, config.planes, config.strides, config.dilations, strict=True)
        for stage, (count, planes, stride, dilation) in enumerate(plan, start=1):
            layers = []
            for block in range(count):
                outputs = planes * config.expansion
                layers.append(Bottleneck(channels, planes, outputs, stride if block == 0 else 1, dilation))
                channels = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.place: nn.Parameter | None = None
        if config.place:
            side = config.size // (self.stride // math.prod(config.strides[1:]))
            self.place = nn.Parameter(torch.zeros(1, config.planes[0] * config.expansion, side, side))
        self.classifier = nn.Conv2d(channels, config.classes, 1)
        self.pointer = nn.Conv2d(channels, config.landmarks, 1) if config.landmarks else None
        self.reader = Reader(channels, config) if config.readings else None

    @property
    def stride(self) -> int:
        """Pixels of the crop per cell of the maps."""
        out = 2 * (2 if self.config.pool else 1)
        for s in self.config.strides:
            out *= s
        return out

    def forward(self, image: Tensor) -> Features:
        """`image` `(B, 3, S, S)` RGB in [0, 1]."""
        x = F.relu(self.bn1(self.conv1((image - self.mean) / self.std)))
        if self.config.pool:
            x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in range(1, len(self.config.blocks) + 1):
            x = getattr(self, f"layer{stage}")(x)
            if stage == 1 and self.place is not None:
                x = x + self.place
            maps.append(x)
        heat = None if self.pointer is None else self.pointer(x)
        points = None if heat is None else _expectation(heat, self.stride)
        readings = None if self.reader is None or points is None else self.reader(x, points)
        return Features(tuple(maps), self.classifier(x), heat, points, readings)

    def scores(self, logits: Tensor, *, every: int = 1) -> Tensor:
        """`(B, 11, S, S)` class scores at full size (bilinear, GE-Net section 3.3), or at every
        second, ... pixel."""
        factor = self.stride / every
        return F.interpolate(logits.float(), scale_factor=factor, mode="bilinear", align_corners=False)


class Reader(nn.Module):
    """A first reading of the parameters, from where the landmarks are and how the face looks there.

    Muscles move landmarks almost linearly, but by less than people differ: a linear path on
    standardised landmarks carries that (`training.parser.prime` solves for it), and a small network
    adds what the maps show, at the landmarks and over the crop. In full precision throughout: a
    tenth of a pixel counts.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, config: ParserConfig) -> None:
        super().__init__()
        self.size = config.size
        points = 2 * config.landmarks
        self.register_buffer("mean", torch.full((points,), config.size / 2))
        self.register_buffer("std", torch.full((points,), config.size / 10))
        self.squeeze = nn.Sequential(
            nn.Conv2d(channels, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Conv2d(64, 96, 3, 2, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU(),
            nn.AdaptiveAvgPool2d(8),
        )  # fmt: skip
        self.local = nn.Sequential(nn.Conv2d(channels, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.linear = nn.Linear(points, config.readings)
        self.dense = nn.Sequential(
            nn.Linear(96 * 64 + 24 * config.landmarks + points, 320), nn.ReLU(),
            nn.Linear(320, 256), nn.ReLU(), nn.Linear(256, config.readings),
        )  # fmt: skip

    def forward(self, x: Tensor, points: Tensor) -> Tensor:
        """`x` `(B, C, h, w)`, `points` `(B, K, 2)` crop pixels."""
        whole, local = self.squeeze(x).flatten(1), self.local(x)
        with torch.autocast(x.device.type, enabled=False):
            # pixel p of the crop is at (2p + 1) / size - 1 of the map
            where = (2 * points.detach() + 1) / self.size - 1
            here = F.grid_sample(local.float(), where[:, :, None], padding_mode="border", align_corners=False)
            shape = (points.float().flatten(1) - self.mean) / self.std
            out: Tensor = self.linear(shape) + self.dense(
                torch.cat([whole.float(), here.flatten(1), shape.clamp(-5, 5)], 1)
            )
        return out


def _expectation(heat: Tensor, stride: int) -> Tensor:
    """`(B, K, 2)` mean position in crop pixels under the softmax of each heat map."""
    b, k, h, w = heat.shape
    weight = heat.float().flatten(2).softmax(-1).view(b, k, h, w)
    y = torch.arange(h, device=heat.device, dtype=torch.float32) * stride + (stride - 1) / 2
    x = torch.arange(w, device=heat.device, dtype=torch.float32) * stride + (stride - 1) / 2
    return torch.stack([(weight.sum(2) * x).sum(-1), (weight.sum(3) * y).sum(-1)], -1)

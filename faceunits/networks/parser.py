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
    close_ups: bool = False
    """Let the reading head also see eyes with brows, and the mouth, at the crop's full resolution."""
    doubts: int = 0
    """Readings, the first ones, whose likely error is told too; 0 leaves that out."""
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
    `readings` `(B, R)`, `log_variance` `(B, N)` of the errors of the first N readings; or None where E
    has no such head. `rough` `(B, K, 2)` the points before the close-ups, and `close_ups` their scores."""

    maps: tuple[Tensor, ...]
    logits: Tensor
    heat: Tensor | None
    points: Tensor | None
    readings: Tensor | None
    log_variance: Tensor | None = None
    rough: Tensor | None = None
    close_ups: tuple[Tensor, ...] = ()


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

    def forward(self, image: Tensor, *, heads: bool = True, through: bool = False) -> Features:
        """`image` `(B, 3, S, S)` RGB in [0, 1]; without `heads` only maps and logits are made. The gradient
        of the readings passes `through` the landmarks, or stops there, as E learns."""
        x = F.relu(self.bn1(self.conv1((image - self.mean) / self.std)))
        if self.config.pool:
            x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in range(1, len(self.config.blocks) + 1):
            x = getattr(self, f"layer{stage}")(x)
            if stage == 1 and self.place is not None:
                x = x + self.place
            maps.append(x)
        heat = points = None
        if self.pointer is not None and heads:
            heat = self.pointer(x)
            points = _expectation(heat, self.stride)
        if self.reader is None or heat is None:
            return Features(tuple(maps), self.classifier(x), heat, points, None)
        read: Read = self.reader(x, heat, points, image, through=through)
        return Features(
            tuple(maps), self.classifier(x), heat, read.points, read.readings, read.log_variance, points,
            read.close_ups,
        )  # fmt: skip

    def scores(self, logits: Tensor, *, every: int = 1) -> Tensor:
        """`(B, 11, S, S)` class scores at full size (bilinear, GE-Net section 3.3), or at every
        second, ... pixel."""
        factor = self.stride / every
        return F.interpolate(logits.float(), scale_factor=factor, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Read:
    """What the reading head says: `readings` `(B, R)`, `log_variance` of their errors or None, `points`
    `(B, K, 2)` as it found them, and the scores of the close-ups."""

    readings: Tensor
    log_variance: Tensor | None
    points: Tensor
    close_ups: tuple[Tensor, ...]


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
        self.close_up = CloseUp(config.size) if config.close_ups else None
        extra = 0 if self.close_up is None else self.close_up.features
        self.dense = nn.Sequential(
            nn.Linear(96 * 64 + 24 * config.landmarks + points + extra, 320), nn.ReLU(),
            nn.Linear(320, 256), nn.ReLU(), nn.Linear(256, config.readings),
        )  # fmt: skip
        self.doubt = nn.Linear(256, config.doubts) if config.doubts else None

    def forward(
        self, x: Tensor, heat: Tensor, points: Tensor, image: Tensor, *, through: bool = False
    ) -> Read:
        """`x` `(B, C, h, w)`, the landmarks' scores `(B, K, h, w)`, `points` `(B, K, 2)` crop pixels,
        `image` `(B, 3, S, S)`; `through` as of `Parser.forward`."""
        whole, local = self.squeeze(x).flatten(1), self.local(x)
        points = points if through else points.detach()
        heats: tuple[Tensor, ...] = ()
        seen = points.new_zeros(points.shape[0], 0)
        if self.close_up is not None:
            points, seen, heats = self.close_up(image, points, heat, local)
        at = points if through else points.detach()
        with torch.autocast(x.device.type, enabled=False):
            shape = (at.float().flatten(1) - self.mean) / self.std
            parts = [whole, at_points(local.float(), at, self.size).flatten(1), shape.clamp(-5, 5), seen]
            hidden = self.dense[:-1](torch.cat([p.float() for p in parts], 1))
            readings: Tensor = self.linear(shape) + self.dense[-1](hidden)
            doubt = None if self.doubt is None else self.doubt(hidden).clamp(-12, 2)
        return Read(readings, doubt, points, heats)


def at_points(maps: Tensor, points: Tensor, size: int) -> Tensor:
    """`(B, C, K)` maps `(B, C, h, w)` of a crop of `size` pixels, read at points `(B, K, 2)`, crop pixels."""
    where = (2 * points + 1) / size - 1  # pixel p of the crop is at (2p + 1) / size - 1 of the map
    return F.grid_sample(maps, where[:, :, None], padding_mode="border", align_corners=False)[..., 0]


EYE_RIGHT = (17, 18, 19, 20, 21, 36, 37, 38, 39, 40, 41)
"""iBUG points of a close-up of an eye with its brow, from the outside inwards; the left one mirrored:"""
EYE_LEFT = (26, 25, 24, 23, 22, 45, 44, 43, 42, 47, 46)
MOUTH = tuple(range(48, 68))


class CloseUp(nn.Module):
    """Eyes with brows, and the mouth, cut out of the crop without loss of resolution.

    A tenth of a pixel counts: action units read linearly from the true landmarks of rendered faces
    correlate at .76 with the truth when these err by 0.1 px of 128, and at .53 when by 0.8
    (docs/log.md). Each close-up refines the scores of its points, on a grid of two pixels instead of
    four. The eye on the subject's left is mirrored: both sides share one network.
    """

    features = 2 * 160 + 224
    eye_grid: Tensor
    mouth_grid: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.unit = size, size / 128
        self.register_buffer("eye_grid", _grid(40, 44, (0.0, -5.0)), persistent=False)
        self.register_buffer("mouth_grid", _grid(44, 56, (0.0, 3.0)), persistent=False)
        self.eye = Patch(len(EYE_RIGHT), 10 * 11, 160)
        self.mouth = Patch(len(MOUTH), 11 * 14, 224)

    def forward(
        self, image: Tensor, points: Tensor, heat: Tensor, local: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """From `image` `(B, 3, S, S)`, rough `points` `(B, 68, 2)`, the `heat` `(B, 68, h, w)` they are the
        means of, and what E says there, `local` `(B, 24, h, w)`: the points with those of eyes,
        brows and mouth found again, `(B, features)`, and the scores the points are the means of: right
        eye, left eye (mirrored), mouth, each `(B, K, h, w)`."""
        right = self._place(points[:, 36], points[:, 39], self.eye_grid)
        left = self._place(points[:, 42], points[:, 45], self.eye_grid) * points.new_tensor([-1.0, 1.0])
        left = left + 2 * points[:, None, None, (42, 45)].mean(3) * points.new_tensor([1.0, 0.0])
        mouth = self._place(points[:, 48], points[:, 54], self.mouth_grid)
        around = torch.cat([heat.detach(), local], 1)
        eye_heat, eye_seen = self.eye(
            torch.cat([self._cut(image, right), self._cut(image, left)]),
            torch.cat([self._context(around, right, EYE_RIGHT), self._context(around, left, EYE_LEFT)]),
        )
        mouth_heat, mouth_seen = self.mouth(self._cut(image, mouth), self._context(around, mouth, MOUTH))
        heats = (*_halves(eye_heat), mouth_heat)
        exact = points.clone()
        indices, places = (EYE_RIGHT, EYE_LEFT, MOUTH), (right, left, mouth)
        for index, score, place in zip(indices, heats, places, strict=True):
            exact[:, index] = _mean_place(score, _cells(place))
        return exact, torch.cat([*_halves(eye_seen), mouth_seen], 1), heats

    def cells(self, points: Tensor, rough: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each close-up that is cut at `rough` `(B, 68, 2)`: the indices of its points, and where
        `points` `(B, 68, 2)` lie on its scores, `(B, K, 2)` cells x, y."""
        out = []
        for index, a, b, grid in (
            (EYE_RIGHT, 36, 39, self.eye_grid),
            (EYE_LEFT, 42, 45, self.eye_grid),
            (MOUTH, 48, 54, self.mouth_grid),
        ):
            away = points[:, index] - ((rough[:, a] + rough[:, b]) / 2)[:, None]
            if index is EYE_LEFT:
                away = away * away.new_tensor([-1.0, 1.0])
            out.append((torch.tensor(index), (away / self.unit - grid[0, 0] - 0.5) / 2))
        return out

    def _place(self, a: Tensor, b: Tensor, grid: Tensor) -> Tensor:
        """`(B, h, w, 2)` where the samples of a close-up lie: around the middle of two points."""
        return ((a + b) / 2)[:, None, None] + self.unit * grid

    def _context(self, around: Tensor, place: Tensor, index: tuple[int, ...]) -> Tensor:
        """`(B, K + 24, h / 2, w / 2)` what E says of these points and their surroundings, at its cells."""
        where = (2 * _cells(place) + 1) / self.size - 1
        with torch.autocast(around.device.type, enabled=False):
            maps = around[:, [*index, *range(68, around.shape[1])]].float()
            return F.grid_sample(maps, where, padding_mode="border", align_corners=False)

    def _cut(self, image: Tensor, place: Tensor) -> Tensor:
        where = (2 * place + 1) / self.size - 1
        with torch.autocast(image.device.type, enabled=False):
            return 2 * F.grid_sample(image, where, padding_mode="border", align_corners=False) - 1


class Patch(nn.Module):
    """A close-up to better scores of its points, on a grid of two pixels, and what else it shows."""

    def __init__(self, points: int, places: int, outputs: int) -> None:
        super().__init__()
        self.points = points
        self.fine = _layer(3, 32, 5, 2)
        self.coarse = nn.Sequential(_layer(32, 64, 3, 2), _layer(64, 64, 3, 1))
        self.back = _layer(64, 32, 1, 1)
        self.merge = _layer(64 + 24, 48, 3, 1)
        self.refine = nn.Conv2d(48, points, 1)
        nn.init.zeros_(self.refine.weight)  # begins with the scores as they come
        assert self.refine.bias is not None
        nn.init.zeros_(self.refine.bias)
        self.squeeze = _layer(64, 16, 1, 1)
        self.dense = nn.Linear(16 * places, outputs)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """`x` `(B, 3, h, w)` and `context` `(B, points + 24, h / 2, w / 2)` to scores
        `(B, points, h / 2, w / 2)` and `(B, outputs)`."""
        scores, local = context[:, : self.points], context[:, self.points :]
        fine = self.fine(x)
        coarse = self.coarse(fine)
        up = F.interpolate(self.back(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=False)
        change = self.refine(self.merge(torch.cat([fine, up, local.to(fine.dtype)], 1)))
        return scores + change.float(), F.relu(self.dense(self.squeeze(coarse).flatten(1)))


def _halves(x: Tensor) -> tuple[Tensor, ...]:
    """Both halves of a batch; `chunk` would fix its length in an exported network."""
    halves: tuple[Tensor, ...] = x.unflatten(0, (2, -1)).unbind(0)  # type: ignore[no-untyped-call]
    return halves


def _cells(place: Tensor) -> Tensor:
    """`(B, h / 2, w / 2, 2)` middles of blocks of two by two places `(B, h, w, 2)`."""
    return (place[:, ::2, ::2] + place[:, 1::2, 1::2]) / 2


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _grid(rows: int, columns: int, shift: tuple[float, float]) -> Tensor:
    """`(rows, columns, 2)` pixels x, y around `shift`."""
    across = torch.arange(columns) - (columns - 1) / 2 + shift[0]
    down = torch.arange(rows) - (rows - 1) / 2 + shift[1]
    return torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)


def _mean_place(heat: Tensor, place: Tensor) -> Tensor:
    """`(B, K, 2)` mean of `place` `(B, h, w, 2)` under the softmax of each map of `heat` `(B, K, h, w)`."""
    with torch.autocast(heat.device.type, enabled=False):  # a matrix product would lose the hundredths
        weight = heat.float().flatten(2).softmax(-1)  # (B, K, h w)
        return weight @ place.flatten(1, 2)


def turned_back(
    points: Tensor, readings: Tensor, au_mirror: Tensor, point_mirror: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """What E says of the mirror image of a crop, as it holds for the crop: landmarks `(B, K, 2)` and readings
    `(B, R)` with their sides swapped. Identity is left as it is: its modes are not all symmetric."""
    n, other = len(au_mirror), points[:, point_mirror]
    straight = torch.stack([size - 1 - other[..., 0], other[..., 1]], -1)
    units = readings[:, :n][:, au_mirror]
    yaw = -readings[:, n + 2 : n + 3]
    return straight, torch.cat([units, readings[:, n : n + 2], yaw, readings[:, n + 3 :]], 1)


def _expectation(heat: Tensor, stride: int) -> Tensor:
    """`(B, K, 2)` mean position in crop pixels under the softmax of each heat map."""
    b, k, h, w = heat.shape
    weight = heat.float().flatten(2).softmax(-1).view(b, k, h, w)
    y = torch.arange(h, device=heat.device, dtype=torch.float32) * stride + (stride - 1) / 2
    x = torch.arange(w, device=heat.device, dtype=torch.float32) * stride + (stride - 1) / 2
    return torch.stack([(weight.sum(2) * x).sum(-1), (weight.sum(3) * y).sum(-1)], -1)

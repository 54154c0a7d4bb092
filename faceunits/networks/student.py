"""The student R: aligned crop to action units, pose, identity and landmarks in one cheap pass.

Where E parses, R only reads. A face is two halves that are nearly mirror images of each other, so R looks
at the subject's right half and at the mirrored left half with the same weights, and then, place by place,
at what both showed; each half says what the whole face does, as seen from its side, and the mean of both is
the answer. A mirrored crop gives mirrored readings exactly, every picture teaches both sides, and a face
costs little more than one view of it.

The architecture's R (GE-Net's authors, ACM MM 2020, learn such a regressor from fits); the halves are ours.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.errors import WeightsError
from faceunits.networks.lean import fold
from faceunits.networks.parser import turned_back
from faceunits.types import LANDMARK_MIRROR


@dataclass(frozen=True)
class StudentConfig:
    """Sizes of R."""

    size: int = 128
    """Side of the crop in pixels."""
    left: int = 16
    """First column of the crop that is looked at; as many are left out on the other side."""
    top: int = 16
    """First row that is looked at: brows begin at a seventh of the crop."""
    half: int = 64
    """Columns that a half sees: those around the middle are seen by both, for turned heads."""
    stem: int = 24
    """Channels of the first convolution."""
    kernel: int = 5
    """Side of the first convolution."""
    stride: int = 2
    """Pixels between the places that it looks at: all that follows costs the same in crops of 128 px at 2 and
    of 192 px at 3."""
    channels: tuple[int, ...] = (48, 96, 192)
    """Of the stages at a quarter, an eighth and a sixteenth of the crop's resolution."""
    blocks: tuple[int, ...] = (1, 2, 2)
    """Residual blocks of each stage, after the convolution that halves the resolution."""
    squeeze: int = 64
    """Channels of the last maps, which are read place by place."""
    hidden: int = 512
    """Width of the layer before the answers."""
    au_mirror: tuple[int, ...] = ()
    """For each action-unit parameter the one of the other side."""
    n_identity: int = 60
    """Identity parameters."""
    landmarks: int = 68
    """Points."""

    @property
    def known(self) -> int:
        """Numbers whose other side is known: action units, lip gap, pitch, yaw."""
        return len(self.au_mirror) + 3


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` to the same shape."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(out)))


def _reduce(inputs: int, outputs: int, kernel: int, stride: int = 2) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Student(nn.Module):
    """Crop to landmarks, readings and the log variance of their errors; see the module."""

    mean: Tensor
    std: Tensor
    doubt_range: Tensor
    au_mirror: Tensor
    point_mirror: Tensor

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.channels
        self.eye = nn.Sequential(
            _reduce(3, config.stem, config.kernel, config.stride),
            _reduce(config.stem, a, 3), *(Block(a) for _ in range(config.blocks[0])),
            _reduce(a, b, 3), *(Block(b) for _ in range(config.blocks[1])),
        )  # fmt: skip
        self.both = nn.Sequential(_reduce(2 * b, c, 3), *(Block(c) for _ in range(config.blocks[2])))
        self.squeeze = nn.Sequential(
            nn.Conv2d(c, config.squeeze, 1, bias=False), nn.BatchNorm2d(config.squeeze), nn.ReLU()
        )
        step = 8 * config.stride
        rows, columns = -(-(config.size - config.top) // step), -(-config.half // step)
        self.hidden = nn.Sequential(nn.Linear(config.squeeze * rows * columns, config.hidden), nn.ReLU())
        outputs = config.known + config.n_identity + 2 * config.landmarks
        self.answer = nn.Linear(config.hidden, outputs)
        self.doubt = nn.Linear(config.hidden, config.known)
        # what it was between on rendered faces: beyond that its word means nothing
        self.register_buffer("doubt_range", torch.tensor([-12.0, 2.0])[:, None].repeat(1, config.known))
        # of the answers, over training faces: the layer before them works in standard units
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("std", torch.ones(outputs))
        self.register_buffer("au_mirror", torch.tensor(config.au_mirror, dtype=torch.long), persistent=False)
        self.register_buffer("point_mirror", torch.from_numpy(LANDMARK_MIRROR), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, 68, 2)` crop pixels, `(B, R)` action units, lip gap, pitch, yaw, identity, and `(B, N)` of the
        first N of these, from `image` `(B, 3, S, S)` RGB in [0, 1]."""
        return self.answers(self.heard(image))

    def heard(self, image: Tensor) -> Tensor:
        """`(2B, H)` what the answers are made from: all faces from the right half, then from the left."""
        count, config = image.shape[0], self.config
        shown = image[..., config.top :, config.left : config.size - config.left] * 4 - 2
        right, left = shown[..., : config.half], shown[..., -config.half :].flip(-1)
        halves = torch.cat([right, left])
        seen = self.eye(halves)
        other = torch.cat([seen[count:], seen[:count]])
        maps = self.squeeze(self.both(torch.cat([seen, other], 1)))
        out: Tensor = self.hidden(maps.flatten(1))
        return out

    def said(self, heard: Tensor) -> Tensor:
        """`(2B, N)` in standard units: action units, lip gap, pitch, yaw, identity, and x and y of the
        landmarks, as each half sees them, the left one as in a mirror; from `heard` `(2B, H)`."""
        out: Tensor = self.answer(heard)
        return out

    def answers(self, heard: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, from `heard` `(2B, H)`."""
        config, count = self.config, heard.shape[0] // 2
        known, size = config.known, config.size
        with torch.autocast(heard.device.type, enabled=False):  # a tenth of a pixel counts
            heard = heard.float()
            said = self.said(heard) * self.std + self.mean
            doubt = self.doubt(heard).clamp(self.doubt_range[0], self.doubt_range[1])
        readings, points = said[:, : -2 * config.landmarks], said[:, -2 * config.landmarks :]
        points = points.reshape(-1, config.landmarks, 2) * size
        points_turned, turned = turned_back(
            points[count:], readings[count:], self.au_mirror, self.point_mirror, size
        )
        mean = (readings[:count] + turned)[:, :known] / 2
        n = len(config.au_mirror)
        doubt_turned = torch.cat([doubt[count:, :n][:, self.au_mirror], doubt[count:, n:]], 1)
        return (
            (points[:count] + points_turned) / 2,
            torch.cat([mean, readings[:count, known:]], 1),
            (doubt[:count] + doubt_turned) / 2,
        )


def finer(state: dict[str, Tensor], old: StudentConfig, new: StudentConfig) -> dict[str, Tensor]:
    """Weights of an R of `old` for one of `new`, alike but for larger crops and a wider first convolution, so
    that it says nearly the same of the same face.

    The first convolution is read between its taps: where a pixel of the larger crop lies at u pixels of the
    smaller one, its weight is that at u, over the number of pixels that share the place of one.

    Raises:
        WeightsError: the two differ in what comes after, or do not step alike.
    """
    ratio = new.size / old.size
    like = {f: getattr(new, f) for f in ("size", "left", "top", "half", "kernel", "stride")}
    if replace(old, **like) != new or new.stride != ratio * old.stride:
        raise WeightsError(
            f"expected {old} but for the crop and its first convolution, strides in the ratio of the crops; "
            f"got {new}"
        )
    taps = torch.arange(new.kernel) - new.kernel // 2
    at = (taps + 0.5) / ratio - 0.5 + old.kernel // 2
    near = (1 - (at[:, None] - torch.arange(old.kernel)).abs()).clamp_min(0) / ratio
    out, first = dict(state), "eye.0.0.weight"
    out[first] = torch.einsum("ocij,ki,lj->ockl", state[first].float(), near, near)
    mean = state["mean"].clone()  # the first pixel is centred on (0, 0) in both
    mean[-2 * new.landmarks :] += 0.5 / old.size - 0.5 / new.size
    return out | {"mean": mean}


def deeper(state: dict[str, Tensor], old: StudentConfig, new: StudentConfig) -> dict[str, Tensor]:
    """Weights of an R of `old` for one of `new` with more residual blocks at the end of its last two stages,
    so that it says the same: what a new block adds to its input begins at zero.

    Raises:
        WeightsError: the two differ in anything else.
    """
    more = [b - a for a, b in zip(old.blocks, new.blocks, strict=True)]
    if replace(old, blocks=new.blocks) != new or more[0] or min(more) < 0:
        raise WeightsError(f"expected {old} with more blocks in the last two stages; got {new}")
    out = {k: v for k, v in Student(new).state_dict().items() if k not in state}
    return state | {k: torch.zeros_like(v) if k.endswith("bn2.weight") else v for k, v in out.items()}


def lean(student: Student) -> Student:
    """A copy for reading alone, batch norms folded into the convolutions, equal to rounding."""
    net = copy.deepcopy(student).eval().requires_grad_(False)
    fold(net)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

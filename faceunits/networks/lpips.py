"""LPIPS v0.1, the learned perceptual distance, with its AlexNet and VGG-16 trunks.

The trunks have the names of the public ImageNet files (`features.0.weight`, ...; their classifier is not
needed), the heads those of the public LPIPS files (`lin0.model.1.weight`, ...). A user's files fill both.
Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric".

Convention: pictures in [-1, 1].
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from faceunits.errors import ConfigError, ParameterError

Kind = Literal["alex", "vgg"]

CHANNELS: dict[str, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}
"""Channels of the five maps that are compared."""

_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Layers of `features`, each a ReLU, whose output is compared."""

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


def _alexnet() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(),
    ]  # fmt: skip


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if stage:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, 1, 1), nn.ReLU()]
            before = width
    return layers


class Trunk(nn.Module):
    """Picture `(B, 3, H, W)`, already shifted and scaled, to the five maps that LPIPS compares."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        if kind not in _TAPS:
            raise ConfigError(f"expected alex or vgg for the trunk of LPIPS; got {kind}; choose one of them")
        self.taps = _TAPS[kind]
        self.features = nn.Sequential(*(_alexnet() if kind == "alex" else _vgg16()))

    def forward(self, x: Tensor) -> list[Tensor]:
        out = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                out.append(x)
        return out


class Head(nn.Module):
    """One weight per channel; the dropout of its training fixes the public name `model.1`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


class Heads(nn.Module):
    """The five weightings, as one public file holds them."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        for i, channels in enumerate(CHANNELS[kind]):
            setattr(self, f"lin{i}", Head(channels))

    def __getitem__(self, index: int) -> Head:
        head: Head = getattr(self, f"lin{index}")
        return head


class Lpips(nn.Module):
    """Two pictures `(B, 3, H, W)` in [-1, 1] to their distance `(B,)`, 0 for equal ones.

    Made for evaluation: freshly built it is in evaluation mode, with its weights frozen.
    """

    def __init__(self, kind: Kind = "alex") -> None:
        super().__init__()
        self.trunk, self.heads = Trunk(kind), Heads(kind)
        self.eval().requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.stack(self.by_layer(a, b)).sum(0)

    def by_layer(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """The five terms `(B,)` whose sum is the distance.

        Raises:
            ParameterError: pictures of different shapes, or too small for the trunk.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or min(a.shape[2:]) < 32:
            raise ParameterError(
                f"expected two batches (B, 3, H, W) of equal shape, 32 px or more; got {tuple(a.shape)} and "
                f"{tuple(b.shape)}; resize them"
            )
        maps = zip(self.trunk(_scaled(a)), self.trunk(_scaled(b)), strict=True)
        return [
            self.heads[i]((_unit(x) - _unit(y)).square()).mean((1, 2, 3)) for i, (x, y) in enumerate(maps)
        ]


def _scaled(image: Tensor) -> Tensor:
    return (image - image.new_tensor(_SHIFT).view(1, 3, 1, 1)) / image.new_tensor(_SCALE).view(1, 3, 1, 1)


def _unit(x: Tensor) -> Tensor:
    """Each pixel's channels at length 1; vector_norm, since its gradient at zero is 0 and not undefined."""
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / (length + 1e-10)

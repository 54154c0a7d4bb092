"""Encoders from a picture to a w+ latent: pSp and e4e.

Both read a feature pyramid on an IR-SE50 trunk with one small head per level; pSp takes each head's code,
e4e one base code plus a difference per level. State-dict names and shapes are those of the public files
(prefix `encoder.` there). Source: Richardson et al. 2021, "Encoding in Style", section 3;
Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation", section 4.

Convention: pictures FFHQ-aligned, in [-1, 1], at `EncoderConfig.size`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceunits.errors import ConfigError
from faceunits.networks import irse50
from faceunits.networks.layers import EqualLinear, require_shape

COARSE, MIDDLE = 3, 7
"""First level that reads the middle map, and first that reads the fine one."""


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an encoder; the defaults are the public files'."""

    levels: int = 18
    """Codes to give: 2 log2(side of the generator's picture) - 2."""
    size: int = 256
    """Side of the input in pixels: a power of two, at least 32."""
    latent: int = 512
    """Length of a code."""
    widths: tuple[int, ...] = irse50.WIDTHS
    """Channels of the stem and of the four stages."""
    units: tuple[int, ...] = irse50.UNITS
    """Residual units per stage."""

    def __post_init__(self) -> None:
        if self.size < 32 or self.size & (self.size - 1):
            raise ConfigError(f"expected a side of 32, 64, 128, ... px; got {self.size}; use a power of two")
        if len(self.widths) != 5 or len(self.units) != 4:
            raise ConfigError(
                f"expected 5 widths (stem and stages) and 4 numbers of units; got {len(self.widths)} and "
                f"{len(self.units)}; give one for each stage"
            )


class Head(nn.Module):
    """Map `(B, C, S, S)` to a code `(B, D)`: stride-2 convolutions down to one pixel, then a linear layer."""

    def __init__(self, inputs: int, latent: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(int(math.log2(side))):
            layers += [nn.Conv2d(inputs if i == 0 else latent, latent, 3, 2, 1), nn.LeakyReLU(0.01)]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(latent, latent)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.convs(x).flatten(1))
        return out


class _Pyramid(nn.Module):
    """The trunk, its three maps and the heads.

    `average` is what the codes are relative to, `(L, D)` or `(D,)`; as in the public files it is not part of
    the state dict. Codes without it invert to nonsense, so `forward` adds it.
    """

    average: Tensor

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EncoderConfig()
        *_, fine, middle, coarse = config.widths
        self.input_layer = irse50.stem(config.widths[0])
        self.body = irse50.body(config.widths, config.units)
        self.styles = nn.ModuleList(
            Head(coarse, config.latent, config.size // (16 if j < COARSE else 8 if j < MIDDLE else 4))
            for j in range(config.levels)
        )
        self.latlayer1 = nn.Conv2d(middle, coarse, 1)
        self.latlayer2 = nn.Conv2d(fine, coarse, 1)
        self.register_buffer("average", torch.zeros(config.latent), persistent=False)

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coarse, middle and fine maps, `(B, C, S, S)` with S = size / 16, / 8 and / 4."""
        require_shape(image, (None, 3, self.config.size, self.config.size), "an aligned picture")
        ends = [sum(self.config.units[: i + 1]) for i in range(1, 4)]
        x, taps = self.input_layer(image), []
        for i, unit in enumerate(self.body, 1):
            x = unit(x)
            if i in ends:
                taps.append(x)
        fine, middle, coarse = taps
        p2 = _add(coarse, self.latlayer1(middle))
        return coarse, p2, _add(p2, self.latlayer2(fine))

    def codes(self, image: Tensor) -> list[Tensor]:
        """What each head says, `(B, D)` per level."""
        coarse, middle, fine = self.maps(image)
        sources = [coarse if j < COARSE else middle if j < MIDDLE else fine for j in range(len(self.styles))]
        return [head(source) for head, source in zip(self.styles, sources, strict=True)]


def _add(small: Tensor, large: Tensor) -> Tensor:
    """The small map brought to the side of the large one, corners on corners, plus that one."""
    return F.interpolate(small, size=large.shape[-2:], mode="bilinear", align_corners=True) + large


class Psp(_Pyramid):
    """Picture `(B, 3, S, S)` in [-1, 1] to w+ `(B, L, D)`: each head gives its level's code."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack(self.codes(image), 1) + self.average


class E4e(_Pyramid):
    """Picture `(B, 3, S, S)` in [-1, 1] to w+ `(B, L, D)`: one code for all levels, and differences."""

    def forward(self, image: Tensor) -> Tensor:
        return self.progressive(image, self.config.levels)

    def progressive(self, image: Tensor, levels: int) -> Tensor:
        """As `forward`, with differences at levels 1 to `levels` - 1 only: the stages of e4e's training."""
        base, *rest = self.codes(image)
        deltas = [torch.zeros_like(base), *rest]
        kept = [d if j < levels else torch.zeros_like(d) for j, d in enumerate(deltas)]
        return base[:, None] + torch.stack(kept, 1) + self.average


def pooled(image: Tensor, size: int = 256) -> Tensor:
    """A picture `(B, 3, S, S)` averaged down to an encoder's input; a smaller one is enlarged bilinearly."""
    if image.shape[-1] < size:
        return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False)
    return F.adaptive_avg_pool2d(image, size)

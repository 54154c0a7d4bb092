"""Views of a crop: what an imperfect detector, another camera, other light and things in front make of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from faceunits.networks.parser import at_points

F32 = NDArray[np.float32]


def _some(count: int, share: float, rng: torch.Generator) -> Tensor:
    """Which of `count` crops, each with the same chance."""
    return torch.nonzero(torch.rand(count, generator=rng) < share)[:, 0]


BENDS = 4
"""Nodes along each side of the grid that bends a crop: smooth over half of a face."""


def moved(
    image: Tensor, points: Tensor, rng: torch.Generator, *,
    shift_px: float, scale: float, turn_deg: float, bend_px: float = 0.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Crops `(B, 3, S, S)` and their points `(B, K, 2)` shifted, scaled and turned a little, and bent by
    `bend_px` on average: another person who does the same."""
    b, size = len(image), image.shape[-1]
    size_by = torch.exp(scale * torch.randn(b, generator=rng))
    angle = torch.deg2rad(turn_deg * torch.randn(b, generator=rng))
    shift = shift_px * torch.randn(b, 2, generator=rng)
    cos, sin = size_by * angle.cos(), size_by * angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2) old to new
    middle = (size - 1) / 2
    at = (points - middle) @ turn.transpose(1, 2) + middle + shift[:, None]
    back = torch.linalg.inv(turn)
    # grid_sample wants the map from new to old in units where the crop reaches from -1 to 1
    start = -(back @ shift[:, :, None]) * 2 / size
    line = (2 * torch.arange(size) + 1) / size - 1
    old = back[:, :, 1, None, None] * line[:, None] + start[:, :, :, None]
    old = old + back[:, :, 0, None, None] * line  # (B, 2, S, S): of every new pixel
    if bend_px:
        bend = bend_px * bends(b, size, rng)
        old.add_(bend, alpha=2 / size)
        straight = at
        for _ in range(3):  # where is the place that shows this point?
            at = straight - (turn @ at_points(bend, at, size)).transpose(1, 2)
    grid = old.permute(0, 2, 3, 1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False), at


def bends(count: int, size: int, rng: torch.Generator) -> Tensor:
    """`(B, 2, S, S)` smooth fields of unit spread (x, y), mostly alike on both sides as faces are."""
    nodes = torch.randn(count, 2, BENDS, BENDS, generator=rng)
    mirrored = nodes.flip(-1) * torch.tensor([-1.0, 1.0])[:, None, None]
    nodes = (nodes + 0.7 * mirrored) / (1 + 0.7**2) ** 0.5
    # a cubic through the nodes is linear in them: two small products for what resizing does pixel by pixel
    between = F.interpolate(
        torch.eye(BENDS)[None, None], size=(BENDS, size), mode="bicubic", align_corners=True
    )[0, 0]
    field: Tensor = between.T @ nodes @ between
    return field


def toned(rng: np.random.Generator, image: NDArray[np.uint8]) -> F32:
    """`(B, 3, S, S)` in [0, 1] of crops `(B, S, S, 3)` uint8, with tone and colour cast changed at random."""
    b, size = image.shape[:2]
    level = np.linspace(0, 1, 256, dtype=np.float32)
    out = np.empty((b, 3, size, size), np.float32)
    for k in range(b):
        curve = level ** np.exp(rng.normal(0, 0.2))
        curve = (curve - 0.5) * rng.uniform(0.75, 1.25) + 0.5 + rng.uniform(-0.08, 0.08)
        for c in range(3):
            tone = np.clip(curve * rng.uniform(0.93, 1.07), 0, 1).astype(np.float32)
            np.take(tone, image[k, :, :, c], out=out[k, c], mode="clip")  # half the time of tone[...]
    return out


def worsened(image: Tensor, rng: torch.Generator) -> Tensor:
    """Crops `(B, 3, S, S)` of which some are softer, grey or noisy, changed in place."""
    b = len(image)

    def strength(rows: Tensor) -> Tensor:
        return torch.rand(len(rows), 1, 1, 1, generator=rng)

    rows = _some(b, 0.08, rng)
    grey = image[rows].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    image[rows] = torch.lerp(image[rows], grey, strength(rows))
    rows = _some(b, 0.2, rng)
    soft = F.avg_pool2d(image[rows], 3, 1, 1, count_include_pad=False)
    image[rows] = torch.lerp(image[rows], soft, strength(rows))
    rows = _some(b, 0.2, rng)
    noise = torch.randn(image[rows].shape, generator=rng)
    image[rows] = (image[rows] + 0.06 * strength(rows).square() * noise).clamp(0, 1)
    return image


def shaded(image: Tensor, rng: torch.Generator, *, share: float = 0.3, spread: float = 0.25) -> Tensor:
    """Crops `(B, 3, S, S)` of which some lie in light that changes smoothly over the face, in place."""
    rows = _some(len(image), share, rng)
    if len(rows):
        field = spread * torch.randn(len(rows), 1, 3, 3, generator=rng)
        light = F.interpolate(field, size=image.shape[-1], mode="bilinear", align_corners=True).exp()
        image[rows] = (image[rows] * light).clamp(0, 1)
    return image


def coarser(image: Tensor, rng: torch.Generator, *, share: float = 0.15) -> Tensor:
    """Crops `(B, 3, S, S)` of which some come from faces of a quarter to seven tenths as many pixels, in
    place."""
    size = image.shape[-1]
    for row in _some(len(image), share, rng).tolist():
        side = round(size * (0.25 + 0.45 * float(torch.rand((), generator=rng))))
        small = F.interpolate(image[row : row + 1], size=side, mode="area")
        image[row] = F.interpolate(small, size=size, mode="bilinear", align_corners=False)[0]
    return image


def covered(image: Tensor, rng: torch.Generator, *, share: float = 0.12) -> Tensor:
    """Crops `(B, 3, S, S)` of which some have an ellipse of another picture in front of them, in place.

    What cannot be seen may be anything, so that squared error asks for the mean: less, where most is rest.
    """
    b, size = len(image), image.shape[-1]
    rows = _some(b, share, rng)
    line = torch.linspace(-1, 1, size)
    others = image[(rows + 1) % b].flip(-2)  # upside down: no face again
    for row, other in zip(rows.tolist(), others, strict=True):
        middle = 1.6 * torch.rand(2, generator=rng) - 0.8
        radius = 0.15 + 0.35 * torch.rand(2, generator=rng)
        far = ((line - middle[0]) / radius[0]).square()[:, None] + ((line - middle[1]) / radius[1]).square()
        image[row] = torch.lerp(image[row], other, ((1 - far) * 8).clamp(0, 1))
    return image

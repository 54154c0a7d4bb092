"""What the fit compares: attention-masked features of E (GE-Net, eqs. 5 and 6), and our terms.

    E(I) = sum_i beta_i A_i(I) C_i(I)         L_E = | E(M(y)) - E(photo) |_1

The four maps have different depths, so the sum is a set of four weighted maps, each reduced by its
mean. `A_i` is the probability of one facial region, at the grid of the maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from faceunits.networks.parser import Features

REGIONS: tuple[tuple[int, ...], ...] = ((4, 5), (2, 3), (6,), (7, 8, 9))
"""Classes whose probabilities mask C1..C4: eyes, brows, nose, mouth (GE-Net, section 3.3)."""


@dataclass(frozen=True)
class Target:
    """What is known of a batch of photos, without gradient.

    `maps` masked features; `probability` `(B, 11, h, w)`; `points` `(B, K, 2)` crop pixels;
    `readings` `(B, R)`.
    """

    maps: tuple[Tensor, ...]
    probability: Tensor
    points: Tensor
    readings: Tensor


def masked(features: Features, beta: tuple[float, ...], *, attention: bool = True) -> tuple[Tensor, ...]:
    """beta_i A_i C_i, each `(B, C_i, h, w)`; without attention A_i = 1 (GENet-O)."""
    probability = features.logits.float().softmax(1)
    out = []
    for weight, region, value in zip(beta, REGIONS, features.maps, strict=True):
        mask = probability[:, list(region)].sum(1, keepdim=True) if attention else 1.0
        out.append(weight * mask * value.float())
    return tuple(out)


def feature_loss(maps: tuple[Tensor, ...], target: tuple[Tensor, ...]) -> Tensor:
    """`(B,)` eq. 6: mean absolute difference of each map, summed over the maps."""
    return torch.stack([(a - b).abs().flatten(1).mean(1) for a, b in zip(maps, target, strict=True)]).sum(0)


def residual(maps: tuple[Tensor, ...], target: tuple[Tensor, ...]) -> Tensor:
    """`(B, h, w)` eq. 6 before its sum over places: where the fitted face still differs."""
    return torch.stack([(a - b).abs().mean(1) for a, b in zip(maps, target, strict=True)]).sum(0)


def scales(features: Features) -> tuple[float, ...]:
    """beta_i = 1 / mean |C_i|, measured once on the base face, so that each map weighs the same."""
    return tuple(float(1 / c.float().abs().mean().clamp_min(1e-6)) for c in features.maps)

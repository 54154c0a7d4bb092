"""Monotone curves from readings to parameters: the same share of faces above every value.

A reading trained on squared error is a mean over what a face might be doing: faces at rest read a
little above 0, strong actions read too weak, and agreement of scale (ICC) suffers. On rendered faces
the true distribution of each parameter is known, so the curve sends the quantiles of the readings to
those of the truth. No label of a photo is involved.
"""

from __future__ import annotations

import torch
from torch import Tensor

QUANTILES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 0.995, 1.0)
"""Most faces are at rest in most parameters, so the knots crowd towards the top."""

KEPT = 0.25
"""Share of the reading itself in the result: without it all weak readings would become ties at 0."""


def matching(readings: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Knots of the curves, `(R, K)` readings and `(R, K)` parameters, from `(n, R)` of both."""
    at = torch.tensor(QUANTILES, dtype=readings.dtype)
    low = torch.quantile(readings, at, dim=0).T
    # equal readings at neighbouring quantiles would make a step of infinite slope
    steps = torch.arange(len(QUANTILES), dtype=readings.dtype) * 1e-6
    return (low + steps).contiguous(), torch.quantile(truth, at, dim=0).T.contiguous()


def apply(readings: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """`(B, R)` parameters of readings `(B, R)`: linear between knots, constant beyond them."""
    x = readings.T.contiguous()  # (R, B)
    right = torch.searchsorted(knots, x).clamp(1, knots.shape[1] - 1)
    x0, x1 = knots.gather(1, right - 1), knots.gather(1, right)
    y0, y1 = values.gather(1, right - 1), values.gather(1, right)
    share = ((x - x0) / (x1 - x0)).clamp(0, 1)
    return ((1 - KEPT) * (y0 + share * (y1 - y0)) + KEPT * x).T

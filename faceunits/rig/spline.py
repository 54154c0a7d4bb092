"""Moves points of the plane smoothly so that some of them arrive where they should."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

F64 = NDArray[np.float64]


def mover(source: F64, goal: F64, *, apart: float, smoothing: float) -> Callable[[F64], F64]:
    """A thin-plate spline from anchors `(N, 2)` in pixels to where they belong.

    Args:
        source: anchors; of those closer than `apart` the first stays, as two at one place have no solution.
        goal: where each goes.
        apart: pixels.
        smoothing: how far, in units of 100 px, the plane may miss a goal to stay smooth.

    Returns:
        A function of points `(M, 2)` that gives them moved.
    """
    near = np.linalg.norm(source[:, None] - source[None], axis=2) < apart
    keep = ~np.triu(near, 1).any(0)
    shift = RBFInterpolator(
        source[keep] / 100, (goal - source)[keep], kernel="thin_plate_spline", smoothing=smoothing
    )
    return lambda points: np.asarray(points + shift(points / 100))

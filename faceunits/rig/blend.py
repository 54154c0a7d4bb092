"""Weighted sums of shapes, in numba.

As matrix products these would start a thread per core for every face, and processes that draw side by side
would wait for each other: half the speed on two cores.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


@nb.njit(cache=True, fastmath=True, nogil=True)
def add(points: F32, weights: F32, shapes: F32) -> None:
    """Adds to `points` `(V, 3)`, in place, each of `shapes` `(K, V, 3)` times its weight `(K,)`."""
    for k in range(weights.shape[0]):
        weight = weights[k]
        if weight != 0:
            for v in range(points.shape[0]):
                for c in range(3):
                    points[v, c] += weight * shapes[k, v, c]

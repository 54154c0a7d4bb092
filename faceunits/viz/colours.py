"""Numbers to colours: face parts, and heat."""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]

# Helen's eleven classes: background, skin, brows, eyes, nose, upper lip, inner mouth, lower lip, hair.
_HELEN = (
    (24, 24, 28), (233, 190, 152), (120, 74, 36), (163, 104, 52), (58, 134, 255), (0, 180, 216),
    (255, 159, 28), (230, 57, 100), (90, 10, 30), (178, 24, 62), (92, 77, 125),
)  # fmt: skip

_HEAT = np.array([(0, 0, 0), (90, 15, 110), (215, 48, 60), (250, 160, 30), (255, 250, 190)], np.float32)


@cache
def palette() -> U8:
    """`(256, 3)` colour of each class; beyond Helen's eleven, hues that neighbours do not share."""
    out = np.zeros((256, 3), np.uint8)
    out[: len(_HELEN)] = _HELEN
    for i in range(len(_HELEN), 256):
        # the golden ratio spreads successive hues as far apart as can be
        rgb = colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.45 + 0.25 * (i % 3), 0.95 - 0.2 * (i % 2))
        out[i] = [round(255 * c) for c in rgb]
    out.flags.writeable = False
    return out


def parsing(classes: U8) -> U8:
    """`(..., 3)` uint8 colours of face parts.

    Args:
        classes: `(...)` uint8 as in `FitResult.parsing`.
    """
    return palette()[classes]


def heat(values: NDArray[np.float32], top: float | None = None) -> U8:
    """`(..., 3)` uint8: black at 0, through red, to near white at `top`.

    Args:
        values: `(...)` not negative; undefined ones are black.
        top: value of the brightest colour; by default the 99th percentile, so that a single place does
            not darken the rest.
    """
    x = np.nan_to_num(values.astype(np.float32), nan=0, posinf=0, neginf=0)
    if top is None:
        top = float(np.percentile(x, 99)) if x.size else 0.0
    place = np.clip(x / (top if top > 0 else 1), 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    share = (place - low)[..., None]
    return np.asarray(_HEAT[low] * (1 - share) + _HEAT[low + 1] * share + 0.5).astype(np.uint8)

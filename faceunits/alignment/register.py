"""Where a face went since the last frame: its crop's matrix carried along by the pixels themselves.

A reading of action units changes with shifts of a tenth of a pixel, so a crop placed by the previous
frame's landmarks would tremble with every movement of the head or of the camera. Registration places it to
a few hundredths of a pixel before any network is run, in well under a millisecond.

Source: Baker & Matthews 2004, "Lucas-Kanade 20 Years On", the inverse compositional algorithm (section
3.2), for similarities, on patches of zero mean and unit spread (a change of light is not a movement).

Convention: matrices `(2, 3)` lead from the picture to the crop, as in `warp`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from faceunits.alignment.warp import invert

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

SIDE = 48
"""Pixels of the patch: finer ones carry more noise than place."""

_LEVELS = ((2, 3), (1, 3))
"""Coarse to fine: pixels of the patch averaged on a side, and the most steps there."""

_MARGIN = 0.25
"""A face is looked for this far beyond its crop, in sides of the crop."""

_NEAR = 0.97
"""Correlation above which a face moved by less than a pixel of the patch."""

_STILL = 0.005
"""Steps below this many pixels of the patch end the search."""


@dataclass(frozen=True)
class Patch:
    """What a face looked like: `grey` `(SIDE, SIDE)`, from a crop of `size` pixels."""

    grey: F32
    size: int


@dataclass(frozen=True)
class Around:
    """The grey surroundings of a face: `grey` is block means of the picture, `factor` pixels on a side,
    from the pixel `corner` (x, y) on."""

    grey: F32
    corner: tuple[int, int]
    factor: int


def around(picture: U8, matrix: F64, size: int) -> Around:
    """The part of a picture `(H, W, 3)` in which the face under a matrix may be a frame later."""
    back = _back(matrix, size)
    # blocks of half a patch's pixel: coarser ones would show their grid
    factor = max(1, int(_scale(back) / (2 * SIDE)))
    half = np.abs(back[:, :2]).sum(1) * (0.5 + _MARGIN)
    height, width = picture.shape[:2]
    x0, y0 = (max(0, int(v)) for v in back[:, 2] - half)
    x1, y1 = (int(np.ceil(v)) for v in back[:, 2] + half + factor)
    x0, y0 = min(x0, max(0, width - factor)), min(y0, max(0, height - factor))
    x1, y1 = max(min(x1, width), x0 + 1), max(min(y1, height), y0 + 1)
    grey = np.empty((-(-(y1 - y0) // factor), -(-(x1 - x0) // factor)), np.float32)
    _reduce(picture[y0:y1, x0:x1], factor, grey)
    return Around(grey, (x0, y0), factor)


def patch(place: Around, matrix: F64, size: int) -> Patch:
    """The face under a matrix (to a crop of `size` pixels), to be found again."""
    return Patch(_look(place, _back(matrix, size)), size)


def follow(reference: Patch, place: Around, matrix: F64) -> tuple[F64, float]:
    """The matrix that shows in a new picture what the reference shows, from that of the reference on.

    Returns:
        `(2, 3)` matrix, and the correlation of what it shows with the reference, in [-1, 1]. When the
        search leads nowhere better, the matrix is the given one.
    """
    size = reference.size
    start = back = _back(matrix, size)
    stayed = _alike(reference.grey, _look(place, start))
    # what hardly moved needs no wide view
    for factor, steps in _LEVELS[1:] if stayed > _NEAR else _LEVELS:
        target, slopes, inverse = _prepared(reference.grey, factor)
        for _ in range(steps):
            seen = _normal(_coarse(_look(place, back), factor))
            step = inverse @ (slopes @ (_WEIGHT[factor] * (seen - target)).ravel())
            back = _compose(back, step)
            if np.abs(step).max() * SIDE / factor < _STILL:
                break
    found = _alike(reference.grey, _look(place, back))
    if not np.isfinite(found) or found <= stayed or not 0.5 < _scale(back) / _scale(start) < 2:
        return matrix, stayed
    return _forward(back, size), found


def _alike(a: F32, b: F32) -> float:
    return float(np.vdot(_SHARE[1] * _normal(a), _normal(b)))


def _prepared(grey: F32, factor: int) -> tuple[F32, F32, F64]:
    """Normalised patch, steepest-descent images `(4, n)` for turn-and-scale (2) and shift (2) in units of
    the patch's side, and the inverse of their weighted products."""
    target = _normal(_coarse(grey, factor))
    down, across = np.gradient(target)
    side = len(target)
    x, y = _PLACE[factor]
    slopes = np.stack([across * x + down * y, down * x - across * y, across, down]).reshape(4, -1) * side
    hessian = (slopes * _WEIGHT[factor].ravel()) @ slopes.T
    # a patch without structure has no place: the ridge keeps it where it is
    inverse = np.linalg.inv(hessian.astype(np.float64) + np.eye(4) * (1e-3 * np.trace(hessian) + 1e-6))
    return target, slopes.astype(np.float32), inverse


def _compose(back: F64, step: F64) -> F64:
    """`back` after the inverse of the similarity 1 + step about its middle, units of its side."""
    a, b, shift = 1 + step[0], step[1], step[2:]
    linear = back[:, :2] @ (np.array([[a, b], [-b, a]]) / (a * a + b * b))
    return np.concatenate([linear, (back[:, 2] - linear @ shift)[:, None]], 1)


def _back(matrix: F64, size: int) -> F64:
    """From units of the crop's side about its middle to the picture."""
    out = invert(matrix)
    middle = (size - 1) / 2
    return np.concatenate([out[:, :2] * size, (out[:, :2].sum(1) * middle + out[:, 2])[:, None]], 1)


def _forward(back: F64, size: int) -> F64:
    """The inverse of `_back`."""
    linear = back[:, :2] / size
    shift = back[:, 2] - linear.sum(1) * ((size - 1) / 2)
    return invert(np.concatenate([linear, shift[:, None]], 1))


def _scale(back: F64) -> float:
    return float(np.sqrt(abs(back[0, 0] * back[1, 1] - back[0, 1] * back[1, 0])))


def _look(place: Around, back: F64) -> F32:
    inside = back.copy()
    inside[:, 2] -= np.array(place.corner) + (place.factor - 1) / 2
    out = np.empty((SIDE, SIDE), np.float32)
    inside /= place.factor
    _sample(place.grey, inside, out)
    return out


@nb.njit(cache=True, nogil=True)
def _reduce(picture: U8, factor: int, out: F32) -> None:
    """Fill `out` with grey means of blocks; the last ones may be narrower."""
    height, width = picture.shape[:2]
    sums = np.empty(width, np.int32)  # of the columns of a row of blocks: long loops become vector code
    for i in range(out.shape[0]):
        y1 = min((i + 1) * factor, height)
        sums[:] = 0
        for y in range(i * factor, y1):
            line = picture[y]
            for x in range(width):
                sums[x] += np.int32(line[x, 0]) + np.int32(line[x, 1]) + np.int32(line[x, 2])
        if factor == 1:
            for x in range(width):
                out[i, x] = np.float32(sums[x]) / np.float32(3)
            continue
        for j in range(out.shape[1]):
            x1 = min((j + 1) * factor, width)
            total = 0
            for x in range(j * factor, x1):
                total += sums[x]
            out[i, j] = total / (3 * (y1 - i * factor) * (x1 - j * factor))


@nb.njit(cache=True, nogil=True)
def _sample(grey: F32, back: F64, out: F32) -> None:
    """Fill `out` with bilinear samples, each the mean of four that lie a pixel of the patch apart: smooth
    enough for slopes from differences. Beyond the picture its border repeats."""
    height, width = grey.shape
    side = out.shape[0]
    right, bottom, zero = np.float32(width - 1), np.float32(height - 1), np.float32(0)
    for i in range(side):
        for j in range(side):
            total = zero
            for k in range(4):
                v, u = (i + k // 2) / side - 0.5, (j + k % 2) / side - 0.5
                x = np.float32(back[0, 0] * u + back[0, 1] * v + back[0, 2])
                y = np.float32(back[1, 0] * u + back[1, 1] * v + back[1, 2])
                x, y = min(max(x, zero), right), min(max(y, zero), bottom)
                x0, y0 = int(x), int(y)
                x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
                fx, fy = x - np.float32(x0), y - np.float32(y0)
                top = grey[y0, x0] + (grey[y0, x1] - grey[y0, x0]) * fx
                low = grey[y1, x0] + (grey[y1, x1] - grey[y1, x0]) * fx
                total += top + (low - top) * fy
            out[i, j] = total * np.float32(0.25)


def _coarse(grey: F32, factor: int) -> F32:
    if factor == 1:
        return grey
    n = SIDE // factor
    out: F32 = grey.reshape(n, factor, n, factor).mean((1, 3))
    return out


def _normal(grey: F32) -> F32:
    """Zero mean, unit spread, under the weights."""
    share = _SHARE[SIDE // len(grey)]
    centred = grey - np.vdot(share, grey)
    out: F32 = centred / (np.sqrt(np.vdot(share, centred * centred)) + np.float32(1e-3))
    return out


def _places(factor: int) -> tuple[F32, F32]:
    at = ((np.arange(SIDE // factor) + 0.5) * factor / SIDE - 0.5).astype(np.float32)
    return np.broadcast_to(at[None], (len(at), len(at))), np.broadcast_to(at[:, None], (len(at), len(at)))


def _weight(factor: int) -> F32:
    """Most where a face is rigid: brows to upper lip; the background and the jaw move on their own."""
    x, y = _places(factor)
    out: F32 = np.exp(-((x / 0.28) ** 4) - ((y + 0.07) / 0.24) ** 4).astype(np.float32)
    return out


_PLACE = {factor: _places(factor) for factor, _ in _LEVELS}
_WEIGHT = {factor: _weight(factor) for factor, _ in _LEVELS}
_SHARE = {factor: weight / weight.sum() for factor, weight in _WEIGHT.items()}

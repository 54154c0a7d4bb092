"""Five points to the canonical crop: closed-form transforms, the anti-aliased warp, and back.

Stands between the detector and every network: roll, place and size are removed here, so the networks
see only pose and expression. The template is the five points of the rig's base face, hence a rendered
base face and an aligned photo lie on top of each other.

Convention: points are (x, y), first pixel centred on (0, 0); matrices `(2, 3)` lead from the picture to
the crop; left and right are the subject's.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numba as nb
import numpy as np
from numpy.typing import NDArray

from faceunits.errors import AlignmentError

if TYPE_CHECKING:
    from torch import Tensor

P = TypeVar("P", "NDArray[np.float32]", "Tensor")
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

CROP_CM = 20.48
"""Side of the crop in centimetres of the base face: forehead to chin with room for turned heads."""

_BASE_FACE_CM = np.array([[-3.200, 0.265], [3.200, 0.265], [0.0, 3.500], [-2.637, 7.409], [2.637, 7.409]])
"""The rig's neutral mean face seen from 60 cm, origin in the middle of the eyes, y down."""

_ORIGIN = np.array([0.5, 0.3125])
"""Where the middle of the eyes lies in the crop, in fractions of its side."""

TEMPLATE: F64 = _ORIGIN + _BASE_FACE_CM / CROP_CM
"""`(5, 2)` the points of `types.FIVE_POINTS` in fractions of the crop's side."""

TEMPLATE_VERSION = "ict-base-1"
"""Recorded with trained weights: a network fits only crops of the template it was trained on."""


def template(size: int) -> F64:
    """`(5, 2)` pixels of the template in a crop of `size` pixels."""
    return TEMPLATE * size - 0.5


def similarity(points: NDArray[np.floating], size: int) -> F64:
    """Rotation, scale and shift that best carry the points onto the template.

    Args:
        points: `(B, 5, 2)` pixels, in the order of `types.FIVE_POINTS`.
        size: side of the crop in pixels.

    Returns:
        `(B, 2, 3)` matrices from the picture to the crop; reflection is excluded.

    Source: Umeyama 1991, eqs. 40-43; in the plane, with the reflection ruled out, the rotation and the
    scale are the two sums below and no SVD is needed.

    Raises:
        AlignmentError: points that coincide or are not finite.
    """
    source, source_mean = _centred(points)
    target, target_mean = _target(size)
    linear, reach = _turn(source, target)
    if np.any(reach < 1e-6 * size):
        raise AlignmentError(
            "expected five points of a face; got points that fit it at no rotation; check their order"
        )
    return _with_shift(linear, source_mean, target_mean)


def between(points: NDArray[np.floating], onto: NDArray[np.floating]) -> F64:
    """`(B, 2, 3)` the similarities that best carry points `(B, K, 2)` onto others; see `similarity`."""
    source_mean, target_mean = points.mean(1, keepdims=True), onto.mean(1, keepdims=True)
    linear, _ = _turn(points - source_mean, onto - target_mean)
    return _with_shift(linear, source_mean, target_mean)


def _turn(source: F64, target: F64) -> tuple[F64, F64]:
    """`(B, 2, 2)` rotation and scale from centred points to others, and `(B,)` how far the points reach
    then."""
    spread = (source**2).sum((1, 2))
    a = (source * target).sum((1, 2)) / spread
    b = (source[..., 0] * target[..., 1] - source[..., 1] * target[..., 0]).sum(1) / spread
    linear = np.stack([np.stack([a, -b], -1), np.stack([b, a], -1)], -2)
    return linear, np.hypot(a, b) * np.sqrt(spread)


def affine(points: NDArray[np.floating], size: int) -> F64:
    """Least-squares affine transform from the points to the template.

    Also levels width against height, so that part of the yaw goes; the similarity keeps it.

    Args:
        points: `(B, 5, 2)` pixels, in the order of `types.FIVE_POINTS`.
        size: side of the crop in pixels.

    Returns:
        `(B, 2, 3)` matrices from the picture to the crop.

    Raises:
        AlignmentError: points that coincide, lie on one line or are not finite.
    """
    source, source_mean = _centred(points)
    target, target_mean = _centred(template(size)[None])
    gram = np.einsum("bki,bkj->bij", source, source)
    if np.any(np.linalg.det(gram) < 1e-6 * np.trace(gram, axis1=1, axis2=2) ** 2):
        raise AlignmentError(
            "expected five points that span a plane; got points on a line; use the similarity"
        )
    linear = np.einsum("bki,bkj->bij", np.broadcast_to(target, source.shape), source)
    return _with_shift(linear @ np.linalg.inv(gram), source_mean, target_mean)


def _centred(points: NDArray[np.floating]) -> tuple[F64, F64]:
    """Points about their mean, and the mean; refuses what spans nothing."""
    p = np.asarray(points, np.float64)
    if p.ndim != 3 or p.shape[1:] != (5, 2):
        raise AlignmentError(f"expected points (B, 5, 2); got {p.shape}")
    if not np.isfinite(p).all():
        raise AlignmentError("expected finite points; got NaN or infinity; drop such faces first")
    mean = p.mean(1, keepdims=True)
    centred = p - mean
    # Relative to the coordinates' own size: below it the differences are rounding errors.
    if np.any((centred**2).sum((1, 2)) <= (1e-9 * (1 + np.abs(p).max((1, 2)))) ** 2):
        raise AlignmentError("expected five different points; got points that coincide")
    return centred, mean


@cache
def _target(size: int) -> tuple[F64, F64]:
    """The template about its mean, and the mean."""
    return _centred(template(size)[None])


def _with_shift(linear: F64, source_mean: F64, target_mean: F64) -> F64:
    shift = target_mean - np.einsum("bij,bkj->bki", linear, source_mean)
    return np.concatenate([linear, shift.transpose(0, 2, 1)], -1)


def invert(matrix: NDArray[np.floating]) -> F64:
    """`(..., 2, 3)` the transforms back, from the crop to the picture.

    Raises:
        AlignmentError: a matrix that flattens the picture.
    """
    m = np.asarray(matrix, np.float64)
    if m.ndim == 2:
        return _inverted(*m.tolist())
    a, b, c, d = m[..., 0, 0], m[..., 0, 1], m[..., 1, 0], m[..., 1, 1]
    area = a * d - b * c
    if not np.all(np.abs(area) > 1e-12 * np.abs(m[..., :2]).max((-2, -1)) ** 2):
        raise AlignmentError(_FLAT)
    back = np.stack([np.stack([d, -b], -1), np.stack([-c, a], -1)], -2) / area[..., None, None]
    return np.concatenate([back, -back @ m[..., 2:]], -1)


_FLAT = "expected a matrix that can be inverted; got one without area"


def _inverted(x: list[float], y: list[float]) -> F64:
    """`invert` of one matrix by its rows: a followed face needs a dozen per frame, and arrays of six
    numbers cost twenty times the arithmetic."""
    (a, b, e), (c, d, f) = x, y
    area = a * d - b * c
    if not abs(area) > 1e-12 * max(abs(a), abs(b), abs(c), abs(d)) ** 2:
        raise AlignmentError(_FLAT)
    a, b, c, d = d / area, -b / area, -c / area, a / area
    return np.array([[a, b, -(a * e + b * f)], [c, d, -(c * e + d * f)]])


def apply(matrix: NDArray[np.floating], points: NDArray[np.floating]) -> F64:
    """`(..., K, 2)` points carried by `(..., 2, 3)` matrices."""
    m = np.asarray(matrix, np.float64)
    p = np.asarray(points, np.float64)
    out: F64 = p @ np.swapaxes(m[..., :2], -1, -2) + m[..., None, :, 2]
    return out


def resized(points: P, ratio: float) -> P:
    """`(..., 2)` points of a crop in the same crop `ratio` times as large."""
    return (points + 0.5) * ratio - 0.5


def roll_deg(matrix: NDArray[np.floating]) -> F64:
    """`(...)` tilt of the head that the matrices remove, degrees, + clockwise in the picture."""
    back = invert(matrix)
    return np.degrees(np.arctan2(back[..., 1, 0], back[..., 0, 0]))


def scale(matrix: NDArray[np.floating]) -> F64:
    """`(...)` crop pixels per picture pixel (geometric mean over the axes)."""
    m = np.asarray(matrix, np.float64)
    factor: F64 = np.sqrt(np.abs(m[..., 0, 0] * m[..., 1, 1] - m[..., 0, 1] * m[..., 1, 0]))
    return factor


def picture(crop: F32) -> U8:
    """`(..., S, S, 3)` uint8 of crops `(..., 3, S, S)` in [0, 1], rounded."""
    values = np.clip(255 * np.moveaxis(crop, -3, -1) + 0.5, 0, 255)
    return np.ascontiguousarray(values.astype(np.uint8))


def crop(image: U8, matrix: NDArray[np.floating], size: int) -> F32:
    """The aligned square, float32 `(3, size, size)` in [0, 1].

    Shrinking averages over the pixels that fall together: whole blocks of them first (cheap for any
    picture size), then 2 x 2 samples per crop pixel for the remaining factor below 2. Beyond the
    picture its border is repeated.

    Args:
        image: `(H, W, 3)` uint8.
        matrix: `(2, 3)` from the picture to the crop.
        size: side of the crop in pixels.

    Raises:
        AlignmentError: an image of another layout, or a matrix that cannot be inverted.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise AlignmentError(f"expected a uint8 picture (H, W, 3); got {image.dtype} {image.shape}")
    back = invert(matrix)
    shrink = float(1 / scale(matrix))
    source, back = _reduced(image, back, size, max(1, int(shrink)))
    n = 2 if shrink / max(1, int(shrink)) > 1.05 else 1
    out = np.zeros((3, size, size), np.float32)
    _sample(_planes(source), source.shape[0], back, n, out)
    return out


def _reduced(image: U8, back: F64, size: int, factor: int) -> tuple[NDArray[np.generic], F64]:
    """The part of the picture under the crop as means of `factor` x `factor` blocks."""
    height, width = image.shape[:2]
    corners = apply(back, np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5)
    low = np.floor(corners.min(0)) - 2 * factor
    high = np.ceil(corners.max(0)) + 2 * factor
    x0, x1 = (int(v) for v in np.clip([low[0], high[0]], 0, width))
    y0, y1 = (int(v) for v in np.clip([low[1], high[1]], 0, height))
    # A crop beside the picture still sees the border it repeats.
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    part = image[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    out = back.copy()
    out[:, 2] -= (x0, y0)
    if factor == 1:
        return part, out
    spare_y, spare_x = -part.shape[0] % factor, -part.shape[1] % factor
    part = np.pad(part, ((0, spare_y), (0, spare_x), (0, 0)), mode="edge")
    rows, columns = part.shape[0] // factor, part.shape[1] // factor
    # Rows first, in integers: five times faster than a mean over two axes of float64.
    summed = np.add.reduce(part.reshape(rows, factor, -1), 1, dtype=np.uint32)
    blocks = summed.reshape(rows, columns, factor, 3).sum(2).astype(np.float32) / factor**2
    out[:, 2] -= (factor - 1) / 2
    return blocks, out / factor


def _planes(image: NDArray[np.generic]) -> F32:
    """`(3, h, w)` of a picture `(h, w, 3)`, below it its last row again: samples on the border look there."""
    height, width = image.shape[:2]
    out = np.empty((3, height + 2, width), np.float32)
    out[:, :height] = image.transpose(2, 0, 1)
    out[:, height:] = out[:, height - 1 : height]
    return out


@nb.njit(cache=True, nogil=True, fastmath=True)
def _sample(planes: F32, height: int, back: F64, n: int, out: F32) -> None:
    """Add to `out` `(3, S, S)` bilinear samples of `_planes` / 255; beyond the picture its border repeats.

    Each pixel of `out` is the mean of `n` x `n` samples; `back` leads from the crop to the picture. The
    innermost loop runs along a row on plain arrays and unsigned indices, so that it becomes vector code.
    """
    width = planes.shape[2]
    right, bottom, zero = np.float32(width - 1), np.float32(height - 1), np.float32(0)
    factor, row = np.float32(1 / (255 * n * n)), np.int32(width)
    across, down = np.float32(back[0, 0]), np.float32(back[1, 0])
    red, green, blue = planes[0].ravel(), planes[1].ravel(), planes[2].ravel()
    for i in range(out.shape[1]):
        r, g, b = out[0, i], out[1, i], out[2, i]
        for k in range(n * n):
            v, u = i + (k // n + 0.5) / n - 0.5, (k % n + 0.5) / n - 0.5
            left = np.float32(back[0, 0] * u + back[0, 1] * v + back[0, 2])
            top = np.float32(back[1, 0] * u + back[1, 1] * v + back[1, 2])
            for j in range(out.shape[2]):
                x = min(max(left + across * np.float32(j), zero), right)
                y = min(max(top + down * np.float32(j), zero), bottom)
                x0, y0 = np.int32(x), np.int32(y)
                fx, fy = x - np.float32(x0), y - np.float32(y0)
                at = np.uint32(y0 * row + x0)
                beside, below = at + np.uint32(1), at + np.uint32(row)
                across_below = below + np.uint32(1)
                high = red[at] + (red[beside] - red[at]) * fx
                low = red[below] + (red[across_below] - red[below]) * fx
                r[j] += (high + (low - high) * fy) * factor
                high = green[at] + (green[beside] - green[at]) * fx
                low = green[below] + (green[across_below] - green[below]) * fx
                g[j] += (high + (low - high) * fy) * factor
                high = blue[at] + (blue[beside] - blue[at]) * fx
                low = blue[below] + (blue[across_below] - blue[below]) * fx
                b[j] += (high + (low - high) * fy) * factor


def face_size(points: NDArray[np.floating]) -> F32:
    """`(...)` pixels: face width, cheek to cheek (about 14 cm), from points `(..., 5, 2)`."""
    p = np.asarray(points, np.float64)
    across = np.hypot(*np.moveaxis(p[..., 1, :] - p[..., 0, :], -1, 0))
    down = np.hypot(*np.moveaxis((p[..., 3, :] + p[..., 4, :] - p[..., 0, :] - p[..., 1, :]) / 2, -1, 0))
    size: F32 = (2 * np.maximum(1.116 * across, down)).astype(np.float32)
    return size


def face_box(points: NDArray[np.floating]) -> F32:
    """`(..., 4)` x, y, width, height of the face that has these `(..., 5, 2)` points.

    One rule for every detector, so that the columns of a table mean the same whichever was used: the
    upright frame of an ellipse from the hairline to the chin and from cheek to cheek (14.3 x 18.6 cm on
    the base face), tilted with the face. Yaw shortens the distance of the eyes, pitch that of eyes and
    mouth, hence the larger of the two sets the size.
    """
    p = np.asarray(points, np.float64)
    eyes = (p[..., 0, :] + p[..., 1, :]) / 2
    mouth = (p[..., 3, :] + p[..., 4, :]) / 2
    across, down = p[..., 1, :] - p[..., 0, :], mouth - eyes
    unit = np.maximum(np.hypot(*np.moveaxis(across, -1, 0)) * 1.116, np.hypot(*np.moveaxis(down, -1, 0)))
    # Direction down the face, from both axes: the eyes' line alone is poor on profiles.
    axis = down + np.stack([-across[..., 1], across[..., 0]], -1)
    length = np.maximum(np.hypot(*np.moveaxis(axis, -1, 0)), 1e-9)
    axis = axis / length[..., None]
    half_w, half_h = 1.0 * unit, 1.3 * unit
    centre = (eyes + mouth) / 2 - 0.14 * unit[..., None] * axis
    half_x = np.hypot(half_w * axis[..., 1], half_h * axis[..., 0])
    half_y = np.hypot(half_w * axis[..., 0], half_h * axis[..., 1])
    half = np.stack([half_x, half_y], -1)
    return np.concatenate([centre - half, 2 * half], -1).astype(np.float32)

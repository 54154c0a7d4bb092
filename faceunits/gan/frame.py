"""The square of a photo that a generator of faces knows: where it lies, and what the encoder sees of it.

Two framings. `face` is E's crop (`alignment.warp`); `ffhq` is that of FFHQ, on which the public StyleGAN2
and its encoders were trained. Both are rotation, scale and shift, so one matrix leads into the square and
its inverse back.

Convention: points (x, y), first pixel centred on (0, 0); matrices `(2, 3)` lead from the photo to the square.
Source of `ffhq`: Karras et al. 2019, "A Style-Based Generator Architecture", and the data set's public
description.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faceunits.alignment import warp
from faceunits.errors import AlignmentError

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

ALIGNMENTS = ("face", "ffhq")

PAD = 0.3
"""Beyond a photo that ends too early, `ffhq` goes on by at least this share of the square's side."""
BLUR = 0.02
"""Blur of what goes on there, in sides of the square."""


def ffhq(landmarks: NDArray[np.floating], size: int) -> F64:
    """`(2, 3)` from the photo to the square of FFHQ.

    Args:
        landmarks: `(68, 2)` iBUG points, pixels of the photo.
        size: side of the square in pixels.

    Raises:
        AlignmentError: landmarks that coincide or are not finite.
    """
    at = np.asarray(landmarks, np.float64)
    eyes = at[36:42].mean(0), at[42:48].mean(0)
    middle, across = (eyes[0] + eyes[1]) / 2, eyes[1] - eyes[0]
    down = (at[48] + at[54]) / 2 - middle
    # along the eyes' line, corrected by the line from eyes to mouth
    axis = across + np.array([down[1], -down[0]])
    length = float(np.linalg.norm(axis))
    half = max(2.0 * float(np.linalg.norm(across)), 1.8 * float(np.linalg.norm(down)))
    if not np.isfinite(at).all() or length < 1e-6 or half < 1e-6:
        raise AlignmentError(
            "expected landmarks of a face; got points that coincide or NaN; use another photo"
        )
    x = axis / length * half
    centre = middle + 0.1 * down
    unit = np.array([[x[0], x[1]], [-x[1], x[0]]]) / half**2 * (size / 2)  # rows: to the right, down
    return np.concatenate([unit, ((size - 1) / 2 - unit @ centre)[:, None]], 1)


def matrix(alignment: str, points: NDArray[np.floating], landmarks: NDArray[np.floating], size: int) -> F64:
    """`(2, 3)` from the photo to the square of one framing.

    Args:
        alignment: one of `ALIGNMENTS`.
        points: `(5, 2)` of the detected face, pixels of the photo.
        landmarks: `(68, 2)` of the same face.
        size: side of the square in pixels.

    Raises:
        AlignmentError: points or landmarks, whichever the framing goes by, that coincide or are not finite.
    """
    if alignment == "ffhq":
        return ffhq(landmarks, size)
    out: F64 = warp.similarity(points[None], size)[0]
    return out


def resized(matrix: F64, size: int, other: int) -> F64:
    """The same square with `other` pixels instead of `size`."""
    out = matrix * (other / size)
    out[:, 2] += 0.5 * (other / size) - 0.5
    return out


def crop(photo: U8, matrix: F64, size: int, *, alignment: str) -> F32:
    """The square `(3, size, size)` in [0, 1], averaged where it shrinks.

    Beyond the photo `face` repeats the border; `ffhq` mirrors the photo there, blurred, and fades to its
    median colour, as the pictures that its encoders were trained on.
    """
    if alignment != "ffhq":
        return warp.crop(photo, matrix, size)
    side = size / float(warp.scale(matrix))
    corners = warp.apply(warp.invert(matrix), np.array([[0, 0], [size, 0], [0, size], [size, size]]) - 0.5)
    low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    last = np.array(photo.shape[1::-1]) - 1
    if (low >= 0).all() and (high <= last).all():
        return warp.crop(photo, matrix, size)
    least = round(PAD * side)
    low, high = np.minimum(low, -least), np.maximum(high, last + least)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ low
    return warp.crop(_continued(photo, low, high, BLUR * side), moved, size)


def _continued(photo: U8, low: NDArray[np.int_], high: NDArray[np.int_], blur_px: float) -> U8:
    """The photo from pixel `low` to `high`, mirrored, blurred and faded beyond its border."""
    from PIL import Image, ImageFilter

    depth, index = [], []
    for axis in (1, 0):
        last = photo.shape[axis] - 1
        at = np.arange(low[1 - axis], high[1 - axis] + 1)
        beyond = np.maximum(-at / max(-low[1 - axis], 1), (at - last) / max(high[1 - axis] - last, 1))
        depth.append(np.clip(beyond, 0, 1))
        folded = np.abs(at) % max(2 * last, 1)
        index.append(np.minimum(folded, 2 * last - folded) if last else np.zeros_like(at))
    share = np.maximum(depth[0][None, :], depth[1][:, None]).astype(np.float32)[..., None]
    out = photo[index[1]][:, index[0]]
    soft = np.asarray(Image.fromarray(out).filter(ImageFilter.GaussianBlur(blur_px)), np.float32)
    mixed = out + np.clip(3 * share, 0, 1) * (soft - out)
    median = np.median(photo.reshape(-1, 3)[:: max(1, photo.shape[0] * photo.shape[1] // 100_000)], 0)
    return np.asarray(mixed + share * (median - mixed) + 0.5).astype(np.uint8)

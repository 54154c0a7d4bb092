"""Faces of which a table knows only box and roll, cut out again.

box, roll ─ points_of ─► five points ─ warp ─► crop ─ fitting.read ─► landmarks ─ warp ─► crop
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceunits.alignment import warp
from faceunits.errors import AlignmentError

if TYPE_CHECKING:
    from faceunits.fitting import Models

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Aligned:
    """A face cut out anew: `crop` `(3, S, S)` in [0, 1], `landmarks` `(68, 2)` pixels of the picture."""

    crop: F32
    landmarks: F32


def align(picture: U8, faces: Sequence[tuple[F32, float]], networks: Models) -> list[Aligned | None]:
    """Crops and landmarks of faces of which a table has box and roll; None where they have none.

    Twice: a first crop from box and roll, whose size is off for turned heads, then one from the landmarks
    that E reads in the first.

    Args:
        picture: `(H, W, 3)` uint8.
        faces: box `(4,)` in pixels, and roll in degrees (NaN counts as 0).
        networks: of `estimation.models`.
    """
    from faceunits.rig.shape import five_points

    points = [points_of(box, roll) for box, roll in faces]
    first = _read(picture, points, networks)
    return _read(picture, [None if a is None else five_points(a.landmarks) for a in first], networks)


def _read(
    picture: U8, points: Sequence[NDArray[np.floating] | None], networks: Models
) -> list[Aligned | None]:
    """Crops at five points each, and the landmarks in them, all faces in one batch."""
    from faceunits import fitting

    size = networks.crop_size
    cuts: dict[int, tuple[F64, F32]] = {}
    for i, five in enumerate(points):
        try:
            if five is not None:
                matrix = np.asarray(warp.similarity(five[None], size))[0]
                cuts[i] = (matrix, warp.crop(picture, matrix, size))
        except AlignmentError:
            continue
    out: list[Aligned | None] = [None] * len(points)
    if cuts:
        landmarks = fitting.read(np.stack([crop for _, crop in cuts.values()]), networks).landmarks
        for (i, (matrix, crop)), seen in zip(cuts.items(), landmarks, strict=True):
            out[i] = Aligned(crop, warp.apply(warp.invert(matrix), seen).astype(np.float32))
    return out


def points_of(box: F32, roll_deg: float) -> F64 | None:
    """`(5, 2)` points of the template face that has this box and roll; None for a box that is undefined.

    The way back of `warp.face_box`, exact for a face seen from the front.
    """
    if not np.isfinite(box).all() or box[2] <= 0:
        return None
    angle = np.radians(roll_deg if np.isfinite(roll_deg) else 0.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    template = (warp.TEMPLATE - warp.TEMPLATE.mean(0)) @ turn.T
    raw = warp.face_box(template).astype(np.float64)
    points: F64 = (template - raw[:2] - raw[2:] / 2) * (float(box[2]) / raw[2]) + box[:2] + box[2:] / 2
    return points

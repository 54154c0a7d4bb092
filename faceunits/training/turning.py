"""Portraits turned aside: nearly every photo here is frontal, and the detector must bear profiles.

The photo is hung on its own landmark mesh with a mean depth, the mesh is turned, and the rest of the
picture is drawn along (after face profiling, Zhu et al. 2016). Crude beside a true profile, but eyes,
nose and mouth go where they go on a turned head, and the far ones disappear.
"""

from __future__ import annotations

import math
from pathlib import Path

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from faceunits.evaluation.photos import Photo

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""MediaPipe's indices of the face's outline."""

_SPOTS = ((33, 133), (362, 263), (4,), (61,), (291,))
_RINGS = ((1.25, 0.35, 1.0), (1.6, 0.75, 0.8), (2.2, 1.0, 0.35))
"""Rings about the face that turn with it: size, depth behind the outline in pupil distances, and how
much of the movement they make: hair turns with the head, the wall does not."""


def mean_depth(data: Path) -> F64:
    """`(468,)` depth of the mesh in pupil distances, + away from the viewer, mean of the London set."""
    with np.load(data / "london" / "landmarks.npz") as z:
        mesh = np.concatenate([z["neutral_mediapipe478"], z["smiling_mediapipe478"]]).astype(np.float64)
    pupils = np.hypot(*(_spot(mesh, 1) - _spot(mesh, 0)).T)
    depth: F64 = (mesh[:, :468, 2] / pupils[:, None]).mean(0)
    return depth


def _spot(mesh: F64, i: int) -> F64:
    out: F64 = mesh[:, list(_SPOTS[i]), :2].mean(1)
    return out


def turn(photo: Photo, mesh: F64, depth: F64, yaw_deg: float, pitch_deg: float) -> Photo:
    """The photo with its head turned.

    Args:
        photo: a nearly frontal one.
        mesh: `(468, 2)` its landmarks in pixels.
        depth: `(468,)` of `mean_depth`.
        yaw_deg: + towards the subject's left (image right).
        pitch_deg: + nose down.
    """
    unit = float(np.hypot(*(mesh[list(_SPOTS[1])].mean(0) - mesh[list(_SPOTS[0])].mean(0))))
    height, width = photo.image.shape[:2]
    outline, middle = mesh[list(OVAL)], mesh[list(OVAL)].mean(0)
    flat = [np.column_stack([mesh, depth * unit])]
    share = [np.ones(len(mesh))]
    for size, behind, moved in _RINGS:
        ring = middle + (outline - middle) * size
        flat.append(np.column_stack([ring, (depth[list(OVAL)] + behind) * unit]))
        share.append(np.full(len(OVAL), moved))
    t = np.linspace(0, 1, 9)
    edge = [(x, y) for x in t for y in t if x in (0, 1) or y in (0, 1)]
    # The border lies outside the picture, or the outer ring would fold over it.
    border = (np.array(edge) * 2 - 0.5) * (width, height)
    flat.append(np.column_stack([border, np.full(len(border), 2 * unit)]))
    share.append(np.zeros(len(border)))
    before = np.concatenate(flat)
    part = np.concatenate(share)[:, None]
    pivot = np.array([*middle, 1.2 * unit])  # the neck's axis
    a, b = math.radians(yaw_deg), math.radians(pitch_deg)
    # Depth grows away from the viewer: the nose (low depth) must go right for a positive yaw.
    about_y = np.array([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    turned = (before - pivot) @ (about_y @ about_x).T + pivot
    after = before + (turned - before) * part
    triangles = Delaunay(before[:, :2]).simplices.astype(np.int32)
    image = _drape(photo.image, before[:, :2].copy(), after.copy(), triangles)
    shift = after[:468, :2] - before[:468, :2]
    moved_points = photo.points + np.stack([shift[list(s)].mean(0) for s in _SPOTS])
    return Photo(image, moved_points, photo.person, False)


@nb.njit(cache=True, fastmath=True)
def _drape(image: U8, before: F64, after: F64, triangles: I32) -> U8:
    """The picture redrawn with `before` `(N, 2)` moved to `after` `(N, 3)`; the nearest surface shows."""
    height, width = image.shape[:2]
    out = np.zeros_like(image)
    nearest = np.full((height, width), 1e9)
    for t in range(len(triangles)):
        i, j, k = triangles[t]
        ax, ay = after[i, 0], after[i, 1]
        bx, by = after[j, 0] - ax, after[j, 1] - ay
        cx, cy = after[k, 0] - ax, after[k, 1] - ay
        area = bx * cy - by * cx
        if abs(area) < 1e-6:
            continue
        u0 = max(0, math.floor(ax + min(0.0, bx, cx)))
        u1 = min(width - 1, math.ceil(ax + max(0.0, bx, cx)))
        v0 = max(0, math.floor(ay + min(0.0, by, cy)))
        v1 = min(height - 1, math.ceil(ay + max(0.0, by, cy)))
        for v in range(v0, v1 + 1):
            for u in range(u0, u1 + 1):
                p = ((u - ax) * cy - (v - ay) * cx) / area
                q = ((v - ay) * bx - (u - ax) * by) / area
                if p < -1e-6 or q < -1e-6 or p + q > 1 + 1e-6:
                    continue
                z = after[i, 2] + p * (after[j, 2] - after[i, 2]) + q * (after[k, 2] - after[i, 2])
                if z >= nearest[v, u]:
                    continue
                nearest[v, u] = z
                x = before[i, 0] + p * (before[j, 0] - before[i, 0]) + q * (before[k, 0] - before[i, 0])
                y = before[i, 1] + p * (before[j, 1] - before[i, 1]) + q * (before[k, 1] - before[i, 1])
                x = min(max(x, 0.0), width - 1.001)
                y = min(max(y, 0.0), height - 1.001)
                x0, y0 = int(x), int(y)
                fx, fy = x - x0, y - y0
                for c in range(3):
                    top = image[y0, x0, c] * (1 - fx) + image[y0, x0 + 1, c] * fx
                    bottom = image[y0 + 1, x0, c] * (1 - fx) + image[y0 + 1, x0 + 1, c] * fx
                    out[v, u, c] = np.uint8(top * (1 - fy) + bottom * fy + 0.5)
    return out

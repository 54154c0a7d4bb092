"""Triangles to pixels in numba: one z-buffer pass gives, per sample, the triangle and the place in it.

Colour, labels and depth are then looked up from that one pass (deferred shading), so they agree
exactly. No gradient is needed here: generator M is trained to imitate the result.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@nb.njit(cache=True, fastmath=True, nogil=True)
def visibility(screen: F32, triangles: I32, size: int) -> tuple[I32, F32, F32]:
    """Nearest front-facing triangle of every sample.

    Args:
        screen: `(V, 3)` x, y in samples (first sample centred on (0, 0)), depth (larger = nearer).
        triangles: `(T, 3)`, counter-clockwise from outside. Back faces are not drawn: the mouth
            socket would poke through the chin.
        size: samples per side.

    Returns:
        `(S, S)` triangle or -1; `(S, S, 2)` barycentric weights of its 2nd and 3rd corner;
        `(S, S)` depth, -1e9 where nothing is.
    """
    index = np.full((size, size), -1, np.int32)
    bary = np.zeros((size, size, 2), np.float32)
    depth = np.full((size, size), -1e9, np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = screen[a, 0], screen[a, 1]
        bx, by = screen[b, 0] - ax, screen[b, 1] - ay
        cx, cy = screen[c, 0] - ax, screen[c, 1] - ay
        area = bx * cy - by * cx
        if area >= -1e-9:  # y points down, so the outside is clockwise on the screen
            continue
        x0 = max(int(np.ceil(ax + min(0.0, bx, cx))), 0)
        x1 = min(int(np.floor(ax + max(0.0, bx, cx))), size - 1)
        y0 = max(int(np.ceil(ay + min(0.0, by, cy))), 0)
        y1 = min(int(np.floor(ay + max(0.0, by, cy))), size - 1)
        if x0 > x1 or y0 > y1:
            continue
        inverse = np.float32(1.0) / area
        az = screen[a, 2]
        bz, cz = screen[b, 2] - az, screen[c, 2] - az
        for y in range(y0, y1 + 1):
            py = y - ay
            for x in range(x0, x1 + 1):
                px = x - ax
                u = (px * cy - py * cx) * inverse
                v = (bx * py - by * px) * inverse
                if u >= 0 and v >= 0 and u + v <= 1:
                    z = az + u * bz + v * cz
                    if z > depth[y, x]:
                        depth[y, x] = z
                        index[y, x] = t
                        bary[y, x, 0] = u
                        bary[y, x, 1] = v
    return index, bary, depth


@nb.njit(cache=True, fastmath=True, nogil=True)
def normals(points: F32, triangles: I32) -> F32:
    """`(V, 3)` unit normals, mean of the adjoining triangles weighted by area."""
    out = np.zeros_like(points)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        e0, e1, e2 = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        f0, f1, f2 = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        n0, n1, n2 = e1 * f2 - e2 * f1, e2 * f0 - e0 * f2, e0 * f1 - e1 * f0
        for k in (a, b, c):
            out[k, 0] += n0
            out[k, 1] += n1
            out[k, 2] += n2
    for v in range(out.shape[0]):
        length = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2) + 1e-12
        out[v] /= length
    return out


@nb.njit(cache=True, fastmath=True, nogil=True)
def areas(points: F32, triangles: I32) -> F32:
    """`(V,)` area around each vertex, cm^2: its shrinking under an expression marks a fold."""
    out = np.zeros(points.shape[0], np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        e0, e1, e2 = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        f0, f1, f2 = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        n0, n1, n2 = e1 * f2 - e2 * f1, e2 * f0 - e0 * f2, e0 * f1 - e1 * f0
        area = np.sqrt(n0 * n0 + n1 * n1 + n2 * n2) / 6
        out[a] += area
        out[b] += area
        out[c] += area
    return out

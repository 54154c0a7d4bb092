"""Moves the pixels: the photo as the texture of a mesh that is drawn elsewhere.

Each pixel of the result asks the triangle drawn there where in the photo its skin was, and reads that
place with a cubic kernel (Keys 1981, a = -1/2): a place that did not move gives its own pixel back
exactly. Four samples per pixel settle which surface a pixel at an edge shows.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from faceunits.rig import raster

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]

SAMPLES = 2
"""Samples per pixel and direction."""


def visible(
    points: F64, depth: F32, triangles: I32, corner: tuple[int, int], size: int, *, firm: int | None = None
) -> tuple[I32, F32]:
    """Which triangle each sample of a square shows.

    Args:
        points: `(V, 2)` pixels of the photo.
        depth: `(V,)` larger is nearer.
        triangles: `(T, 3)` counter-clockwise from outside.
        corner: x, y of the square's first pixel.
        size: of the square, pixels.
        firm: triangles from this one on are left out where they are slivers; all are drawn when None.

    Returns:
        `(n, n)` triangle or -1 and `(n, n, 2)` place in it, n = `SAMPLES * size`.
    """
    at = (points - corner) * SAMPLES + (SAMPLES - 1) / 2
    screen = np.column_stack([at, depth]).astype(np.float32)
    # long slivers are not exact in single precision and hit samples beside them
    first, second, third = (screen[triangles[:, i], :2] for i in range(3))
    a, b = second - first, third - first
    area, longest = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]), np.maximum((a**2).sum(1), (b**2).sum(1))
    sound = (area > np.maximum(0.02, 4e-3 * longest)) | (
        np.arange(len(triangles)) < (len(triangles) if firm is None else firm)
    )
    shown = triangles * sound[:, None].astype(np.int32)
    index, bary, _ = raster.visibility(screen, shown, size * SAMPLES)
    return index, bary


@nb.njit(cache=True, nogil=True)
def _weights(t: float, out: F64) -> None:
    """Four cubic weights for a place t in [0, 1) between the middle two pixels."""
    out[0] = ((-0.5 * t + 1.0) * t - 0.5) * t
    out[1] = (1.5 * t - 2.5) * t * t + 1.0
    out[2] = ((-1.5 * t + 2.0) * t + 0.5) * t
    out[3] = (0.5 * t - 0.5) * t * t


@nb.njit(cache=True, nogil=True)
def _read(photo: U8, x: float, y: float, wx: F64, wy: F64, out: F64) -> None:
    """The photo at a place; beyond it the border repeats."""
    height, width = photo.shape[0], photo.shape[1]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    i, j = int(np.floor(y)), int(np.floor(x))
    _weights(x - j, wx)
    _weights(y - i, wy)
    for c in range(out.shape[0]):
        out[c] = 0.0
    for k in range(4):
        row = min(max(i - 1 + k, 0), height - 1)
        for m in range(4):
            column = min(max(j - 1 + m, 0), width - 1)
            share = wy[k] * wx[m]
            for c in range(out.shape[0]):
                out[c] += share * photo[row, column, c]
    for c in range(out.shape[0]):
        out[c] = min(max(out[c], 0.0), 255.0)


@nb.njit(cache=True, nogil=True)
def compose(
    photo: U8, x0: int, y0: int, index: I32, bary: F32, triangles: I32, source: F64, light: F32,
    hole: NDArray[np.bool_], inner: U8,
) -> U8:  # fmt: skip
    """The square of the photo with its skin moved and its openings filled.

    Args:
        photo: `(H, W, C)` uint8.
        x0: first column of the square.
        y0: its first row.
        index: `(n, n)` of `visible`: the skin's triangle.
        bary: `(n, n, 2)` of `visible`.
        triangles: `(T, 3)`.
        source: `(V, 2)` pixels of the photo from which each point takes its colour.
        light: `(V,)` factor on the colour, not on alpha.
        hole: `(n, n)` samples that show the inside of eyes or mouth where there is no skin.
        inner: `(s, s, C)` what is inside.
    """
    n, size = SAMPLES, index.shape[0] // SAMPLES
    channels = photo.shape[2]
    out = np.empty((size, size, channels), np.uint8)
    wx, wy, color, total = np.zeros(4), np.zeros(4), np.zeros(channels), np.zeros(channels)
    sx, sy, sl = np.zeros(n * n), np.zeros(n * n), np.zeros(n * n)
    for i in range(size):
        for j in range(size):
            skin, inside = 0, 0
            mx, my, ml = 0.0, 0.0, 0.0
            for a in range(n):
                for b in range(n):
                    t = index[n * i + a, n * j + b]
                    if t >= 0:
                        v, w = bary[n * i + a, n * j + b, 0], bary[n * i + a, n * j + b, 1]
                        u = 1.0 - v - w
                        p, q, r = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                        sx[skin] = u * source[p, 0] + v * source[q, 0] + w * source[r, 0]
                        sy[skin] = u * source[p, 1] + v * source[q, 1] + w * source[r, 1]
                        sl[skin] = u * light[p] + v * light[q] + w * light[r]
                        mx, my, ml = mx + sx[skin], my + sy[skin], ml + sl[skin]
                        skin += 1
                    elif hole[n * i + a, n * j + b]:
                        inside += 1
            y, x = min(max(y0 + i, 0), photo.shape[0] - 1), min(max(x0 + j, 0), photo.shape[1] - 1)
            for c in range(channels):
                out[i, j, c] = photo[y, x, c]
            if skin == 0 and inside == 0:
                continue
            for c in range(channels):
                total[c] = (n * n - skin - inside) * photo[y, x, c] + inside * inner[i, j, c]
            if skin > 0:
                mx, my, ml = mx / skin, my / skin, ml / skin
                wide = 0.0
                for k in range(skin):
                    wide = max(wide, abs(sx[k] - mx), abs(sy[k] - my))
                if skin == n * n and abs(mx - x) + abs(my - y) < 0.01 and abs(ml - 1) < 0.002 and wide < 1.0:
                    continue  # what stays where it is stays what it is
                if wide < 0.8:
                    _read(photo, mx, my, wx, wy, color)
                    for c in range(channels):
                        total[c] += skin * (min(color[c] * ml, 255.0) if c < 3 else color[c])
                else:  # skin from far apart, or drawn much smaller: mean of the samples
                    for k in range(skin):
                        _read(photo, sx[k], sy[k], wx, wy, color)
                        for c in range(channels):
                            total[c] += min(color[c] * sl[k], 255.0) if c < 3 else color[c]
            for c in range(channels):
                out[i, j, c] = np.uint8(total[c] / (n * n) + 0.5)
    return out


@nb.njit(cache=True, nogil=True)
def lookup(index: I32, bary: F32, triangles: I32, values: F32) -> F32:
    """`(s, s, C)` values `(V, C)` of the points, interpolated; mean over the samples of a pixel that show
    a triangle, and in the last channel the share of those."""
    n, size = SAMPLES, index.shape[0] // SAMPLES
    channels = values.shape[1]
    out = np.zeros((size, size, channels + 1), np.float32)
    for i in range(size):
        for j in range(size):
            count = 0
            for a in range(n):
                for b in range(n):
                    t = index[n * i + a, n * j + b]
                    if t < 0:
                        continue
                    count += 1
                    v, w = bary[n * i + a, n * j + b, 0], bary[n * i + a, n * j + b, 1]
                    for c in range(channels):
                        out[i, j, c] += (
                            (1 - v - w) * values[triangles[t, 0], c]
                            + v * values[triangles[t, 1], c] + w * values[triangles[t, 2], c]
                        )  # fmt: skip
            if count:
                for c in range(channels):
                    out[i, j, c] /= count
                out[i, j, channels] = count / (n * n)
    return out


def fill(image: F32, known: F32) -> F32:
    """The image with unknown pixels filled from the known ones near them, the smoother the farther.

    Args:
        image: `(h, w, C)`.
        known: `(h, w)` 0..1.
    """
    share = np.clip(known, 0, 1)[..., None].astype(np.float32)
    if min(image.shape[:2]) < 2:
        total = float(share.sum())
        mean = (image * share).sum((0, 1)) / total if total > 0 else np.zeros(image.shape[2], np.float32)
        return np.asarray(image * share + mean * (1 - share), np.float32)
    h, w = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2

    def halve(a: F32) -> F32:
        return np.asarray(a[:h, :w].reshape(h // 2, 2, w // 2, 2, -1).mean((1, 3)), np.float32)

    weight = halve(share)
    small = np.asarray(halve(image * share) / np.maximum(weight, 1e-6), np.float32)
    below = fill(small, np.clip(2 * weight[..., 0], 0, 1).astype(np.float32))
    rows = np.clip((np.arange(image.shape[0]) - 0.5) / 2, 0, h // 2 - 1)
    columns = np.clip((np.arange(image.shape[1]) - 0.5) / 2, 0, w // 2 - 1)
    return np.asarray(image * share + _bilinear(below, rows, columns) * (1 - share), np.float32)


def _bilinear(image: F32, rows: F64, columns: F64) -> F32:
    r, c = rows.astype(int), columns.astype(int)
    r1, c1 = np.minimum(r + 1, image.shape[0] - 1), np.minimum(c + 1, image.shape[1] - 1)
    fr = (rows - r).astype(np.float32)[:, None, None]
    fc = (columns - c).astype(np.float32)[None, :, None]
    top = image[r][:, c] * (1 - fc) + image[r][:, c1] * fc
    low = image[r1][:, c] * (1 - fc) + image[r1][:, c1] * fc
    out: F32 = (top * (1 - fr) + low * fr).astype(np.float32)
    return out


def blur(plane: F32, radius: float) -> F32:
    """`(h, w)` Gaussian blur of values in 0..1, radius in pixels."""
    from PIL import Image, ImageFilter

    grey = Image.fromarray(np.clip(plane * 255 + 0.5, 0, 255).astype(np.uint8))
    out: F32 = (np.asarray(grey.filter(ImageFilter.GaussianBlur(radius))) / 255).astype(np.float32)
    return out

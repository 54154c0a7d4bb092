"""What shows in the openings: eyeballs that stay, the mouth as far as the photo shows it, and teeth.

The upper teeth belong to the skull and stay; the lower ones and the gums below go with the jaw. What the
photo shows of them moves accordingly; what it does not show is drawn from the mesh, in colours and light
taken from the photo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faceunits.motion import draw, face
from faceunits.networks.mesh import TEETH_LOWER, TEETH_UPPER

if TYPE_CHECKING:
    from faceunits.motion.engine import Stage

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

LID_NAMES = ("lid_L", "lid_R")


def show(stage: Stage, shape: face.Shape, points: F64, index: I32) -> tuple[Mask, U8]:
    """Samples that look into an opening, and a picture of the square as if there were no skin.

    Args:
        stage: the photo.
        shape: the mesh as it will be.
        points: `(V, 2)` its places in the photo.
        index: `(n, n)` the skin's triangles, -1 where there is none.
    """
    x0, y0, size = stage.square
    photo = crop(stage.picture, x0, y0, size)
    inner = photo.astype(np.float32)
    now = stage.photo_points(stage.laid.shape)
    hole = np.zeros(index.shape, bool)
    for name in (*LID_NAMES, "lip"):
        loop = stage.laid.array(name).astype(int)
        box = _box(np.concatenate([points[loop], now[loop]]), (x0, y0), size)
        opening = _polygon(points[loop], (x0, y0), box)
        here = _samples(box)
        opening &= (index[here] < 0) & stage.covered[here]
        if not opening.any():
            continue
        hole[here] |= opening
        rows, columns = slice(box[1], box[3]), slice(box[0], box[2])
        # what the photo shows: its own opening, without the soft edge
        shown = _mean(_polygon(now[loop], (x0, y0), box) & ~stage.skin_now[here])
        edge = (0.03 if name == "lip" else 0.04) * stage.pixels_per_cm
        known = np.clip(2 * draw.blur(shown, max(edge, 0.6)) - 1, 0, 1) * (shown > 0.99)
        if name == "lip":
            inner[rows, columns] = _mouth(stage, shape, points, now, box, known, _mean(opening))
        else:
            inner[rows, columns] = draw.fill(inner[rows, columns], known)
    return hole, np.clip(inner + 0.5, 0, 255).astype(np.uint8)


def crop(picture: U8, x0: int, y0: int, size: int) -> U8:
    """`(size, size, C)` of a picture; beyond it the border repeats."""
    rows = np.clip(np.arange(y0, y0 + size), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(x0, x0 + size), 0, picture.shape[1] - 1)
    return picture[rows][:, columns]


def openings(stage: Stage) -> Mask:
    """`(n, n)` samples of the square inside the rims of eyes and mouth, as they are in the photo."""
    x0, y0, size = stage.square
    now = stage.photo_points(stage.laid.shape)
    out = np.zeros((draw.SAMPLES * size, draw.SAMPLES * size), bool)
    for name in (*LID_NAMES, "lip"):
        loop = now[stage.laid.array(name).astype(int)]
        box = _box(loop, (x0, y0), size)
        out[_samples(box)] |= _polygon(loop, (x0, y0), box)
    return out


Box = tuple[int, int, int, int]


def _box(points: F64, corner: tuple[int, int], size: int) -> Box:
    """First and last column and row, in pixels of the square, of a rectangle around points."""
    low = np.clip(np.floor(points.min(0) - corner).astype(int) - 4, 0, size - 2)
    high = np.clip(np.ceil(points.max(0) - corner).astype(int) + 5, low + 2, size)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _samples(box: Box) -> tuple[slice, slice]:
    n = draw.SAMPLES
    return slice(n * box[1], n * box[3]), slice(n * box[0], n * box[2])


def _polygon(loop: F64, corner: tuple[int, int], box: Box) -> Mask:
    """Samples of a rectangle inside a closed line of points."""
    from PIL import Image, ImageDraw

    n = draw.SAMPLES
    at = (loop - corner - (box[0], box[1])) * n + (n - 1) / 2
    plane = Image.new("1", (n * (box[2] - box[0]), n * (box[3] - box[1])))
    ImageDraw.Draw(plane).polygon([(float(x), float(y)) for x, y in at], fill=1, outline=1)
    return np.array(plane)


def _mean(samples: Mask) -> F32:
    """`(h, w)` share of each pixel's samples."""
    n = draw.SAMPLES
    h, w = samples.shape[0] // n, samples.shape[1] // n
    out: F32 = samples.reshape(h, n, w, n).mean((1, 3), dtype=np.float32)
    return out


def _mouth(stage: Stage, shape: face.Shape, points: F64, now: F64, box: Box, known: F32, opening: F32) -> F32:
    """The rectangle around the mouth as if the lips were of glass."""
    x0, y0, _ = stage.square
    h, w = box[3] - box[1], box[2] - box[0]
    side = max(h, w)
    photo = crop(stage.picture, x0 + box[0], y0 + box[1], side).astype(np.float32)
    triangles, kind = face.inner_triangles(stage.laid.mesh), stage.laid.array("kind")
    count = len(shape.points)
    place, before = points[:count], now[:count]
    corner = (x0 + box[0], y0 + box[1])
    index, bary = draw.visible(place, shape.solid[:, 2], triangles, corner, side)
    skull = np.isin(kind, (TEETH_UPPER, TEETH_LOWER)).astype(np.float32)
    lips = float(shape.solid[stage.laid.array("landmarks")[[62, 66]], 2].mean())
    deep = np.clip(lips - shape.solid[:, 2] - 1.0, 0, 6)
    values = np.column_stack([before - corner, skull, deep, shape.normal[:, 2]]).astype(np.float32)
    seen = draw.lookup(index, bary, triangles, values)[:h, :w]
    covered = seen[..., -1:]
    drawn = _colours(stage, photo[:h, :w], known, seen, opening)
    if known.max() <= 0:
        return drawn
    # where what is seen now was before: teeth by their mesh, the dark behind them where it is
    grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)
    was = covered * seen[..., :2] + (1 - covered) * grid
    there = _sample(np.concatenate([photo[:h, :w], 255 * known[..., None]], -1), was)
    share = (there[..., -1:] / 255).astype(np.float32)
    # what the photo shows also tells the colours of what it does not
    match = draw.fill(_sample(photo[:h, :w] - drawn, was), np.asarray(share[..., 0], np.float32))
    drawn = np.asarray(np.clip(drawn + 0.6 * match, 0, 255), np.float32)
    return np.asarray(there[..., :-1] * share + drawn * (1 - share), np.float32)


def _sample(image: F32, at: F32) -> F32:
    """Bilinear `(h, w, C)` at `(h, w, 2)` pixels x, y."""
    h, w = image.shape[:2]
    x, y = np.clip(at[..., 0], 0, w - 1.001), np.clip(at[..., 1], 0, h - 1.001)
    j, i = x.astype(int), y.astype(int)
    fx, fy = (x - j)[..., None], (y - i)[..., None]
    top = image[i, j] * (1 - fx) + image[i, j + 1] * fx
    low = image[i + 1, j] * (1 - fx) + image[i + 1, j + 1] * fx
    return np.asarray(top * (1 - fy) + low * fy, np.float32)


def _colours(stage: Stage, photo: F32, known: F32, seen: F32, opening: F32) -> F32:
    """`(h, w, 3)` teeth, gums and the dark behind them in the light of the photo."""
    tooth, gum, dark = palette(stage, photo, known)
    tooth_share, deep, front = seen[..., 2:3], seen[..., 3:4], seen[..., 4:5]
    color = gum + tooth_share * (tooth - gum)
    color = color * np.clip(0.75 + 0.3 * front, 0.5, 1.05) * np.clip(1 - 0.22 * deep, 0.12, 1)
    color = dark + seen[..., -1:] * (color - dark)
    # what lies between two teeth is a shade, not a hole: the row of teeth is closed
    own = seen[..., -1:] * tooth_share
    row = draw.blur(own[..., 0], 0.13 * stage.pixels_per_cm)[..., None]
    depth = draw.fill(deep, own[..., 0])
    smooth_tooth = tooth * np.clip(1 - 0.22 * depth, 0.2, 1) * (0.9 + 0.1 * own)
    color = color + np.clip((row - 0.45) / 0.1, 0, 1) * (smooth_tooth - color)
    # lips throw a soft shadow into the mouth, and little light enters a narrow gap
    shadow = draw.blur(opening, 0.35 * stage.pixels_per_cm)
    height = opening.sum() / max(float((opening.max(0) > 0).sum()), 1) / stage.pixels_per_cm
    entering = 0.65 + 0.35 * float(np.clip(height / 0.3, 0, 1))
    out = color * entering * np.clip(0.75 + 0.45 * shadow[..., None], 0, 1)
    if photo.shape[-1] > 3:
        out = np.concatenate([out, np.full((*out.shape[:2], photo.shape[-1] - 3), 255)], -1)
    return np.asarray(out, np.float32)


def palette(stage: Stage, photo: F32, known: F32) -> tuple[F32, F32, F32]:
    """Colours `(3,)` of teeth, gums and the dark, from what the photo shows of mouth, lips and skin."""
    at = np.round(stage.photo_points(stage.laid.shape)).astype(int)
    marks = stage.laid.array("landmarks")

    def mean(numbers: list[int]) -> F32:
        x = np.clip(at[marks[numbers], 0], 0, stage.picture.shape[1] - 1)
        y = np.clip(at[marks[numbers], 1], 0, stage.picture.shape[0] - 1)
        out: F32 = np.median(stage.picture[y, x, :3].astype(np.float32), 0)
        return out

    # upper lip and nose: lit like the mouth between them
    skin, lip = mean([30, 33, 31, 35]), mean([50, 51, 52, 56, 57, 58])
    light = float(np.clip(skin.max() * 1.12, 60, 240))
    tooth = light * np.array([1.0, 0.95, 0.88], np.float32)
    shown = photo[known > 0.5][:, :3] if (known > 0.5).sum() > 30 else np.zeros((0, 3), np.float32)
    if len(shown):
        bright = np.percentile(shown, 85, axis=0).astype(np.float32)
        if bright.mean() > 0.55 * light:  # these are teeth
            tooth = bright
    gum = 0.55 * lip * np.array([1.0, 0.85, 0.85], np.float32)
    dark = 0.14 * lip * np.array([1.0, 0.7, 0.65], np.float32)
    return tooth, gum.astype(np.float32), dark.astype(np.float32)

"""Pictures with known faces for the detector: portraits pasted anywhere, and everything degraded.

Real portraits are few and alike; what the detector must bear (size, tilt, place, darkness, blur, noise,
clutter, occlusion) is made here from a seed, so a data set never has to be stored. Also made here are
the pictures it must not fire on: textures, drawn cartoon faces, shuffled faces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faceunits.alignment.warp import face_box, face_size
from faceunits.evaluation.photos import Photo
from faceunits.training.scenery import degrade, draw_cartoon, draw_clutter, noise_field, occlude, shuffle_face
from faceunits.types import FIVE_MIRROR

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Portrait:
    """A photo with one face: `levels` is its pyramid (each half the last), `points` `(5, 2)`."""

    levels: tuple[U8, ...]
    points: F32
    weight: float = 1.0


@dataclass(frozen=True)
class Composite:
    """`image` `(S, S, 3)` uint8; `points` `(F, 5, 2)`; `visible` `(F,)` share of each face in sight.

    `false_points` `(G, 5, 2)` lie on things made to look like a face that are none.
    """

    image: U8
    points: F32
    visible: F32
    false_points: F32


def portrait(image: U8, points: NDArray[np.floating], *, weight: float = 1.0) -> Portrait:
    """A photo with its pyramid, for pasting at any size without aliasing."""
    levels = [image]
    while min(levels[-1].shape[:2]) >= 32:
        last = levels[-1]
        last = last[: last.shape[0] // 2 * 2, : last.shape[1] // 2 * 2].astype(np.uint16)
        total = last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]
        levels.append(((total + 2) // 4).astype(np.uint8))
    return Portrait(tuple(levels), np.asarray(points, np.float32), weight)


def portraits(photos: list[Photo]) -> list[Portrait]:
    """Photos ready for pasting; the smaller and more varied set weighs more."""
    weight = {"london": 1.5, "canada": 1.0, "congress": 1.0}
    return [portrait(p.image, p.points, weight=weight[p.person.split("/")[0]]) for p in photos]


def patches(photos: list[Photo]) -> list[U8]:
    """Strips beside the faces: hair, ears, shoulders, rooms."""
    strips = []
    for photo in photos:
        reach = 1.25 * float(np.hypot(*(photo.points[1] - photo.points[0])))
        x = (photo.points[0, 0] + photo.points[1, 0]) / 2
        left, right = int(x - reach), int(x + reach)
        if left > 60:
            strips.append(photo.image[:, :left])
        if photo.image.shape[1] - right > 60:
            strips.append(photo.image[:, right:])
    return strips


@nb.njit(cache=True, fastmath=True)
def _paste(
    canvas: F32,
    locked: NDArray[np.bool_],
    source: U8,
    m: F32,
    centre: F32,
    oval: float,
    soft: float,
    gain: F32,
    bias: F32,
) -> None:
    """Draws `source` into `canvas` (in place); `m` `(2, 3)` leads from canvas to source pixels.

    `locked` `(S, S)` marks the faces that are there already: a portrait passes behind them.

    `oval` > 0 keeps only an ellipse of that half width (source pixels) about `centre`; `soft` is the
    width of the faded border in source pixels.
    """
    height, width = source.shape[:2]
    for v in range(canvas.shape[0]):
        for u in range(canvas.shape[1]):
            if locked[v, u]:
                continue
            x = m[0, 0] * u + m[0, 1] * v + m[0, 2]
            y = m[1, 0] * u + m[1, 1] * v + m[1, 2]
            if x < 0 or y < 0 or x > width - 1.001 or y > height - 1.001:
                continue
            inside = min(min(x, y), min(width - 1 - x, height - 1 - y))
            if oval > 0:
                r = math.sqrt(((x - centre[0]) / oval) ** 2 + ((y - centre[1]) / (1.3 * oval)) ** 2)
                inside = min(inside, (1 - r) * oval)
            if inside <= 0:
                continue
            alpha = min(1.0, inside / soft) if soft > 0 else 1.0
            x0, y0 = int(x), int(y)
            fx, fy = x - x0, y - y0
            for c in range(3):
                a = source[y0, x0, c] * (1 - fx) + source[y0, x0 + 1, c] * fx
                b = source[y0 + 1, x0, c] * (1 - fx) + source[y0 + 1, x0 + 1, c] * fx
                value = (a * (1 - fy) + b * fy) * gain[c] + bias[c]
                canvas[v, u, c] = canvas[v, u, c] * (1 - alpha) + alpha * value


@nb.njit(cache=True, fastmath=True)
def warp_crop(image: U8, m: F32, size: int) -> U8:
    """`(size, size, 3)` crop by `m` (crop to picture); 2 x 2 samples per pixel; the border repeats."""
    height, width = image.shape[:2]
    out = np.empty((size, size, 3), np.uint8)
    total = np.empty(3, np.float32)
    for v in range(size):
        for u in range(size):
            total[:] = 0
            for k in range(4):
                cu, cv = u + (k % 2 - 0.5) * 0.5, v + (k // 2 - 0.5) * 0.5
                x = min(max(m[0, 0] * cu + m[0, 1] * cv + m[0, 2], 0.0), width - 1.001)
                y = min(max(m[1, 0] * cu + m[1, 1] * cv + m[1, 2], 0.0), height - 1.001)
                x0, y0 = int(x), int(y)
                fx, fy = x - x0, y - y0
                for c in range(3):
                    a = image[y0, x0, c] * (1 - fx) + image[y0, x0 + 1, c] * fx
                    b = image[y0 + 1, x0, c] * (1 - fx) + image[y0 + 1, x0 + 1, c] * fx
                    total[c] += a * (1 - fy) + b * fy
            for c in range(3):
                out[v, u, c] = np.uint8(min(255.0, total[c] * 0.25 + 0.5))
    return out


class Composer:
    """Makes composites from portraits and face-free pictures.

    Args:
        portraits: photos with one face and its points.
        backgrounds: face-free pictures `(H, W, 3)` uint8.
        size: side of the composites in pixels.
    """

    def __init__(self, portraits: list[Portrait], backgrounds: list[U8], *, size: int = 256):
        self.portraits, self.backgrounds, self.size = portraits, backgrounds, size
        weights = np.array([p.weight for p in portraits], np.float64)
        self.chance = weights / weights.sum()

    def background(self, rng: np.random.Generator) -> U8:
        size = self.size
        if self.backgrounds and rng.random() < 0.55:
            source = self.backgrounds[rng.integers(len(self.backgrounds))]
            height, width = source.shape[:2]
            side = min(height, width) * rng.uniform(0.25, 1.0)
            x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
            box = (x, y, x + side, y + side)
            picture = Image.fromarray(source).resize((size, size), Image.Resampling.BILINEAR, box=box)
            if rng.random() < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            if rng.random() < 0.3:
                picture = picture.rotate(90 * int(rng.integers(1, 4)))
            image = np.asarray(picture)
            if rng.random() < 0.3:
                image = np.ascontiguousarray(image[..., rng.permutation(3)])
        else:
            image = noise_field(rng, size).astype(np.uint8)
        return draw_clutter(rng, image) if rng.random() < 0.4 else image

    def compose(self, rng: np.random.Generator) -> Composite:
        """One picture with zero to several faces."""
        size = self.size
        image = self.background(rng)
        false_points: list[F32] = []
        if rng.random() < 0.15:
            image, fake = draw_cartoon(rng, image)
            false_points.append(fake)
        canvas = image.astype(np.float32)
        wanted = int(rng.choice([0, 1, 2, 3, 5], p=[0.12, 0.4, 0.25, 0.15, 0.08]))
        points: list[F32] = []
        taken: list[F32] = []
        locked = np.zeros((size, size), np.bool_)
        grid = np.arange(size, dtype=np.float32)
        for _ in range(wanted):
            largest = size * (1.15 if wanted == 1 else 0.9 / math.sqrt(wanted))
            face = math.exp(rng.uniform(math.log(13), math.log(largest)))
            centre = self._place(rng, face, taken)
            if centre is None:
                continue
            taken.append(np.array([*centre, face], np.float32))
            shuffled = bool(rng.random() < 0.06)
            p = self._paste_one(rng, canvas, locked, face, centre, shuffled=shuffled)
            locked |= (grid - centre[0]) ** 2 + (grid[:, None] - centre[1]) ** 2 < (0.7 * face) ** 2
            (false_points if shuffled else points).append(p)
        image = np.clip(canvas, 0, 255).astype(np.uint8)
        visible = np.ones(len(points), np.float32)
        for i, p in enumerate(points):
            if rng.random() < 0.2:
                image = occlude(rng, image, p)
            visible[i] = share_inside(p, size)
        if rng.random() < 0.05:  # letterbox
            band = int(rng.uniform(0, 0.2) * size)
            image = image.copy()
            image[:band] = image[size - band :] = 0
            for i, p in enumerate(points):
                if p[:, 1].min() < band or p[:, 1].max() > size - band:
                    visible[i] = 0.3
        return Composite(
            degrade(rng, image),
            np.array(points, np.float32).reshape(-1, 5, 2),
            visible,
            np.array(false_points, np.float32).reshape(-1, 5, 2),
        )

    def _place(self, rng: np.random.Generator, face: float, taken: list[F32]) -> tuple[float, float] | None:
        """A centre that hides no other face much; faces may be cut by the border."""
        for _ in range(8):
            margin = 0.25 * face if rng.random() < 0.25 else min(0.6 * face, self.size / 2)
            x, y = rng.uniform(margin, max(margin + 1e-3, self.size - margin), 2)
            if all(math.hypot(x - t[0], y - t[1]) > 0.75 * (face + t[2]) for t in taken):
                return float(x), float(y)
        return None

    def _paste_one(
        self,
        rng: np.random.Generator,
        canvas: F32,
        locked: NDArray[np.bool_],
        face: float,
        centre: tuple[float, float],
        *,
        shuffled: bool,
    ) -> F32:
        """Draws one portrait; returns its points in the canvas."""
        chosen = self.portraits[rng.choice(len(self.portraits), p=self.chance)]
        full = float(face_size(chosen.points))
        face = min(face, 1.6 * full)
        level = int(np.clip(math.log2(full / face), 0, len(chosen.levels) - 1))
        source = chosen.levels[level]
        p = (chosen.points + 0.5) / 2**level - 0.5
        mirrored = rng.random() < 0.5
        if mirrored:
            source = source[:, ::-1]
            p = np.stack([source.shape[1] - 1 - p[:, 0], p[:, 1]], 1)[FIVE_MIRROR]
        if shuffled:
            source = shuffle_face(rng, source, p)
        tilt = rng.uniform(-80, 80) if rng.random() < 0.25 else np.clip(rng.normal(0, 20), -60, 60)
        angle = math.radians(float(tilt))
        zoom = face / float(face_size(p))
        stretch = np.diag(np.exp(rng.normal(0, 0.05, 2)))
        shear = np.array([[1.0, rng.normal(0, 0.04)], [0.0, 1.0]])
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        forward = zoom * turn @ shear @ stretch
        middle = p.mean(0)
        back = np.linalg.inv(forward)
        m = np.concatenate([back, (middle - back @ np.array(centre))[:, None]], 1).astype(np.float32)
        half = float(face_size(p)) / 2
        oval = half * rng.uniform(1.05, 2.2) if rng.random() < 0.45 else 0.0
        soft = half * rng.uniform(0.05, 0.5) if rng.random() < 0.5 else 0.0
        gain = rng.uniform(0.55, 1.25) * rng.uniform(0.88, 1.12, 3)
        bias = rng.normal(0, 8) + rng.normal(0, 4, 3)
        _paste(
            canvas, locked, np.ascontiguousarray(source), m, middle.astype(np.float32), oval, soft,
            gain.astype(np.float32), bias.astype(np.float32),
        )  # fmt: skip
        placed: F32 = ((p - middle) @ forward.T + np.array(centre)).astype(np.float32)
        return placed


def share_inside(points: F32, size: int) -> float:
    """Share of a face's box that lies in the picture."""
    x, y, w, h = (float(v) for v in face_box(points))
    inside_x = min(x + w, size) - max(x, 0.0)
    inside_y = min(y + h, size) - max(y, 0.0)
    return max(0.0, inside_x) * max(0.0, inside_y) / (w * h)

"""Pictures with known faces for the detector: portraits pasted anywhere, and everything degraded.

Real portraits are few and alike; what the detector must bear (size, tilt, place, darkness, blur, noise,
clutter, occlusion) is made here from a seed, so a data set never has to be stored. Also made here are
the pictures it must not fire on: textures, drawn cartoon faces, shuffled faces.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numba as nb
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from faceunits.alignment.warp import face_box

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

MIRROR = [1, 0, 2, 4, 3]
"""Mirroring a picture swaps the subject's sides: the new order of the five points."""


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


def face_size(points: NDArray[np.floating]) -> F32:
    """`(...)` pixels: cheek to cheek, about 14 cm; the measure by which grids and tests sort faces."""
    p = np.asarray(points, np.float64)
    across = np.hypot(*np.moveaxis(p[..., 1, :] - p[..., 0, :], -1, 0))
    down = np.hypot(
        *np.moveaxis((p[..., 3, :] + p[..., 4, :] - p[..., 0, :] - p[..., 1, :]) / 2, -1, 0)
    )
    return (2 * np.maximum(1.116 * across, down)).astype(np.float32)


@nb.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
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


@nb.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
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


# --- backgrounds ---------------------------------------------------------------------------------


def noise_field(rng: np.random.Generator, size: int) -> F32:
    """`(size, size, 3)` 0..255: octaves of smooth noise with a random slope, or a plain gradient."""
    out = np.zeros((size, size, 3), np.float32)
    slope = rng.uniform(0.3, 1.2)
    shared = rng.random() < 0.5
    for octave in range(rng.integers(1, 8)):
        n = 2 ** (octave + 1)
        grid = rng.random((n, n, 1 if shared else 3)).astype(np.float32)
        grid = np.broadcast_to(grid, (n, n, 3))
        big = Image.fromarray((grid * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
        out += (np.asarray(big, np.float32) / 255 - 0.5) * slope**octave
    tint = rng.uniform(0.2, 1.0, 3).astype(np.float32)
    base = rng.uniform(0, 255, 3).astype(np.float32)
    return np.clip(base + out * tint * rng.uniform(30, 300), 0, 255).astype(np.float32)


def draw_clutter(rng: np.random.Generator, image: U8) -> U8:
    """Shapes, lines, stripes and letters drawn over a picture."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    size = image.shape[0]
    for _ in range(rng.integers(1, 14)):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        x, y = rng.uniform(-0.2, 1.1, 2) * size
        w, h = np.exp(rng.uniform(math.log(4), math.log(size), 2))
        kind = rng.integers(0, 6)
        if kind == 0:
            draw.rectangle((x, y, x + w, y + h), fill=colour)
        elif kind == 1:
            draw.ellipse((x, y, x + w, y + h), fill=colour)
        elif kind == 2:
            angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 7)))
            corners = [(x + w * math.cos(a), y + h * math.sin(a)) for a in angles]
            draw.polygon(corners, fill=colour)
        elif kind == 3:
            draw.line((x, y, *(rng.uniform(0, 1, 2) * size)), fill=colour, width=int(rng.integers(1, 12)))
        elif kind == 4:
            letters = "".join(chr(c) for c in rng.integers(33, 127, rng.integers(1, 14)))
            draw.text((x, y), letters, fill=colour, font_size=int(rng.integers(8, 60)))
        else:
            step = int(rng.integers(4, 30))
            for k in range(int(w // step) + 1):
                draw.rectangle((x + k * step, y, x + k * step + step // 2, y + h), fill=colour)
    return np.asarray(picture)


def draw_cartoon(rng: np.random.Generator, image: U8) -> tuple[U8, F32]:
    """A drawn face (disc, dots, mouth) or an animal's head, and where its five points would be."""
    size = image.shape[0]
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    r = float(np.exp(rng.uniform(math.log(10), math.log(size * 0.4))))
    x, y = rng.uniform(0, size, 2)

    def colour() -> tuple[int, ...]:
        return tuple(int(c) for c in rng.integers(0, 256, 3))

    if rng.random() < 0.4:  # ears
        ear, fill = r * rng.uniform(0.3, 0.7), colour()
        for side in (-1, 1):
            draw.polygon(
                [(x + side * r, y), (x + side * r * 0.3, y - r), (x + side * r, y - r - ear)], fill=fill
            )
    tall = rng.uniform(0.8, 1.3)
    draw.ellipse((x - r, y - r * tall, x + r, y + r * tall), fill=colour(), outline=colour())
    gap, up, eye = rng.uniform(0.25, 0.5) * r, rng.uniform(0.0, 0.5) * r, rng.uniform(0.06, 0.35) * r
    white, black = colour(), colour()
    for side in (-1, 1):
        ex, ey = x + side * gap, y - up
        draw.ellipse((ex - eye, ey - eye, ex + eye, ey + eye), fill=white)
        draw.ellipse((ex - eye / 2, ey - eye / 2, ex + eye / 2, ey + eye / 2), fill=black)
    nose = rng.uniform(0, 0.3) * r
    ny, my = y + rng.uniform(0, 0.2) * r, y + rng.uniform(0.3, 0.7) * r
    draw.ellipse((x - nose, ny - nose / 2, x + nose, ny + nose / 2), fill=colour())
    mw = rng.uniform(0.2, 0.7) * r
    if rng.random() < 0.5:
        draw.arc((x - mw, my - mw, x + mw, my + mw * 0.6), 10, 170, fill=colour(), width=max(1, int(r / 12)))
    else:
        draw.ellipse((x - mw, my - mw / 3, x + mw, my + mw / 3), fill=colour())
    points = [[x - gap, y - up], [x + gap, y - up], [x, ny], [x - mw, my], [x + mw, my]]
    return np.asarray(picture), np.array(points, np.float32)


def shuffle_face(rng: np.random.Generator, image: U8, points: F32) -> U8:
    """A photo whose face is cut into blocks in a wrong order: skin and parts, but no face."""
    out = image.copy()
    x, y, w, h = face_box(points)
    n = int(rng.integers(2, 5))
    bw, bh = int(w / n), int(h / n)
    places = [
        (int(x) + i * bw, int(y) + j * bh)
        for i in range(n)
        for j in range(n)
        if 0 <= x + i * bw < image.shape[1] - bw and 0 <= y + j * bh < image.shape[0] - bh
    ]
    # Rotating the list leaves no block at home.
    order = rng.permutation(len(places))
    for a, b in zip(order, np.roll(order, 1), strict=True):
        (ax, ay), (bx, by) = places[a], places[b]
        block = image[by : by + bh, bx : bx + bw]
        out[ay : ay + bh, ax : ax + bw] = block[::-1] if rng.random() < 0.5 else block
    return out


# --- degradation ---------------------------------------------------------------------------------


def degrade(rng: np.random.Generator, image: U8) -> U8:
    """What cameras and files do: light, colour, blur, noise, JPEG, grey."""
    x = image.astype(np.float32) / 255
    size = image.shape[0]
    if rng.random() < 0.5:
        x = x ** np.float32(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.5:
        x = (x - 0.5) * np.float32(rng.uniform(0.5, 1.4)) + np.float32(0.5 + rng.normal(0, 0.1))
    if rng.random() < 0.3:
        x = x * rng.uniform(0.7, 1.3, 3).astype(np.float32)
    if rng.random() < 0.25:  # light from one side
        a, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.9)
        t = np.linspace(-1, 1, size, dtype=np.float32)
        ramp = 1 + np.float32(reach) * (np.float32(math.cos(a)) * t + np.float32(math.sin(a)) * t[:, None])
        x = x * np.clip(ramp, 0.1, 2)[..., None]
    if rng.random() < 0.25:  # a dark room
        x = x * np.float32(np.exp(rng.uniform(math.log(0.09), math.log(0.6))))
    if rng.random() < 0.15:
        x = np.broadcast_to((x @ np.array([0.3, 0.59, 0.11], np.float32))[..., None], x.shape)
    picture = Image.fromarray((np.clip(x, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(float(np.exp(rng.uniform(-1.0, 1.1)))))
    if rng.random() < 0.08:  # enlarged from less
        small = max(16, int(size * rng.uniform(0.25, 0.7)))
        picture = picture.resize((small, small), Image.Resampling.BILINEAR).resize((size, size))
    if rng.random() < 0.4:
        # Dark pictures bear less, or nothing is left to see.
        bright = min(1.0, 0.25 + 2 * float(np.mean(x)))
        noise = rng.standard_normal((size, size, 3), np.float32)
        noise *= np.float32(np.exp(rng.uniform(0.5, 3.3)) * bright)
        if rng.random() < 0.3:
            noise = np.broadcast_to(noise[..., :1], noise.shape)
        picture = Image.fromarray(np.clip(np.asarray(picture, np.float32) + noise, 0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(15, 95)))
        picture = Image.open(buffer).convert("RGB")
    return np.asarray(picture)


# --- the composer --------------------------------------------------------------------------------


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
            fake = rng.random() < 0.06
            p = self._paste_one(rng, canvas, locked, face, centre, shuffled=fake)
            locked |= (grid - centre[0]) ** 2 + (grid[:, None] - centre[1]) ** 2 < (0.7 * face) ** 2
            (false_points if fake else points).append(p)
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

    def _place(
        self, rng: np.random.Generator, face: float, taken: list[F32]
    ) -> tuple[float, float] | None:
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
            p = np.stack([source.shape[1] - 1 - p[:, 0], p[:, 1]], 1)[MIRROR]
        if shuffled:
            source = shuffle_face(rng, source, p)
        angle = math.radians(float(np.clip(rng.normal(0, 22), -60, 60)))
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
        return ((p - middle) @ forward.T + np.array(centre)).astype(np.float32)


def share_inside(points: F32, size: int) -> float:
    """Share of a face's box that lies in the picture."""
    x, y, w, h = (float(v) for v in face_box(points))
    inside_x = min(x + w, size) - max(x, 0.0)
    inside_y = min(y + h, size) - max(y, 0.0)
    return max(0.0, inside_x) * max(0.0, inside_y) / (w * h)


def occlude(rng: np.random.Generator, image: U8, points: F32) -> U8:
    """Something before the face: dark or clear glasses, a mask, a cap, a bar, a blob."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    s = float(face_size(points)) / 14.3  # pixels per cm
    right, left, nose, mouth_r, mouth_l = (np.array(p, np.float64) for p in points)
    across = (left - right) / max(1e-6, float(np.hypot(*(left - right))))
    down = np.array([-across[1], across[0]])
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    kind = rng.integers(0, 6)

    def quad(centre: NDArray[np.float64], half_w: float, half_h: float) -> list[tuple[float, float]]:
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        corners = [centre + i * half_w * s * across + j * half_h * s * down for i, j in signs]
        return [(float(c[0]), float(c[1])) for c in corners]

    if kind <= 1:  # glasses
        half_w, half_h = rng.uniform(2.0, 3.2), rng.uniform(1.4, 2.6)
        dark = tuple(int(c) for c in rng.integers(0, 60, 3))
        fill = dark if kind == 0 else None
        for eye in (right, left):
            edge = quad(eye + 0.3 * s * down, half_w, half_h)
            draw.polygon(edge, fill=fill, outline=dark, width=max(1, int(0.25 * s)))
        draw.line((*right, *left), fill=dark, width=max(1, int(0.3 * s)))
    elif kind == 2:  # mask
        draw.polygon(quad((mouth_r + mouth_l + nose) / 3 + 1.2 * s * down, 5.0, 4.2), fill=colour)
    elif kind == 3:  # cap or fringe
        draw.polygon(quad((right + left) / 2 - 6.5 * s * down, 8.0, rng.uniform(2.0, 4.5)), fill=colour)
    else:
        at = points.mean(0) + rng.normal(0, 4.5, 2) * s
        rx, ry = rng.uniform(0.8, 4.0, 2) * s
        box = (at[0] - rx, at[1] - ry, at[0] + rx, at[1] + ry)
        (draw.rectangle if kind == 4 else draw.ellipse)(box, fill=colour)
    return np.asarray(picture)


# --- reading -------------------------------------------------------------------------------------


def read_rgb(path: Path) -> U8:
    """`(H, W, 3)` uint8."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))

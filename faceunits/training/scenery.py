"""Drawn around, over and instead of faces: backgrounds, clutter, cartoons, occluders, bad cameras.

All from a generator, so the same seed draws the same picture.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from faceunits.alignment.warp import face_box, face_size

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


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
